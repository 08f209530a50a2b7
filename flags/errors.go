package flags

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/midair-go/midair/flags/internal/hosted"
)

// The ways in which an evaluation fails. The caller's default is the answer to each of them.
var (
	errNotReady = hosted.ErrNotReady
	errPanic    = hosted.ErrPanic
	errNotFound = errors.New("there is no such flag")
	errType     = errors.New("the flag has another type")
)

// An Error says why a flag file or a flag is not served, in words for the person who has to change that.
type Error struct {
	// Path is the file.
	Path string
	// Key is that of the flag; empty if the error is about the whole file.
	Key string
	// Line is the line in the file, from 1; 0 if the line is not known.
	Line int
	// Reason says what is wrong and where, or what to do.
	Reason string
	// Err is the cause that the system returned, such as fs.ErrNotExist; may be nil.
	Err error
}

// Error names the file, the line, the flag and the reason. Without a file it names the line alone.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("flags: ")
	switch {
	case e.Path != "" && e.Line > 0:
		fmt.Fprintf(&b, "%s:%d: ", e.Path, e.Line)
	case e.Path != "":
		b.WriteString(e.Path + ": ")
	case e.Line > 0:
		fmt.Fprintf(&b, "line %d: ", e.Line)
	}
	if e.Key != "" {
		b.WriteString("flag " + e.Key + ": ")
	}
	b.WriteString(e.Reason)
	return b.String()
}

// text is the error without the path.
func (e *Error) text() string {
	if e.Key != "" {
		return "flag " + e.Key + ": " + e.Reason
	}
	return e.Reason
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// refusal returns why the first Var of those that refuse a value does so. There is such a Var.
func (v *view) refusal(list []value) *Error {
	i := slices.Min(slices.Collect(maps.Keys(v.refused)))
	e := &Error{Key: list[i].parts()[0], Reason: v.refused[i].Error()}
	if bad := (*badValue)(nil); errors.As(v.refused[i], &bad) {
		e.Key = bad.key
	}
	if now := v.entries[e.Key]; now != nil {
		e.Path = now.path
	}
	return e
}

// A Warning is a remark about a flag, for the author of the file.
type Warning struct {
	// Path is the file.
	Path string `json:"path,omitempty"`
	// Key is that of the flag; empty if the warning is about the whole file.
	Key string `json:"key,omitempty"`
	// Line is the line in the file, from 1; 0 if the line is not known.
	Line int `json:"line,omitempty"`
	// Text is the remark.
	Text string `json:"text"`
}

// String returns the warning as one line.
func (w Warning) String() string {
	return (&Error{Path: w.Path, Key: w.Key, Line: w.Line, Reason: w.Text}).Error()
}
