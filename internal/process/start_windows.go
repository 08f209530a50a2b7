package process

import (
	"errors"
	"os"
)

func HasParent() bool { return false }

func RestoreName() {}

const Sentinel = ""

// Windows builds and serves, and an upgrade answers errors.ErrUnsupported before anything here is reached.

const ControlName = "midair-control"

type Child struct {
	PID     int
	Control *os.File
	Ready   chan struct{}
	Exited  chan struct{}
	Status  string
}

func checkExecutable(string) (string, error) { return "", errors.ErrUnsupported }

func Start(Program, []string, []Inherited) (*Child, error) { return nil, errors.ErrUnsupported }

func (c *Child) Signal(os.Signal) {}

func (c *Child) Kill() {}

func (c *Child) Close() {}

func Scrub() {}
