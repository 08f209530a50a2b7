//go:build !linux

package process

import (
	"errors"
	"os"
)

// PIDFD returns a descriptor of the process, which is there on Linux only.
func (c *Child) PIDFD() (*os.File, error) { return nil, errors.ErrUnsupported }
