package handoff

import "os"

// CanPass says that connections are passed by their descriptors here.
const CanPass = canPass

// Slots is memory that two processes share: a word for each connection that the old process has passed to the candidate.
// The candidate writes what becomes of the connection, so that the old process knows, whenever the candidate dies, which
// connections nobody has read from.
type Slots struct {
	// File is what the candidate maps too.
	File *os.File
	mem  []byte
}

// NewSlots makes the memory. Close it when no connection uses it any more. errors.ErrUnsupported: not on this platform.
func NewSlots() (*Slots, error) { return newSlots() }

// Close gives the memory up. No connection may use it any more.
func (s *Slots) Close() { s.unmap() }
