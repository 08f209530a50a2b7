// Package sessiontest checks that a [session.Store] keeps what the interface promises.
//
//	func TestStore(t *testing.T) {
//		sessiontest.Run(t, func(t *testing.T) session.Store { return session.Dir(t.TempDir()) })
//	}
//
// [Run] checks a store from one process, and [RunTwo] from two at the same time.
//
// # Goroutines
//
// Checks of races call the store from several goroutines at once. All of them have ended when Run or RunTwo returns, and so
// has the other process.
package sessiontest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/midair-go/midair/session"
)

// Run makes each check in a subtest, with a store of its own from open.
func Run(t *testing.T, open func(t *testing.T) session.Store) {
	for _, c := range checks {
		t.Run(c.promise, func(t *testing.T) {
			store := open(t)
			c.check(suite{T: t, store: store, views: []session.Store{store}})
		})
	}
}

var checks = []struct {
	promise string
	check   func(suite)
}{
	{"LoadReturnsWhatCreateStored", suite.createAndLoad},
	{"CreateRefusesAnExistingId", suite.createTwice},
	{"WhatIsNotThereIsNotFound", suite.absent},
	{"SwapNeedsTheRevision", suite.swap},
	{"TouchChangesTheExpiryAlone", suite.touch},
	{"DeletedIsGone", suite.remove},
	{"ARevisionNeverComesBack", suite.revisions},
	{"ExpiredIsNotThere", suite.expire},
	{"AnyIdAndAnyDataWillDo", suite.oddities},
	{"EveryByteComesBack", suite.everyByte},
	{"AnyExpiryWillDo", suite.times},
	{"NoRevisionOutlivesAnExpiry", suite.reuse},
	{"DataBelongsToTheCaller", suite.ownership},
	{"AnEndedContextDoesNothing", suite.ended},
	{"ALateContextDoesNothing", suite.overdue},
	{"ManyRecordsHavePlace", suite.crowd},
	{"ALifeIsProlonged", suite.prolong},
	{"TheSecretStays", suite.secret},
	{"OneCreateWins", suite.raceCreate},
	{"OneCreateReplacesAnExpiredRecord", suite.raceExpired},
	{"ExpiryIsTheSameForAll", suite.raceExpiry},
	{"NoSwapIsLost", suite.raceSwap},
	{"NoSwapBringsADeletedRecordBack", suite.raceDelete},
	{"NoTouchBringsADeletedRecordBack", suite.raceTouch},
	{"ALoadIsOfOneWrite", suite.raceWhole},
}

// A suite is a check with the store to be checked.
type suite struct {
	*testing.T
	store session.Store
	views []session.Store // all that must see the same
}

// later returns an expiry that no test reaches.
func later() time.Time { return time.Now().Add(time.Hour) }

func (s suite) create(id, data string, expires time.Time) uint64 {
	s.Helper()
	rev, err := s.store.Create(s.Context(), id, []byte(data), expires)
	if err != nil {
		s.Fatalf("Create(%.20q) = %v", id, err)
	}
	return rev
}

// want checks the data, the revision and the expiry of a record.
func (s suite) want(id, data string, rev uint64, expires time.Time) {
	s.Helper()
	for _, view := range s.views {
		rec, err := view.Load(s.Context(), id)
		if err != nil {
			s.Fatalf("Load(%.20q) = %v", id, err)
		}
		s.wantRecord(rec, id, data, rev, expires)
	}
}

func (s suite) wantRecord(rec session.Record, id, data string, rev uint64, expires time.Time) {
	s.Helper()
	if !bytes.Equal(rec.Data, []byte(data)) || rec.Rev != rev {
		s.Fatalf("Load(%.20q) = %.40q at revision %d, want %.40q at %d", id, rec.Data, rec.Rev, data, rev)
	}
	if off := rec.Expires.Sub(expires).Abs(); off > time.Millisecond {
		s.Fatalf("Load(%.20q): expiry is off by %v", id, off)
	}
}

// wantNone checks that no operation finds the record.
func (s suite) wantNone(id string, rev uint64) {
	s.Helper()
	for _, view := range s.views {
		_, err := view.Load(s.Context(), id)
		s.wantError("Load", err, session.ErrNotFound)
		_, err = view.Swap(s.Context(), id, rev, []byte("new"), later())
		s.wantError("Swap", err, session.ErrNotFound)
		s.wantError("Touch", view.Touch(s.Context(), id, later()), session.ErrNotFound)
		_, err = view.Load(s.Context(), id)
		s.wantError("Load after Swap and Touch", err, session.ErrNotFound)
	}
}

func (s suite) wantError(what string, err, target error) {
	s.Helper()
	if !errors.Is(err, target) {
		s.Fatalf("%s = %v, want %v", what, err, target)
	}
}

func (s suite) createAndLoad() {
	expires := later()
	rev := s.create("a", "data", expires)
	s.want("a", "data", rev, expires)
	s.create("b", "other", expires)
	s.want("a", "data", rev, expires)
}

func (s suite) createTwice() {
	expires := later()
	rev := s.create("a", "first", expires)
	_, err := s.store.Create(s.Context(), "a", []byte("second"), expires.Add(time.Hour))
	s.wantError("second Create", err, session.ErrConflict)
	s.want("a", "first", rev, expires)
}

func (s suite) absent() {
	s.wantNone("nobody", 0)
	s.wantNone("nobody", 1)
	if err := s.store.Delete(s.Context(), "nobody"); err != nil {
		s.Fatalf("Delete of what is not there = %v", err)
	}
}

func (s suite) swap() {
	expires := later().Add(time.Hour)
	first := s.create("a", "one", expires)
	s.want("a", "one", first, expires)
	second, err := s.store.Swap(s.Context(), "a", first, []byte("two"), expires)
	s.wantError("Swap", err, nil)
	if second == first {
		s.Fatalf("Swap kept revision %d", first)
	}
	s.want("a", "two", second, expires)
	for _, rev := range []uint64{first, second + 1, 0} {
		_, err = s.store.Swap(s.Context(), "a", rev, []byte("three"), later())
		s.wantError("Swap at another revision", err, session.ErrConflict)
	}
	s.want("a", "two", second, expires)
}

func (s suite) touch() {
	rev := s.create("a", "data", later())
	for _, expires := range []time.Time{later().Add(time.Hour), later().Add(-time.Minute)} {
		s.wantError("Touch", s.store.Touch(s.Context(), "a", expires), nil)
		s.want("a", "data", rev, expires)
	}
	_, err := s.store.Swap(s.Context(), "a", rev, []byte("next"), later())
	s.wantError("Swap at the revision from before Touch", err, nil)
}

func (s suite) remove() {
	other := later()
	rev := s.create("a", "data", other)
	kept := s.create("b", "kept", other)
	s.want("a", "data", rev, other)
	for range 2 {
		s.wantError("Delete", s.store.Delete(s.Context(), "a"), nil)
		s.wantNone("a", rev)
	}
	s.want("b", "kept", kept, other)
	expires := later()
	s.want("a", "again", s.create("a", "again", expires), expires)
}

func (s suite) revisions() {
	seen := map[uint64]bool{}
	note := func(rev uint64) {
		s.Helper()
		if seen[rev] {
			s.Fatalf("revision %d came back", rev)
		}
		seen[rev] = true
	}
	for range 5 {
		rev := s.create("a", "data", later())
		note(rev)
		for range 3 {
			next, err := s.store.Swap(s.Context(), "a", rev, []byte("data"), later())
			s.wantError("Swap", err, nil)
			note(next)
			rev = next
		}
		s.wantError("Delete", s.store.Delete(s.Context(), "a"), nil)
	}
}

func (s suite) expire() {
	past := time.Now().Add(-time.Hour)
	s.wantNone("created", s.create("created", "data", past))

	rev := s.create("swapped", "data", later())
	next, err := s.store.Swap(s.Context(), "swapped", rev, []byte("data"), past)
	s.wantError("Swap", err, nil)
	s.wantNone("swapped", next)

	rev = s.create("touched", "data", later())
	s.wantError("Touch", s.store.Touch(s.Context(), "touched", past), nil)
	s.wantNone("touched", rev)
	expires := later()
	again := s.create("touched", "again", expires)
	s.want("touched", "again", again, expires)
	if again == rev {
		s.Fatalf("revision %d came back after the expiry", rev)
	}
	s.soon()
}

// soon checks that a record ends by itself.
func (s suite) soon() {
	const life = 100 * time.Millisecond
	s.create("soon", "data", time.Now().Add(life))
	deadline := time.After(100 * life)
	for {
		_, err := s.store.Load(s.Context(), "soon")
		if errors.Is(err, session.ErrNotFound) {
			return
		}
		s.wantError("Load", err, nil)
		select {
		case <-deadline:
			s.Fatalf("a record with %v to live is there after %v", life, 100*life)
		case <-time.After(life / 10):
		}
	}
}

func (s suite) oddities() {
	long := string(bytes.Repeat([]byte("0123456789"), 1000))
	expires := later()
	revs := map[string]uint64{}
	ids := []string{"", ".", "..", "../a", "/etc/passwd", "a", "A", "a/b", "a\x00b", "ä\xff", "lock", long, long + "1"}
	for _, id := range ids {
		revs[id] = s.create(id, "data\x00\xff of "+id, expires)
	}
	for _, id := range ids {
		s.want(id, "data\x00\xff of "+id, revs[id], expires)
	}
	for _, size := range []int{0, 1, 1 << 20} {
		id := fmt.Sprint("size ", size)
		data := string(make([]byte, size))
		s.want(id, data, s.create(id, data, expires), expires)
	}
}

func (s suite) ownership() {
	expires := later()
	data := []byte("mine")
	rev, err := s.store.Create(s.Context(), "a", data, expires)
	s.wantError("Create", err, nil)
	copy(data, "XXXX")
	s.want("a", "mine", rev, expires)
	rec, err := s.store.Load(s.Context(), "a")
	s.wantError("Load", err, nil)
	copy(rec.Data, "YYYY")
	s.want("a", "mine", rev, expires)
	data = []byte("next")
	rev, err = s.store.Swap(s.Context(), "a", rev, data, expires)
	s.wantError("Swap", err, nil)
	copy(data, "ZZZZ")
	s.want("a", "next", rev, expires)
}

func (s suite) ended() {
	expires := later()
	rev := s.create("a", "data", expires)
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	_, err := s.store.Create(ctx, "b", []byte("data"), expires)
	s.wantError("Create", err, context.Canceled)
	_, err = s.store.Load(ctx, "a")
	s.wantError("Load", err, context.Canceled)
	_, err = s.store.Swap(ctx, "a", rev, []byte("new"), expires)
	s.wantError("Swap", err, context.Canceled)
	s.wantError("Touch", s.store.Touch(ctx, "a", expires.Add(time.Hour)), context.Canceled)
	s.wantError("Delete", s.store.Delete(ctx, "a"), context.Canceled)
	s.want("a", "data", rev, expires)
	s.wantNone("b", rev)
}
