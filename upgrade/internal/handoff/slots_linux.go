package handoff

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"github.com/midair-go/midair/internal/sys"
	"golang.org/x/sys/unix"
)

const slotCount = 64 << 10

const canPass = true

func newSlots() (*Slots, error) {
	f, err := sys.MemFile("midair-slots")
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(slotCount * 4); err != nil {
		f.Close()
		return nil, fmt.Errorf("shared memory: %w", err)
	}
	s, err := mapSlots(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	s.File = f
	return s, nil
}

// mapSlots maps the file f of this or another process. The caller may close the file afterwards, because the memory stays
// mapped.
func mapSlots(f *os.File) (*Slots, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() != slotCount*4 {
		return nil, fmt.Errorf("shared memory of %d bytes, want %d", info.Size(), slotCount*4)
	}
	mem, err := unix.Mmap(int(sys.FD(f)), 0, slotCount*4, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("shared memory: %w", err)
	}
	return &Slots{mem: mem}, nil
}

// at returns the word of a slot. It returns nil if there is no such slot.
func (s *Slots) at(slot int) *atomic.Uint32 {
	if s == nil || slot <= 0 || slot >= slotCount {
		return nil
	}
	return s.word(slot)
}

// turn returns the word with the number of the present turn. It returns nil after Close.
func (s *Slots) turn() *atomic.Uint32 {
	if s == nil || s.mem == nil {
		return nil
	}
	return s.word(0)
}

// word returns a word of the memory. The pointer is valid: the memory begins at a page boundary and is mapped until Close, and
// no caller uses a word after Close. The memory of a Sharing is never unmapped.
func (s *Slots) word(n int) *atomic.Uint32 { return (*atomic.Uint32)(unsafe.Pointer(&s.mem[4*n])) }

func (s *Slots) unmap() {
	if s != nil && s.File != nil {
		s.File.Close()
		_ = unix.Munmap(s.mem)
		s.File, s.mem = nil, nil
	}
}
