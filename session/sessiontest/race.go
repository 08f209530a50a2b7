package sessiontest

import (
	"errors"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/midair-go/midair/session"
)

const (
	racers = 8
	rounds = 25
)

// together runs fn in several goroutines, which begin at the same time, and waits for all of them.
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

// increment adds one to the number in a record, however often it takes.
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

// swapUntilDeleted increments a record until it is not there any more. It counts what it has done.
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
