package flags

import (
	"crypto/sha256"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/midair-go/midair/flags/internal/flagd"
	"github.com/midair-go/midair/internal/follow"
)

// maxSize is the number of bytes that a flag file has at most.
const maxSize = 16 << 20

// A source is a flag file, or Options.Defaults. It belongs to the goroutine that holds the lock of its store.
type source struct {
	path string       // "Options.Defaults" for those
	file *follow.File // nil for Options.Defaults
	weak bool         // a provider outranks its flags

	content []byte // the last good content; nil if there was none
	sum     [sha256.Size]byte
	doc     *flagd.Document // the content, compiled
	from    string          // the file that the content was read from
	loaded  time.Time       // when
	kept    bool            // by another generation

	flags  map[string]*flagd.Flag // what is served: from doc, or an earlier definition of a flag that is refused
	faults map[string]*Error      // the flags of doc that are refused

	err *Error // why the file is not what is served; nil if it is
}

// look reads the file, if it has changed. It reports whether the content is new.
func (src *source) look(always bool) (content []byte, fresh bool, err *Error) {
	if src.file == nil {
		return nil, false, nil
	}
	content, fresh, cause := src.file.Look(always)
	if errors.Is(cause, follow.ErrWriting) && src.doc != nil {
		return nil, false, src.err // the next look will tell
	}
	if cause != nil {
		return nil, false, problemOf(src.path, cause)
	}
	if !fresh {
		return nil, false, src.err
	}
	return content, true, nil
}

// problemOf makes an Error from what is wrong with a file, with advice.
func problemOf(path string, cause error) *Error {
	e := &Error{Path: path, Reason: cause.Error(), Err: cause}
	if found := (*follow.Error)(nil); errors.As(cause, &found) {
		e.Reason, e.Err = found.Reason, found.Err
	}
	if errors.Is(cause, fs.ErrNotExist) {
		e.Reason += `: create it, {"flags": {}} is enough`
	}
	return e
}

// take serves a content if it can be read. It reports whether that is a new content. In place of a flag that is refused, the
// definition that was served before stays.
func (src *source) take(content []byte, opts flagd.Options) (fresh bool, err *Error) {
	sum := sha256.Sum256(content)
	if src.doc != nil && src.sum == sum {
		return false, nil
	}
	doc, cause := flagd.Parse(content, opts)
	if cause != nil {
		return false, &Error{Path: src.path, Reason: cause.Error()}
	}
	before := src.flags
	src.content, src.sum, src.doc = content, sum, doc
	src.flags, src.faults = doc.Flags, make(map[string]*Error, len(doc.Faults))
	for key, fl := range src.flags {
		if old := before[key]; old != nil && old.Same(fl) {
			src.flags[key] = old
		}
	}
	for _, note := range doc.Faults {
		src.faults[note.Key] = &Error{Path: src.path, Key: note.Key, Line: note.Line, Reason: note.Text}
		if old := before[note.Key]; old != nil {
			src.flags[note.Key] = old
		}
	}
	return true, nil
}

// inherit serves definitions of another generation in place of refused flags without an earlier definition.
func (src *source) inherit(flags map[string]*flagd.Flag) {
	for key := range src.faults {
		if src.flags[key] == nil && flags[key] != nil {
			src.flags[key] = flags[key]
		}
	}
}

// another compiles what another generation has read from the same file. The result is nil if the content is the present content,
// or cannot be read.
func (src *source) another(content []byte, opts flagd.Options) map[string]*flagd.Flag {
	if src.doc == nil || len(content) == 0 || sha256.Sum256(content) == src.sum {
		return nil
	}
	doc, err := flagd.Parse(content, opts)
	if err != nil {
		return nil
	}
	return doc.Flags
}

// fault returns why the first refused flag is refused, or nil.
func (src *source) fault() *Error {
	if len(src.faults) == 0 {
		return nil
	}
	return src.faults[slices.Min(slices.Collect(maps.Keys(src.faults)))]
}

// faultList returns the refused flags, in order.
func (src *source) faultList() (all []Warning) {
	for _, key := range slices.Sorted(maps.Keys(src.faults)) {
		e := src.faults[key]
		text := "refused: " + e.Reason
		if src.flags[key] != nil {
			text += "; its last good definition is served"
		}
		all = append(all, Warning{Path: src.path, Key: key, Line: e.Line, Text: text})
	}
	return all
}
