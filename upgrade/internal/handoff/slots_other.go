//go:build !linux

package handoff

import (
	"errors"
	"os"
	"sync/atomic"
)

const slotCount = 0

const canPass = false

func newSlots() (*Slots, error) { return nil, errors.ErrUnsupported }

func mapSlots(*os.File) (*Slots, error) { return nil, errors.ErrUnsupported }

func (s *Slots) at(int) *atomic.Uint32 { return nil }

func (s *Slots) turn() *atomic.Uint32 { return nil }

func (s *Slots) unmap() {}
