package follow

import (
	"errors"
	"time"
)

// A Set is at least one file. The files belong together, such as a certificate and its key.
type Set []*File

// Look is as Look of one File, for all files of the set: if one of the contents may be new, Look returns all contents, in the
// order of the set. All of these contents were in their files at the same time: if one of the files changes while they are
// read, the error is [ErrWriting]. The error names the first file with a problem. A File of a set must not be looked at alone.
func (s Set) Look(always bool) (contents [][]byte, fresh bool, err error) {
	contents, err = s.look(always)
	again := s[0].writing
	s[0].writing = false
	if err == nil {
		return contents, contents != nil, nil
	}
	for _, f := range s {
		f.last = sight{}
	}
	if errors.Is(err, ErrWriting) {
		s[0].writing = true
		if failed := (*Error)(nil); again && errors.As(err, &failed) {
			failed.Err = nil
		}
	}
	return nil, false, err
}

// look returns nil if no content is new.
func (s Set) look(always bool) ([][]byte, error) {
	changed, due, err := s.check()
	if err != nil || !changed && !due && !always {
		return nil, err
	}
	if !changed { // most probably the contents are the same too, and are not needed in memory
		_, seen, err := s.read(false)
		if err != nil {
			return nil, err
		}
		if s.haveSeen(seen) {
			s.keep(seen)
			return nil, nil
		}
	}
	contents, seen, err := s.read(true)
	if err != nil {
		return nil, err
	}
	if s.haveSeen(seen) {
		contents = nil
	}
	s.keep(seen)
	return contents, nil
}

// check compares the stamps. changed means that a stamp is another one, or that there was no sight before; due means that the
// stamps are not believed any more.
func (s Set) check() (changed, due bool, err error) {
	now := time.Now()
	for _, f := range s {
		info, err := f.stat()
		if err != nil {
			return false, false, err
		}
		changed = changed || !f.last.has(info)
		due = due || !now.Before(f.last.due)
	}
	return changed, due, nil
}

// haveSeen reports whether the last good look has seen the same contents.
func (s Set) haveSeen(seen []sight) bool {
	for i, f := range s {
		if f.last.info == nil || f.last.sum != seen[i].sum {
			return false
		}
	}
	return true
}

// keep makes the sights those of the last good look.
func (s Set) keep(seen []sight) {
	for i, f := range s {
		f.last = seen[i]
	}
}

// read reads all files. The contents are nil, unless they are wanted.
func (s Set) read(wanted bool) ([][]byte, []sight, error) {
	contents, seen := make([][]byte, len(s)), make([]sight, len(s))
	for i, f := range s {
		var err error
		if contents[i], seen[i], err = f.read(wanted); err != nil {
			return nil, nil, err
		}
	}
	return contents, seen, s.stayed(seen)
}

// stayed returns ErrWriting if one of the files is not the one any more that was read. A single file was read whole, so a new
// file in its place is a matter of the next look.
func (s Set) stayed(seen []sight) error {
	if len(s) == 1 {
		return nil
	}
	for i, f := range s {
		info, err := f.stat()
		if err != nil {
			return err
		}
		if !seen[i].has(info) {
			return beingWritten(f.Path)
		}
	}
	return nil
}
