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

// Queue sends nothing here.
func Queue(*os.File, Kind, any, ...*os.File) error { return errors.ErrUnsupported }
