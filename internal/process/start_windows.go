package process

import (
	"errors"
	"os"
)

// Windows builds and serves, and an upgrade answers errors.ErrUnsupported before anything here is reached.

func start(Program, []string, []Inherited, func(*os.File) error) (*Child, error) {
	return nil, errors.ErrUnsupported
}

func stdFD(fd uintptr) uintptr { return fd }

func killGroup(int) {}

func mayExecute(string) error { return errors.ErrUnsupported }
