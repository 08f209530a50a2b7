package session_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/session"
	"github.com/midair-go/midair/session/sessiontest"
)

// Memory keeps all promises of a Store, within its process.
func TestMemoryKeepsThePromisesOfAStore(t *testing.T) {
	sessiontest.Run(t, func(*testing.T) session.Store { return session.Memory() })
}

// Expired records do not stay in the memory of a process that goes on.
func TestMemoryForgetsExpiredRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := session.Memory()
		for i := range 1000 {
			life := time.Minute
			if i%10 == 0 {
				life = time.Hour
			}
			add(t, store, fmt.Sprint("id ", i), life)
		}
		time.Sleep(2 * time.Minute)
		for range 300 {
			wantAbsent(t, store, "nobody")
		}
		if n := session.MemoryLen(store); n != 100 {
			t.Errorf("%d records, want the 100 live ones", n)
		}
		for i := range 100_000 { // each lives for the time of some calls
			add(t, store, fmt.Sprint("new ", i), time.Millisecond)
			time.Sleep(time.Millisecond)
		}
		if n := session.MemoryLen(store); n > 200 {
			t.Errorf("%d records", n)
		}
	})
}

// The new process of an upgrade does not have the sessions in the memory of the old one, so it is not ready.
func TestMemoryRefusesAnUpgrade(t *testing.T) {
	before := session.NewManager(session.Memory(), session.Options{})
	if err := before.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	state, err := before.Keys().MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	after := session.NewManager(session.Memory(), session.Options{})
	if err := after.Keys().UnmarshalBinary(state); err != nil {
		t.Fatal(err)
	}
	if err := after.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "session.Dir") {
		t.Errorf("Ready = %v", err)
	}
	shared := session.NewManager(session.Dir(t.TempDir()), session.Options{})
	if err := shared.Keys().UnmarshalBinary(state); err != nil {
		t.Fatal(err)
	}
	if err := shared.Ready(t.Context()); err != nil {
		t.Errorf("Ready = %v", err)
	}
}
