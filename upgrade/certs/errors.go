package certs

import "errors"

// ErrNoCertificate means that no certificate has been loaded yet, so handshakes fail. As long as this is so, Ready returns an
// [Error] for which errors.Is reports ErrNoCertificate.
var ErrNoCertificate = errors.New("certs: no certificate to serve")

// An Error describes what is wrong with one of the two files, for the person who has to change the files.
type Error struct {
	// Path is the path of the file.
	Path string
	// Reason is what is wrong with the file, or what to do.
	Reason string
	// Err is the error that caused this one, such as fs.ErrNotExist; may be nil.
	Err error

	none bool // no certificate is served
}

// Error returns the file and the reason.
func (e *Error) Error() string { return "certs: " + e.text() }

func (e *Error) text() string { return e.Path + ": " + e.Reason }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is ErrNoCertificate and no certificate is served.
func (e *Error) Is(target error) bool { return e.none && target == ErrNoCertificate }
