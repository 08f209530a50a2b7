package sessiontest

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/midair-go/midair/session"
)

// prolong checks that Touch and Swap move the end of a record, and not only what Load says of it.
func (s suite) prolong() {
	ways := map[string]func(id string, rev uint64, expires time.Time) error{
		"Touch": func(id string, _ uint64, expires time.Time) error { return s.store.Touch(s.Context(), id, expires) },
		"Swap": func(id string, rev uint64, expires time.Time) error {
			_, err := s.store.Swap(s.Context(), id, rev, []byte("data"), expires)
			return err
		},
	}
	for what, prolong := range ways {
		for life := 100 * time.Millisecond; ; life *= 2 { // a slow machine may come too late
			id := what + life.String()
			first := time.Now().Add(life)
			err := prolong(id, s.create(id, "data", first), later())
			if errors.Is(err, session.ErrNotFound) && !time.Now().Before(first) && life < 10*time.Second {
				continue
			}
			s.wantError(what, err, nil)
			<-time.After(time.Until(first) + late)
			for _, view := range s.views {
				if _, err := view.Load(s.Context(), id); err != nil {
					s.Fatalf("Load after the first expiry of a record that %s has prolonged = %v", what, err)
				}
			}
			break
		}
	}
}

// raceTouch lets some move the expiry of a record while it is deleted.
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

// raceWhole loads a long record that others replace.
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

// secret checks that a store which keeps the secret of cookies keeps one for all.
func (s suite) secret() {
	var first []byte
	for range 2 {
		for _, view := range s.views {
			k, ok := view.(interface {
				Secret(context.Context) ([]byte, error)
			})
			if !ok {
				continue
			}
			secret, err := k.Secret(s.Context())
			s.wantError("Secret", err, nil)
			if first == nil {
				first = secret
			}
			if len(secret) < 32 || !bytes.Equal(secret, first) {
				s.Fatalf("Secret returns another one, or too short a one")
			}
		}
	}
}
