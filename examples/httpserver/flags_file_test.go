package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// numbered returns the good content with a number. Every variant names the number, so each answer says from which content it
// comes. All contents have the same size, and dark-mode is the same for a visitor in all of them.
func numbered(n int) string {
	return fmt.Sprintf(`{"flags": {
  "cart-v2": {"state": "ENABLED", "variants": {"share-%03[1]d": 0.5%03[1]d}, "defaultVariant": "share-%03[1]d"},
  "banner": {"state": "ENABLED", "variants": {"welcome-%03[1]d": "Welcome %03[1]d"}, "defaultVariant": "welcome-%03[1]d"},
  "limits": {"state": "ENABLED", "variants": {"normal-%03[1]d": {"items": 50}}, "defaultVariant": "normal-%03[1]d"},
  "dark-mode": {
    "state": "ENABLED", "variants": {"on-%03[1]d": true, "off-%03[1]d": false}, "defaultVariant": "off-%03[1]d",
    "targeting": {"fractional": [["on-%03[1]d", 50], ["off-%03[1]d", 50]]}
  }
}}
`, n)
}

// shareOf returns the value of cart-v2 in the content with a number.
func shareOf(n int) float64 { return float64(5000+n) / 10000 }

// Times of this test are counted in ticks of 10 ms: a machine that stands still for a moment stops the count too.
const (
	tick = 10 * time.Millisecond
	// noticing is within which time a process has to notice a change of the file: 1.2 s, and a margin for a busy machine.
	noticing = 120 + 30
)

// editions is the list of the good contents that the flag file has had, with their times.
type editions struct {
	now atomic.Int64 // in ticks

	mu  sync.Mutex
	all []edition
}

// edition is a good content. from is the tick before its first byte was written. to is the last tick at which a request may
// begin that gets it; 0 for the present content.
type edition struct{ from, to int64 }

// startEditions counts ticks until the end of the test. Number 1 is the first content.
func startEditions(t *testing.T) *editions {
	e := &editions{all: []edition{{}, {}}}
	e.now.Store(1)
	ending, ended := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(ending); <-ended })
	go func() {
		defer close(ended)
		each := time.NewTicker(tick)
		defer each.Stop()
		for {
			select {
			case <-ending:
				return
			case <-each.C:
				e.now.Add(1)
			}
		}
	}()
	return e
}

// last returns the number of the present content.
func (e *editions) last() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.all) - 1
}

// begin is called before the next content is written, and returns its number.
func (e *editions) begin() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, edition{from: e.now.Load()})
	return len(e.all) - 1
}

// written is called when the content has been written. The previous content is allowed for as long as a process may take to
// notice.
func (e *editions) written() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all[len(e.all)-2].to = e.now.Load() + noticing
}

// settled is called when every process has noticed the last content.
func (e *editions) settled() {
	e.mu.Lock()
	defer e.mu.Unlock()
	before := &e.all[len(e.all)-2]
	before.to = min(before.to, e.now.Load())
}

// allows reports whether a request between two ticks may get the content n.
func (e *editions) allows(n int, start, end int64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n < 1 || n >= len(e.all) {
		return false
	}
	of := e.all[n]
	return of.from <= end && (of.to == 0 || start <= of.to)
}

// flagDisk is the flag file, as its writers treat it. Its methods end the test if a fault cannot be planted.
type flagDisk struct {
	*editions
	t      *testing.T
	path   string
	rnd    *rand.Rand
	broken string   // the kind of the present fault; empty: the file is good
	writer *os.File // has written the first half
}

// epoch is the time of modification of all files that are renamed.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// breakages are the ways in which the file gets bad, with a part of the reason that the service gives.
var breakages = map[string]string{
	"deleted":             "no such file",
	"corrupted":           "JSON",
	"half-written":        "ends in the middle",
	"truncated":           "empty",
	"link to a directory": "regular file",
}

// renewals are the ways in which the file gets another content, or the present one again. After sameLooks, size and time of the
// file are as before.
var (
	renewals = []string{"renamed, same size and time", "link swapped", "rewritten in place with the mtime put back",
		"slow writer", "written in place"}
	sameLooks = renewals[:3]
)

func (d *flagDisk) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

// spoil makes the file bad.
func (d *flagDisk) spoil(kind string) {
	d.t.Helper()
	if d.broken == kind {
		d.renew(renewals[0]) // so that there is something to spoil
	}
	d.hangUp()
	d.broken = kind
	text := numbered(d.last())
	switch kind {
	case "deleted":
		d.must(os.Remove(d.path))
	case "corrupted":
		d.must(d.place(strings.Replace(text, ": {", ": [", 1)))
	case "half-written":
		d.half(text)
	case "truncated":
		d.must(d.place(""))
	case "link to a directory":
		d.must(d.link(filepath.Dir(d.path)))
	}
}

// renew writes the present content again.
func (d *flagDisk) renew(way string) {
	d.t.Helper()
	d.write(way, numbered(d.last()))
}

// change writes the next content.
func (d *flagDisk) change(way string) {
	d.t.Helper()
	d.hangUp()
	d.write(way, numbered(d.begin()))
	d.written()
}

func (d *flagDisk) write(way, text string) {
	d.t.Helper()
	if way != "slow writer" {
		d.hangUp()
	}
	switch way {
	case "renamed, same size and time":
		next := d.path + ".next"
		d.must(errors.Join(writeOld(next, text), os.Rename(next, d.path)))
	case "link swapped":
		dir, err := os.MkdirTemp(filepath.Dir(d.path), "release")
		target := filepath.Join(dir, "flags.json")
		d.must(errors.Join(err, writeOld(target, text), d.link(target)))
	case "rewritten in place with the mtime put back":
		d.must(d.rewrite(text))
	case "slow writer":
		if d.writer == nil {
			d.half(text)
			d.pause(20 * time.Millisecond)
		}
		_, err := d.writer.WriteString(text[len(text)/2:])
		d.must(err)
		d.hangUp()
	case "written in place":
		d.must(d.place(text))
	}
	d.broken = ""
}

// writeOld writes a file with the time of all releases.
func writeOld(path, text string) error {
	return errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chtimes(path, epoch, epoch))
}

// place empties the file and writes it again.
func (d *flagDisk) place(text string) error {
	d.makeWay()
	return os.WriteFile(d.path, []byte(text), 0o600)
}

// rewrite gives the file another content, and then the time of modification from before. It does not empty the file: the size
// is never another one, unless the file was bad.
func (d *flagDisk) rewrite(text string) error {
	d.makeWay()
	modified := epoch
	if info, err := os.Stat(d.path); err == nil {
		modified = info.ModTime()
	}
	f, err := os.OpenFile(d.path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(text), 0)
	err = errors.Join(err, f.Truncate(int64(len(text))), f.Close())
	return errors.Join(err, os.Chtimes(d.path, time.Time{}, modified))
}

// makeWay removes a link to a directory.
func (d *flagDisk) makeWay() {
	if info, err := os.Stat(d.path); err == nil && info.IsDir() {
		d.must(os.Remove(d.path))
	}
}

// half writes the first half of a text, and keeps the file open for the second.
func (d *flagDisk) half(text string) {
	d.t.Helper()
	d.makeWay()
	f, err := os.OpenFile(d.path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	d.must(err)
	d.writer = f
	_, err = f.WriteString(text[:len(text)/2])
	d.must(err)
}

// hangUp ends a slow writer where it is.
func (d *flagDisk) hangUp() {
	if d.writer != nil {
		d.writer.Close()
		d.writer = nil
	}
}

// link makes the path a link to the target, in one step.
func (d *flagDisk) link(target string) error {
	next := d.path + ".next"
	return errors.Join(os.Symlink(target, next), os.Rename(next, d.path))
}

// pause lets a random time pass, to meet a random moment.
func (d *flagDisk) pause(most time.Duration) {
	sleep(d.t.Context(), time.Duration(d.rnd.Int64N(int64(most)))) // ends early with the test
}
