//go:build !linux

package upgrade

import (
	"errors"
	"os"
	"sync/atomic"
)

// slots is shared memory, which is used on Linux only.
type slots struct{ file *os.File }

const slotCount = 0

const canPass = false

func newSlots() (*slots, error) { return nil, errors.ErrUnsupported }

func mapSlots(*os.File) (*slots, error) { return nil, errors.ErrUnsupported }

func (s *slots) at(int) *atomic.Uint32 { return nil }

func (s *slots) close() {}
