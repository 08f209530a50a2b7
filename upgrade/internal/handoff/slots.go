package handoff

import "os"

// CanPass reports whether connections can be passed by their descriptors on this platform.
const CanPass = canPass

// Slots is memory of two processes: a word for each connection that the old process has passed to the candidate. The candidate
// writes the state of the connection into the word. So the old process knows, whenever the candidate dies, which connections
// the candidate has not read from.
type Slots struct {
	// File is what the candidate maps too.
	File *os.File
	mem  []byte
}

// NewSlots makes the memory. The caller closes it after the last use by a connection. errors.ErrUnsupported: not on this
// platform.
func NewSlots() (*Slots, error) { return newSlots() }

// Close gives the memory up. No connection may use the memory any more.
func (s *Slots) Close() { s.unmap() }
