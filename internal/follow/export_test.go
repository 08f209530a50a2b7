package follow

import (
	"hash/maphash"
	"os"
	"time"
)

// The times after which a File believes a stamp, and after which it reads the content although the stamp is the same.
const (
	Settle  = settle
	RestMin = restMin
	RestMax = restMax
)

// Rest is the time until the next read, after a read that took the given time.
func Rest(took time.Duration) time.Duration { return rest(took) }

// Believes reports whether a Look now would not read the content.
func (f *File) Believes() bool {
	changed, due, err := Set{f}.check()
	return !changed && !due && err == nil
}

// Read reads the file without a look at its type before.
func (f *File) Read() error {
	_, _, err := f.read(true)
	return err
}

// ReadWhile reads the file, and calls change when the file is open.
func (f *File) ReadWhile(change func()) error {
	file, err := os.Open(f.Path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	change()
	_, _, err = f.readFrom(file, info, true)
	return err
}

// ReadWhile reads the files, and calls change when they have been read.
func (s Set) ReadWhile(change func()) error {
	_, seen, err := s.read(true)
	if err != nil {
		return err
	}
	change()
	return s.stayed(seen)
}

// SameStamp reports whether the path has the stamp that the last good look has seen.
func (f *File) SameStamp() bool {
	info, err := f.stat()
	return err == nil && f.last.has(info)
}

// Pretend makes the last good look one that has seen another content with the same stamp: as if the content had changed since
// then, and nothing of the stamp.
func (f *File) Pretend(content string) { f.last.sum = maphash.String(seed, content) }

// BelieveUntil lets the looks believe the stamp until a time.
func (f *File) BelieveUntil(at time.Time) { f.last.due = at }
