package follow

import (
	"errors"
	"io/fs"
)

// ErrWriting means that a file changed while it was read, so its content may be half old and half new. The next look will tell.
// A caller that has good content can therefore ignore ErrWriting. If the next look fails in the same way, its error has the
// same text, but errors.Is does not report ErrWriting for it: a file that is never at rest is an error for every caller.
var ErrWriting = errors.New("follow: the file changed while it was read")

// An Error describes what is wrong with a file, for the person who has to change the file.
type Error struct {
	// Path is the path of the file, as in File.Path.
	Path string
	// Reason is what is wrong with the file, and often what to do. It does not contain the path.
	Reason string
	// Err is the cause, such as fs.ErrNotExist, fs.ErrPermission or ErrWriting; may be nil.
	Err error
}

// Error returns the path and the reason.
func (e *Error) Error() string { return e.Path + ": " + e.Reason }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// beingWritten makes an Error with ErrWriting as its cause.
func beingWritten(path string) *Error {
	return &Error{Path: path, Reason: "it changes while it is read: somebody is writing it", Err: ErrWriting}
}

// unreadable makes an Error from an error of the file system.
func unreadable(path string, err error) *Error {
	reason := err.Error()
	if failed := (*fs.PathError)(nil); errors.As(err, &failed) {
		reason = failed.Err.Error()
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		reason = "there is no such file"
	case errors.Is(err, fs.ErrPermission):
		reason = "it may not be read by this process: change its permissions"
	}
	return &Error{Path: path, Reason: reason, Err: err}
}
