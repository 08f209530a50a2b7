package handoff

import "os"

// CanPass reports whether connections can be passed by their descriptors on this platform.
const CanPass = canPass

// Slots is memory that two processes share. It has a word (a slot) for each connection that the old process has passed to the
// candidate. The candidate writes the state of the connection into the word. If the candidate dies, the words show which
// connections the old process can take back.
//
// The first word belongs to no connection. It has the number of the present turn, or 0 if there is none (see turn).
type Slots struct {
	// File is the file of the memory, which the candidate maps too. It is nil if the file belongs to another process.
	File *os.File
	mem  []byte
}

// NewSlots makes the memory. The caller calls Close when no connection uses the memory any more. NewSlots returns
// errors.ErrUnsupported on platforms other than Linux.
func NewSlots() (*Slots, error) { return newSlots() }

// Close unmaps the memory of NewSlots, and closes the file. After Close no connection must use the memory.
func (s *Slots) Close() { s.unmap() }
