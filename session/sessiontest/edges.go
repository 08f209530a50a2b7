package sessiontest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/midair-go/midair/session"
)

// many is how many records a store holds in a check.
const many = 1000

// bytesOfAllValues is a text with each byte value, twice in different neighbourhoods.
func bytesOfAllValues() string {
	var b strings.Builder
	for i := range 512 {
		b.WriteByte(byte(i * (1 + i/256*6)))
	}
	return b.String()
}

// everyByte checks data and ids that the text type of an engine would refuse, change or mix up.
func (s suite) everyByte() {
	expires := later()
	all := bytesOfAllValues()
	for _, id := range []string{all, all + "1", strings.Repeat("x", 100_000), "\xff", "\xfe", "a ", " a", "é", "e\u0301", "%", "_", "a:b{c}*?[d]"} {
		s.want(id, all, s.create(id, all, expires), expires)
	}
	s.wantNone("a", 0)
	s.wantNone("é ", 0)
	for i, data := range [][]byte{nil, {}} {
		id := fmt.Sprint("empty ", i)
		rev, err := s.store.Create(s.Context(), id, data, expires)
		s.wantError("Create", err, nil)
		s.want(id, "", rev, expires)
		rev, err = s.store.Swap(s.Context(), id, rev, data, expires)
		s.wantError("Swap", err, nil)
		s.want(id, "", rev, expires)
	}
}

// times checks unusual expiries.
func (s suite) times() {
	base := time.Now().Truncate(time.Second).Add(time.Hour)
	for i, expires := range []time.Time{
		base, base.Add(time.Millisecond), base.Add(999 * time.Millisecond), base.Add(500 * time.Microsecond),
		base.In(time.FixedZone("far east", 14*3600)), base.AddDate(100, 0, 0), time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC),
	} {
		id := fmt.Sprint("future ", i)
		rev := s.create(id, "data", expires)
		s.want(id, "data", rev, expires)
		s.wantError("Touch", s.store.Touch(s.Context(), id, expires.Add(-time.Minute)), nil)
		s.want(id, "data", rev, expires.Add(-time.Minute))
	}
	for i, expires := range []time.Time{
		{}, time.Unix(0, 0), time.Unix(-1, 0), time.Date(1900, 1, 1, 0, 0, 0, 1, time.UTC), time.Now().Add(-time.Millisecond),
	} {
		id := fmt.Sprint("past ", i)
		s.wantNone(id, s.create(id, "data", expires))
		rev := s.create(id, "data", base)
		s.wantError("Touch", s.store.Touch(s.Context(), id, expires), nil)
		s.wantNone(id, rev)
	}
}

// reuse checks that revisions stay different when records expire and are made again.
func (s suite) reuse() {
	seen := map[uint64]bool{}
	past := time.Now().Add(-time.Second)
	for range 5 {
		rev := s.create("a", "data", past)
		next := s.create("a", "data", later())
		last, err := s.store.Swap(s.Context(), "a", next, []byte("data"), later())
		s.wantError("Swap", err, nil)
		for _, r := range []uint64{rev, next, last} {
			if seen[r] {
				s.Fatalf("revision %d came back", r)
			}
			seen[r] = true
		}
		for _, r := range []uint64{rev, next} {
			_, err := s.store.Swap(s.Context(), "a", r, []byte("old"), later())
			s.wantError("Swap at the revision of an earlier record", err, session.ErrConflict)
		}
		s.wantError("Touch", s.store.Touch(s.Context(), "a", past), nil)
	}
}

// overdue checks a context whose deadline has passed.
func (s suite) overdue() {
	expires := later()
	rev := s.create("a", "data", expires)
	ctx, cancel := context.WithDeadline(s.Context(), time.Now().Add(-time.Second))
	defer cancel()
	_, err := s.store.Create(ctx, "b", []byte("data"), expires)
	s.wantError("Create", err, context.DeadlineExceeded)
	_, err = s.store.Load(ctx, "a")
	s.wantError("Load", err, context.DeadlineExceeded)
	_, err = s.store.Swap(ctx, "a", rev, []byte("new"), expires)
	s.wantError("Swap", err, context.DeadlineExceeded)
	s.wantError("Touch", s.store.Touch(ctx, "a", expires.Add(time.Hour)), context.DeadlineExceeded)
	s.wantError("Delete", s.store.Delete(ctx, "a"), context.DeadlineExceeded)
	s.want("a", "data", rev, expires)
	s.wantNone("b", rev)
}

// An iterable store can list all records, which [session.Store] does not ask for.
type iterable interface {
	All(ctx context.Context) iter.Seq2[session.Record, error]
}

// crowd makes many records at the same time, and removes every fourth.
func (s suite) crowd() {
	expires := later()
	name := func(i int) string { return fmt.Sprint("record ", i) }
	revs := make([]uint64, many)
	together(func(n int) {
		for i := n; i < many; i += racers {
			rev, err := s.store.Create(s.Context(), name(i), []byte(name(i)), expires)
			if revs[i] = rev; err == nil && i%4 == 0 {
				err = s.store.Delete(s.Context(), name(i))
			}
			if err != nil {
				s.Errorf("record %d: %v", i, err)
			}
		}
	})
	together(func(n int) {
		for i := n; i < many; i += racers {
			rec, err := s.store.Load(s.Context(), name(i))
			switch {
			case i%4 == 0 && errors.Is(err, session.ErrNotFound):
			case i%4 == 0 || err != nil || string(rec.Data) != name(i) || rec.Rev != revs[i]:
				s.Errorf("Load(%q) = %.20q at %d, %v", name(i), rec.Data, rec.Rev, err)
			}
		}
	})
	s.create("expired", "expired", time.Now().Add(-time.Second))
	for _, view := range s.views {
		if all, ok := view.(iterable); ok {
			s.wantAll(all, many-many/4)
		}
	}
}

// wantAll checks that All of a store returns n records, each once.
func (s suite) wantAll(store iterable, n int) {
	seen := map[string]bool{}
	for rec, err := range store.All(s.Context()) {
		s.wantError("All", err, nil)
		if seen[string(rec.Data)] || string(rec.Data) == "expired" {
			s.Errorf("All returned %.20q again, or at all", rec.Data)
		}
		seen[string(rec.Data)] = true
	}
	if len(seen) != n {
		s.Errorf("All returned %d records of %d", len(seen), n)
	}
}

// prolong checks that Touch and Swap really make a record live longer, beyond the first expiry.
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

// secret checks that all views of a store return the same secret for cookies, if the store has the method Secret.
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
