package wire

import (
	"errors"
	"os"
)

// NewSocket closes the file: there are no control sockets here.
func NewSocket(file *os.File) (Transport, error) {
	file.Close()
	return nil, errors.ErrUnsupported
}

// Queue sends a message at once and whole, or not at all, by a descriptor of the control socket, for a peer that does not run
// yet. The descriptor stays the caller's.
func Queue(*os.File, Kind, any, ...*os.File) error { return errors.ErrUnsupported }
