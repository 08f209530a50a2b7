package process

import (
	"errors"
	"os"
)

// On Windows programs compile and serve, but cannot be upgraded. An upgrade returns errors.ErrUnsupported before it calls any
// of these functions.

func start(Program, []string, []Inherited, func(*os.File) error) (*Child, error) {
	return nil, errors.ErrUnsupported
}

func stdFD(fd uintptr) uintptr { return fd }

func killGroup(int) {}

func mayExecute(string) error { return errors.ErrUnsupported }
