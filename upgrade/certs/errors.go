package certs

import "errors"

// ErrNoCertificate means that there is no certificate to serve and never was: handshakes fail. An [Error] from Ready is
// ErrNoCertificate then.
var ErrNoCertificate = errors.New("certs: no certificate to serve")

// An Error says why the pair of files is not served, in words for the person who has to change the files.
type Error struct {
	// Path is the file.
	Path string
	// Reason tells what is wrong, or what to do.
	Reason string
	// Err is the cause where the system gave one, such as fs.ErrNotExist; may be nil.
	Err error

	none bool // nothing else is served instead
}

// Error names the file and the reason.
func (e *Error) Error() string { return "certs: " + e.text() }

func (e *Error) text() string { return e.Path + ": " + e.Reason }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is ErrNoCertificate and nothing is served.
func (e *Error) Is(target error) bool { return e.none && target == ErrNoCertificate }
