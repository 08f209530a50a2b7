package handoff

import "os"

// CanPass reports whether connections can be passed by their descriptors on this platform.
const CanPass = canPass

// Slots is memory that two processes share: a word for each connection that the old process has passed to the candidate. The
// candidate writes the state of the connection into the word. So whenever the candidate dies, the old process knows which
// connections the candidate has not read from.
type Slots struct {
	// File is the file of the memory. The candidate maps this file too.
	File *os.File
	mem  []byte
}

// NewSlots makes the memory. The caller calls Close when no connection uses the memory any more. NewSlots returns
// errors.ErrUnsupported on platforms other than Linux.
func NewSlots() (*Slots, error) { return newSlots() }

// Close unmaps the memory of NewSlots, and closes the file. After Close no connection must use the memory.
func (s *Slots) Close() { s.unmap() }
