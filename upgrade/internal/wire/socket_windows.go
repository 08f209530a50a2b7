package wire

import (
	"errors"
	"os"
)

// NewSocket closes the file and returns an error: there are no control sockets on Windows.
func NewSocket(file *os.File) (Transport, error) {
	file.Close()
	return nil, errors.ErrUnsupported
}

// Queue returns an error: there are no control sockets on Windows.
func Queue(*os.File, Kind, any, []int) error { return errors.ErrUnsupported }
