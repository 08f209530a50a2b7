package flags_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/midair-go/midair/flags"
)

// Whatever happens to the file, what is good is served, and what is not leaves the last good values. Each row is a
// sequence of events; after each, the poller looks once.
func TestFileEvents(t *testing.T) {
	type step struct {
		do   func(t *testing.T, path string)
		want string // the variant that is served
		why  string // part of the status; empty: ready
	}
	put := func(content string) func(*testing.T, string) {
		return func(t *testing.T, path string) { write(t, path, content) }
	}
	over := func(content string) func(*testing.T, string) {
		return func(t *testing.T, path string) { replace(t, path, content) }
	}
	remove := func(t *testing.T, path string) { check(t, os.Remove(path)) }
	away := func(t *testing.T, path string) { check(t, os.Rename(path, path+".old")) }
	back := func(t *testing.T, path string) { check(t, os.Rename(path+".old", path)) }
	mkdir := func(t *testing.T, path string) { check(t, os.Mkdir(path, 0o755)) }
	link := func(t *testing.T, path string) {
		write(t, path+".2", file("on"))
		remove(t, path)
		check(t, os.Symlink(path+".2", path))
	}
	both := func(first, second func(*testing.T, string)) func(*testing.T, string) {
		return func(t *testing.T, path string) { first(t, path); second(t, path) }
	}
	half := file("on")[:len(file("on"))/2]
	for name, steps := range map[string][]step{
		"written in place": {
			{put(file("on")), "on", ""},
		},
		"renamed over": {
			{over(file("on")), "on", ""},
		},
		"renamed over twice between two looks": {
			{both(over(file("on")), over(file("off"))), "off", ""},
			{over(file("on")), "on", ""},
		},
		"moved away, then new": {
			{away, "off", "no such file"},
			{put(file("on")), "on", ""},
		},
		"moved away and back": {
			{away, "off", "no such file"},
			{back, "off", ""},
		},
		"truncated": {
			{put(""), "off", "empty"},
			{put(file("on")), "on", ""},
		},
		"only space": {
			{put(" \n\t"), "off", "empty"},
			{put(file("on")), "on", ""},
		},
		"half written": {
			{put(half), "off", "ends in the middle"},
			{put(file("on")), "on", ""},
			{over(file("off")), "off", ""},
		},
		"garbage": {
			{put("garbage"), "off", "not valid JSON near line 1"},
			{over(file("on")), "on", ""},
		},
		"removed": {
			{remove, "off", "no such file"},
			{put(file("on")), "on", ""},
		},
		"a directory": {
			{both(remove, mkdir), "off", "not a regular file"},
			{both(remove, put(file("on"))), "on", ""},
		},
		"bad default": {
			{put(file("purple")), "off", "purple"},
			{put(file("on")), "on", ""},
		},
		"one bad flag of two": {
			{put(strings.Replace(file("on"), `"flags": {`, `"flags": {"bad": {"state": "ON"},`, 1)), "on", "flag bad: variants"},
			{put(file("on")), "on", ""},
		},
		"flag removed": {
			{put(`{"flags": {}}`), "default", ""},
			{put(file("on")), "on", ""},
		},
		"bad in several ways": {
			{put("{"), "off", "middle"},
			{put("["), "off", "middle"},
			{put("3"), "off", "object"},
			{remove, "off", "no such file"},
			{put(file("on")), "on", ""},
		},
		"broken, then as it was": {
			{put("{"), "off", "middle"},
			{put(file("off")), "off", ""},
		},
		"too large": {
			{func(t *testing.T, p string) { check(t, os.Truncate(p, flags.MaxSize+1)) }, "off", "more than"},
			{put(file("on")), "on", ""},
		},
		"a link to another place": {
			{link, "on", ""},
			{func(t *testing.T, p string) { check(t, os.Remove(p+".2")) }, "on", "no such file"},
			{func(t *testing.T, p string) { write(t, p+".2", file("off")) }, "off", ""},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, path := served(t, file("off"), flags.Options{})
			for i, s := range steps {
				s.do(t, path)
				f.Check()
				if got := cart(f); got != s.want {
					t.Errorf("step %d: %s is served, want %s", i, got, s.want)
				}
				if err := f.Ready(context.Background()); err != nil {
					t.Errorf("step %d: not ready: %v", i, err)
				}
				state := f.Status().State
				if s.why == "" && state != "ready" || s.why != "" && (!strings.HasPrefix(state, "stale: ") || !strings.Contains(state, s.why)) {
					t.Errorf("step %d: state %q, want %q", i, state, s.why)
				}
			}
		})
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A release directory is switched by its link: with the old one kept, and with the old one removed as kubelet does it.
func TestSymlinkSwapOfDirectoryIsSeen(t *testing.T) {
	for _, keep := range []bool{true, false} {
		dir := t.TempDir()
		for name, variant := range map[string]string{"1": "off", "2": "on"} {
			check(t, os.Mkdir(filepath.Join(dir, name), 0o755))
			write(t, filepath.Join(dir, name, "flags.json"), file(variant))
		}
		link := filepath.Join(dir, "current")
		check(t, os.Symlink("1", link))
		f := open(t, filepath.Join(link, "flags.json"), flags.Options{})
		mustBe(t, "before", cart(f), "off")
		check(t, os.Symlink("2", link+".new"))
		check(t, os.Rename(link+".new", link))
		if !keep {
			check(t, os.RemoveAll(filepath.Join(dir, "1")))
		}
		f.Check()
		mustBe(t, "after", cart(f), "on")
		mustBe(t, "the state", f.Status().State, "ready")
	}
}

// A file that may not be read leaves the last good values and says what to do.
func TestUnreadableFileLeavesLastGood(t *testing.T) {
	if os.Getuid() == 0 || runtime.GOOS == "windows" {
		t.Skip("root may read everything")
	}
	f, path := served(t, file("on"), flags.Options{})
	check(t, os.Chmod(path, 0))
	write(t, path+".x", "")
	f.Check()
	mustBe(t, "the flag", cart(f), "on")
	mustHold(t, f.Status().State, "stale: ", "change its permissions")
}

// A file that is missing or broken when it is opened is no error of Open: defaults are served, Ready says what is wrong
// and what to do, and the file is served when it is there.
func TestOpenOfBadFileIsState(t *testing.T) {
	for content, part := range map[string]string{"": "create it", "{": "ends in the middle", `{"flags": 3}`: `"flags" must be an object`} {
		path := filepath.Join(t.TempDir(), "flags.json")
		if content != "" {
			write(t, path, content)
		}
		f := open(t, path, flags.Options{})
		err := f.Ready(context.Background())
		var bad *flags.Error
		if !errors.As(err, &bad) || bad.Path != path || errors.Is(err, fs.ErrNotExist) != (content == "") {
			t.Fatalf("%q: %v", content, err)
		}
		mustHold(t, err.Error(), "flags: "+path, part)
		mustBe(t, "the flag", cart(f), "default")
		mustBe(t, "its value", f.Bool(context.Background(), "cart", true), true)
		mustHold(t, f.Status().State, "not ready: ", part)
		write(t, path, file("on"))
		check(t, f.Ready(context.Background())) // looks again
		mustBe(t, "the flag", cart(f), "on")
	}
}

// Ready of a context that has ended says so, unless there is nothing to wait for.
func TestReadyHeedsContext(t *testing.T) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	f := open(t, filepath.Join(t.TempDir(), "none.json"), flags.Options{})
	if err := f.Ready(ended); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	check(t, serve(t, file("on")).Ready(ended))
}

// Each change is one line in the log, and each refusal is, however often the poller sees it.
func TestLogTellsChangesAndRefusalsOnce(t *testing.T) {
	var j journal
	f, path := served(t, file("off"), flags.Options{Logger: j.logger()})
	look := func(content string) {
		write(t, path, content)
		for range 3 {
			f.Check()
		}
	}
	look(file("on"))
	look("{")
	look(`{"flags": {"cart": {}}}`)
	look(file("on"))
	look(file("off"))
	lines := j.lines()
	if len(lines) != 8 {
		t.Fatalf("%d lines: %q", len(lines), lines)
	}
	for i, parts := range [][]string{
		{"INFO", "flags: loaded", path, "changed=cart", "version="},
		{"INFO", "flags: loaded", "changed=cart"},
		{"WARN", "the last good values stay", "middle"},
		{"INFO", "flags: loaded", `changed=""`}, // the flag is refused, and stays what it was
		{"WARN", "variants must hold", "last good definition is served", "key=cart"},
		{"WARN", "the flag has no state", "key=cart"},
		{"INFO", "flags: loaded", `changed=""`},
		{"INFO", "flags: loaded", "changed=cart"},
	} {
		mustHold(t, lines[i], parts...)
	}
	s := f.Status()
	mustBe(t, "loads", s.Loads, 5)
	mustBe(t, "refusals", s.Refusals, 2)
}

// The log names what changed, and not everything when that is much.
func TestLogNamesChangedFlags(t *testing.T) {
	flag := func(key, on string) string {
		return `"` + key + `": {"state": "ENABLED", "variants": {"on": ` + on + `}, "defaultVariant": "on", "targeting": {"if": [{"$ref": "e"}, "on"]}}`
	}
	content := func(e string, flags ...string) string {
		return `{"$evaluators": {"e": ` + e + `}, "flags": {` + strings.Join(flags, ",") + `}}`
	}
	var j journal
	f, path := served(t, content("true", flag("a", "1"), flag("b", "2"), flag("c", "3")), flags.Options{Logger: j.logger()})
	last := func(content string) string {
		write(t, path, content)
		f.Check()
		lines := j.lines()
		return lines[len(lines)-1]
	}
	mustHold(t, last(content("true", flag("b", "2"), flag("c", "4"), flag("d", "5"))), `changed="a c d"`)
	mustHold(t, last(content("false", flag("b", "2"), flag("c", "4"), flag("d", "5"))), `changed="b c d"`)
	var many []string
	for _, key := range strings.Split("abcdefghijklmnop", "") {
		many = append(many, flag("x"+key, "1"))
	}
	mustHold(t, last(content("false", many...)), "and 9 more")
	mustHold(t, last(strings.Replace(content("false", many...), "{", `{"metadata": {"version": "7"},`, 1)), "and 6 more")
}

// Evaluations go on while the file changes, and each sees the whole of one file.
func TestEvaluationsDuringReloads(t *testing.T) {
	content := func(v string) string { // both flags say the same in every file
		return strings.ReplaceAll(`{"flags": {"a": {"state": "ENABLED", "variants": {"x": "@"}, "defaultVariant": "x", "metadata": {"v": "@"}},
			"w": {"state": "ENABLED", "variants": {"x": 0.@}, "defaultVariant": "x"}}}`, "@", v)
	}
	f, path := served(t, content("1"), flags.Options{})
	h, weight := f.StringFlag("a", "default"), f.Weight("w", 0)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				d := h.Details(context.Background())
				if d.Value != "1" && d.Value != "2" || d.FlagMetadata["v"] != d.Value {
					t.Errorf("torn: %+v", d)
					return
				}
				if w := weight(); w != 0.1 && w != 0.2 {
					t.Errorf("weight %v", w)
					return
				}
				f.Status()
				runtime.Gosched()
			}
		})
	}
	for i := range 200 {
		replace(t, path, content([]string{"1", "2", "{"}[i%3]))
		f.Check()
	}
	close(stop)
	readers.Wait()
	mustBe(t, "errors of evaluations", f.Status().EvaluationErrors, 0)
}

// A relative path stays what it was when the program changes its directory.
func TestRelativePathSurvivesChdir(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "flags.json")
	t.Chdir(dir)
	write(t, path, file("off"))
	f := open(t, "flags.json", flags.Options{})
	t.Chdir(t.TempDir())
	replace(t, path, file("on"))
	f.Check()
	mustBe(t, "the flag", cart(f), "on")
}

// Options that make no sense are errors that name the field; the zero value works.
func TestOpenRefusesOptionsWithoutSense(t *testing.T) {
	side := func(context.Context) string { return "" }
	for part, opts := range map[string]flags.Options{
		"Options.Poll":                     {Poll: -1},
		`Options.Attributes[""]`:           {Attributes: map[string]func(context.Context) string{"": side}},
		`Options.Attributes["x"]`:          {Attributes: map[string]func(context.Context) string{"x": nil}},
		`Options.Attributes["$flagd.x"]`:   {Attributes: map[string]func(context.Context) string{"$flagd.x": side}},
		`Options.Attributes["targetingKey`: {Attributes: map[string]func(context.Context) string{"targetingKey": side}},
	} {
		f, err := flags.Open("x", opts)
		if err == nil || f != nil {
			t.Fatalf("%s: taken", part)
		}
		mustHold(t, err.Error(), "flags: ", part)
	}
	if _, err := flags.Open("", flags.Options{}); err == nil {
		t.Error("no path: taken")
	}
	f, err := flags.Open(filepath.Join(t.TempDir(), "none"), flags.Options{Logger: slog.New(slog.DiscardHandler)})
	check(t, err)
	check(t, f.Close())
}

// Handles, weights and getters of many goroutines may be asked for while the file changes.
func TestHandlesMayBeMadeDuringReloads(t *testing.T) {
	f, path := served(t, number("0.1"), flags.Options{})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 200 {
				if w := f.Weight("w", 0)(); w != 0.1 && w != 0.2 {
					t.Errorf("weight %v", w)
				}
				if v := f.FloatFlag("w", 0).Get(context.Background()); v != 0.1 && v != 0.2 {
					t.Errorf("value %v", v)
				}
			}
		})
	}
	for i := range 50 {
		replace(t, path, number([]string{"0.1", "0.2"}[i%2]))
		f.Check()
	}
	all.Wait()
}
