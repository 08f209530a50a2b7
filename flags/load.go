package flags

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"
)

// settle is how old a change must be for the file's size and time to be believed: what changes twice within the
// granularity of the clock of a file system looks as if it had changed once. Until then the content decides.
const settle = 2 * time.Second

// errWriting means that the file changed while it was read.
var errWriting = errors.New("it changes while it is read: somebody is writing it")

// check looks at the file and takes what is new.
func (f *Flags) check() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.look()
	for p := range f.providers {
		p.tell(f.state())
	}
}

func (f *Flags) look() {
	info, err := os.Stat(f.path)
	if err == nil && f.seen != nil && unchanged(f.seen, info) && time.Since(info.ModTime()) > settle {
		return
	}
	f.seen = nil
	content, info, err := read(f.path)
	if err == errWriting && f.cur.Load() != nil && !f.writing {
		f.writing = true
		return // the next look will tell
	}
	f.writing = false
	if err != nil {
		f.refuse(&Error{Path: f.path, Reason: advice(f.path, err), Err: err})
		return
	}
	f.seen = info
	f.offer(content)
}

func unchanged(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// read returns what is in the file and what the file was like, all the time that it was read.
func read(path string) ([]byte, os.FileInfo, error) {
	info, err := os.Stat(path) // before it is opened: opening a pipe would wait
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("it is not a regular file: %w", fs.ErrInvalid)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	if info, err = file.Stat(); err != nil {
		return nil, nil, err
	}
	if info.Size() > maxSize {
		return nil, nil, fmt.Errorf("it has %d bytes, more than %d", info.Size(), maxSize)
	}
	content, err := io.ReadAll(io.LimitReader(file, maxSize+1))
	if err != nil {
		return nil, nil, err
	}
	after, err := file.Stat()
	if err == nil && (!unchanged(info, after) || after.Size() != int64(len(content))) {
		err = errWriting
	}
	return content, info, err
}

// advice says what to do about an error of the file system.
func advice(path string, err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return `there is no such file: create it, {"flags": {}} is enough`
	case errors.Is(err, fs.ErrPermission):
		return "it may not be read by this process: change its permissions"
	}
	return strings.TrimPrefix(err.Error(), "open "+path+": ")
}

// offer takes the content of the file if it is good.
func (f *Flags) offer(content []byte) {
	s, bad := compile(content, f.path, f.opts.Attributes)
	if bad != nil {
		f.refuse(bad)
		return
	}
	s.loaded = time.Now()
	f.take(s)
}

// take makes s what is served.
func (f *Flags) take(s *snapshot) {
	before := f.cur.Load()
	again := f.err != nil
	f.err = nil
	if before != nil && before.sum == s.sum {
		f.recovered(before, s, again)
		return
	}
	keys := changed(before, s)
	f.cur.Store(s)
	f.loads++
	for _, slot := range f.slots {
		f.fill(slot)
	}
	f.opts.Logger.Info("flags: loaded", "path", s.from, "version", s.version(), "flags", len(s.flags), "changed", short(keys))
	for p := range f.providers {
		p.changed(keys)
	}
}

// recovered handles a file that holds what is served already.
func (f *Flags) recovered(before, s *snapshot, again bool) {
	if before.kept && !s.kept {
		f.cur.Store(s)
	}
	if again {
		f.opts.Logger.Info("flags: the file is good again, nothing changed", "path", f.path, "version", s.version())
	}
}

// refuse keeps what is served and says why, once.
func (f *Flags) refuse(err *Error) {
	known := f.err != nil && f.err.Error() == err.Error()
	f.err = err
	if known {
		return
	}
	f.refusals++
	message := "flags: no values yet, callers get their defaults"
	if f.cur.Load() != nil {
		message = "flags: file refused, the last good values stay"
	}
	f.opts.Logger.Warn(message, "path", err.Path, "key", err.Key, "reason", err.Reason)
}

// short lists the first keys.
func short(keys []string) string {
	const most = 10
	if len(keys) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(keys[:most], " "), len(keys)-most)
	}
	return strings.Join(keys, " ")
}
