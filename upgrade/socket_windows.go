package upgrade

import (
	"errors"
	"os"
)

func newSocket(file *os.File) (wire, error) {
	file.Close()
	return nil, errors.ErrUnsupported
}
