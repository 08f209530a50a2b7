package flags

import "strings"

// An Error says why a flag file is not served, in words for the person who has to change that.
type Error struct {
	// Path is the file.
	Path string
	// Key is the flag that is wrong; empty if it is the file as a whole.
	Key string
	// Reason tells what is wrong and where, or what to do.
	Reason string
	// Err is the cause where the system gave one, such as fs.ErrNotExist; may be nil.
	Err error
}

// Error names the file, the flag and the reason.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("flags: " + e.Path + ": ")
	if e.Key != "" {
		b.WriteString("flag " + e.Key + ": ")
	}
	b.WriteString(e.Reason)
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
