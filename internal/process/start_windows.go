package process

import "errors"

// Windows builds and serves, and an upgrade answers errors.ErrUnsupported before anything here is reached.

func start(Program, []string, []Inherited) (*Child, error) { return nil, errors.ErrUnsupported }

func stdFD(fd uintptr) uintptr { return fd }

func killGroup(int) {}

func mayExecute(string) error { return errors.ErrUnsupported }
