package handoff

import (
	"fmt"
	"net"
	"os"
	"testing"

	"github.com/midair-go/midair/internal/sys"
)

// If no slot is free, or the candidate has ended, no connection is passed. The connection stays, and no slot stays in use.
func TestPassingNeedsASlotAndACandidate(t *testing.T) {
	e := newExchange(t, nil)
	_, server := e.conn()
	e.dispatcher.SetWeight(1)
	for slot := 1; slot < slotCount; slot++ {
		e.dispatcher.slots.at(slot).Store(slotActive)
	}
	if e.dispatch(server) {
		t.Error("it is passed without a slot")
	}
	e.dispatcher.slots.at(7).Store(slotFree)
	e.parent.Close()
	if e.dispatch(server) || e.dispatcher.slots.at(7).Load() != slotFree {
		t.Error("it is passed to nobody, or a slot is used up")
	}
	if err := server.(*net.TCPConn).SetNoDelay(true); err != nil {
		t.Errorf("it is closed: %v", err)
	}
}

// Slots are used in turn, so that a late write for an ended connection does not change the slot of another connection.
func TestSlotsAreUsedInTurn(t *testing.T) {
	e := newExchange(t, nil)
	_, first := e.pass()
	first.Close()
	e.dispatcher.Sweep()
	_, second := e.pass()
	e.dispatcher.next = slotCount - 1
	_, third := e.pass()
	if a, b, c := first.about.Slot, second.about.Slot, third.about.Slot; a != 1 || b != 2 || c != 1 {
		t.Errorf("slots %d, %d, %d", a, b, c)
	}
}

// A file that does not have the size of Slots is refused. There is no slot 0 and no slot after the end.
func TestForeignMemoryIsRefused(t *testing.T) {
	f, err := sys.MemFile("midair-test")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if s, err := NewSharing(f); err == nil || err.Error() != fmt.Sprintf("shared memory of 0 bytes, want %d", slotCount*4) {
		t.Errorf("%v, %v", s, err)
	}
	closed, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	if s, err := NewSharing(closed); err == nil {
		t.Errorf("a closed file: %v", s)
	}
	s, err := NewSlots()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.at(0) != nil || s.at(-1) != nil || s.at(slotCount) != nil || s.at(1) == nil || s.at(slotCount-1) == nil {
		t.Error("the slots are not those from 1 to the last")
	}
	var none *Slots
	if none.Close(); none.at(1) != nil {
		t.Error("no memory has a slot")
	}
}

// The methods of a nil Sharing do nothing. A connection without a slot cannot be taken back.
func TestNobodyKeepsWhatHasNoSlot(t *testing.T) {
	var none *Sharing
	if none.End(); none.Refuse(1) {
		t.Error("a connection is kept by nobody")
	}
	if e := newExchange(t, nil); e.sharing.Refuse(0) || e.sharing.Refuse(slotCount) {
		t.Error("a connection without a slot is kept")
	}
}
