package sessiontest

import (
	"bytes"
	"errors"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/midair-go/midair/session"
)

const (
	racers = 8
	rounds = 25
)

// together runs fn in several goroutines, which begin at the same time, and waits for all goroutines.
func together(fn func(n int)) {
	var all sync.WaitGroup
	begin := make(chan struct{})
	for n := range racers {
		all.Go(func() {
			<-begin
			fn(n)
		})
	}
	close(begin)
	all.Wait()
}

func (s suite) raceCreate() {
	for round := range rounds {
		id := "id " + strconv.Itoa(round)
		expires := later()
		var won atomic.Int32
		var winner, rev atomic.Uint64
		together(func(n int) {
			r, err := s.store.Create(s.Context(), id, []byte(strconv.Itoa(n)), expires)
			if err == nil {
				won.Add(1)
				winner.Store(uint64(n))
				rev.Store(r)
			} else if !errors.Is(err, session.ErrConflict) {
				s.Errorf("Create = %v", err)
			}
		})
		if n := won.Load(); n != 1 {
			s.Fatalf("%d of %d created the same record", n, racers)
		}
		s.want(id, strconv.FormatUint(winner.Load(), 10), rev.Load(), expires)
	}
}

// raceSwap counts by compare-and-swap, while the expiry is moved all the time.
func (s suite) raceSwap() {
	s.create("count", "0", later())
	together(func(n int) {
		for range rounds {
			if n == 0 {
				if err := s.store.Touch(s.Context(), "count", later()); err != nil {
					s.Errorf("Touch = %v", err)
				}
			} else if err := s.increment("count"); err != nil {
				s.Errorf("increment: %v", err)
				return
			}
		}
	})
	rec, err := s.store.Load(s.Context(), "count")
	s.wantError("Load", err, nil)
	if want := strconv.Itoa((racers - 1) * rounds); string(rec.Data) != want {
		s.Fatalf("counted %s, want %s", rec.Data, want)
	}
}

// increment adds 1 to the number in a record, and tries again after each conflict.
func (s suite) increment(id string) error {
	for {
		rec, err := s.store.Load(s.Context(), id)
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(string(rec.Data))
		if err != nil {
			return err
		}
		_, err = s.store.Swap(s.Context(), id, rec.Rev, []byte(strconv.Itoa(n+1)), later())
		if !errors.Is(err, session.ErrConflict) {
			return err
		}
	}
}

func (s suite) raceDelete() {
	for round := range rounds {
		id := "id " + strconv.Itoa(round)
		rev := s.create(id, "0", later())
		var swapped atomic.Int32
		var deleted atomic.Bool
		together(func(n int) {
			if n > 0 {
				s.swapUntilDeleted(id, &swapped, &deleted)
				return
			}
			for swapped.Load() == 0 { // in the middle of the others' work
				runtime.Gosched()
			}
			if err := s.store.Delete(s.Context(), id); err != nil {
				s.Errorf("Delete = %v", err)
			}
			deleted.Store(true)
		})
		s.wantNone(id, rev)
	}
}

// swapUntilDeleted increments a record until the record is gone. swapped grows with each increment, and once at the end.
func (s suite) swapUntilDeleted(id string, swapped *atomic.Int32, deleted *atomic.Bool) {
	defer swapped.Add(1)
	for {
		late := deleted.Load()
		err := s.increment(id)
		switch {
		case errors.Is(err, session.ErrNotFound):
			return
		case err != nil:
			s.Errorf("increment: %v", err)
			return
		case late:
			s.Errorf("the deleted record was there")
			return
		}
		swapped.Add(1)
	}
}

// late is how long after the expiry a record may still be found: an engine has a clock of its own, and counts milliseconds.
const late = 20 * time.Millisecond

// raceExpiry lets goroutines load, swap and replace a record while the record expires.
func (s suite) raceExpiry() {
	for round := range 3 {
		id := "id " + strconv.Itoa(round)
		expires := time.Now().Add(100 * time.Millisecond)
		s.create(id, "old", expires)
		var created atomic.Int32
		goesOn := func() bool { // a slow engine replaces the record later
			over := time.Since(expires)
			return over < 2*late || created.Load() == 0 && over < patience && !s.Failed()
		}
		together(func(n int) {
			for goesOn() {
				if n%2 == 0 {
					s.use(id, expires)
				} else if s.replace(id, expires) {
					created.Add(1)
				}
			}
		})
		if n := created.Load(); n != 1 {
			s.Fatalf("%d created a record in place of the expired one", n)
		}
		rec, err := s.store.Load(s.Context(), id)
		s.wantError("Load", err, nil)
		if string(rec.Data) != "new" {
			s.Fatalf("the record is %q", rec.Data)
		}
	}
}

// use loads and swaps the old record, which has to be there until the expiry and not longer.
func (s suite) use(id string, expires time.Time) {
	begin := time.Now()
	rec, err := s.store.Load(s.Context(), id)
	if end := time.Now(); errors.Is(err, session.ErrNotFound) && end.Before(expires.Add(-time.Millisecond)) {
		s.Errorf("Load found nothing %v before the expiry", expires.Sub(end))
	}
	if err == nil && string(rec.Data) == "old" {
		s.wantInTime("Load", begin, expires)
		begin = time.Now()
		if _, err = s.store.Swap(s.Context(), id, rec.Rev, rec.Data, expires); err == nil {
			s.wantInTime("Swap", begin, expires)
		}
	}
	if err != nil && !errors.Is(err, session.ErrNotFound) && !errors.Is(err, session.ErrConflict) {
		s.Errorf("Load and Swap: %v", err)
	}
}

func (s suite) wantInTime(what string, begin, expires time.Time) {
	if begin.After(expires.Add(late)) {
		s.Errorf("%s found the record %v after its expiry", what, begin.Sub(expires))
	}
}

// replace creates a record in place of the old record, which has to be expired, and reports whether a record was created.
func (s suite) replace(id string, expires time.Time) bool {
	_, err := s.store.Create(s.Context(), id, []byte("new"), later())
	switch end := time.Now(); {
	case errors.Is(err, session.ErrConflict):
		return false
	case err != nil:
		s.Errorf("Create = %v", err)
		return false
	case end.Before(expires.Add(-time.Millisecond)):
		s.Errorf("Create replaced a record %v before its expiry", expires.Sub(end))
	}
	return true
}

// raceExpired lets all goroutines create a record in place of an expired record.
func (s suite) raceExpired() {
	for round := range rounds {
		id := "id " + strconv.Itoa(round)
		s.create(id, "old", time.Now().Add(-time.Second))
		var won atomic.Int32
		together(func(int) {
			_, err := s.store.Create(s.Context(), id, []byte("new"), later())
			if err == nil {
				won.Add(1)
			} else if !errors.Is(err, session.ErrConflict) {
				s.Errorf("Create = %v", err)
			}
		})
		if n := won.Load(); n != 1 {
			s.Fatalf("%d of %d created the record in place of an expired one", n, racers)
		}
	}
}

// raceTouch lets goroutines move the expiry of a record while another goroutine deletes the record.
func (s suite) raceTouch() {
	for round := range rounds {
		id := "id " + strconv.Itoa(round)
		rev := s.create(id, "data", later())
		var touched atomic.Int32
		together(func(n int) {
			if n == 0 {
				for touched.Load() == 0 { // in the middle of the others' work
					runtime.Gosched()
				}
				if err := s.store.Delete(s.Context(), id); err != nil {
					s.Errorf("Delete = %v", err)
				}
				return
			}
			defer touched.Add(1)
			for end := time.Now().Add(20 * time.Second); time.Now().Before(end); touched.Add(1) {
				err := s.store.Touch(s.Context(), id, later())
				if errors.Is(err, session.ErrNotFound) {
					return
				}
				if err != nil {
					s.Errorf("Touch = %v", err)
					return
				}
			}
			s.Errorf("the deleted record is there")
		})
		s.wantNone(id, rev)
	}
}

// raceWhole lets goroutines load a long record while others replace the record.
func (s suite) raceWhole() {
	fill := func(n int) []byte { return bytes.Repeat([]byte{'a' + byte(n%26)}, 4_000) }
	s.create("long", string(fill(0)), later())
	var done atomic.Bool
	together(func(n int) {
		if n > 1 {
			for !done.Load() {
				rec, err := s.store.Load(s.Context(), "long")
				if err != nil || len(rec.Data) != 4_000 || bytes.Count(rec.Data, rec.Data[:1]) != len(rec.Data) {
					s.Errorf("Load = %d bytes of more than one write, or %v", len(rec.Data), err)
					return
				}
			}
			return
		}
		defer done.Store(true)
		for i := range rounds {
			rec, err := s.store.Load(s.Context(), "long")
			if err == nil {
				_, err = s.store.Swap(s.Context(), "long", rec.Rev, fill(n*13+i), later())
			}
			if err != nil && !errors.Is(err, session.ErrConflict) {
				s.Errorf("Load and Swap: %v", err)
			}
		}
	})
}
