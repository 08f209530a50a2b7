package sessiontest_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"runtime"
	"sync"
	"time"

	"github.com/midair-go/midair/session"
)

// A ttl is an engine with a time to live of its own beside the expiry in the record.
type ttl struct {
	*memory
	keepTouch, keepSwap bool
	tmu                 sync.Mutex
	until               map[string]time.Time
}

// op runs fn while nobody else uses the store, after the engine has removed what is dead.
func (s *ttl) op(ctx context.Context, id string, fn func()) {
	s.tmu.Lock()
	defer s.tmu.Unlock()
	if at, ok := s.until[id]; ok && !time.Now().Before(at) && ctx.Err() == nil {
		_ = s.memory.Delete(ctx, id)
		delete(s.until, id)
	}
	fn()
}
func (s *ttl) Create(ctx context.Context, id string, data []byte, e time.Time) (rev uint64, err error) {
	s.op(ctx, id, func() {
		if rev, err = s.memory.Create(ctx, id, data, e); err == nil {
			s.until[id] = e
		}
	})
	return rev, err
}
func (s *ttl) Load(ctx context.Context, id string) (rec session.Record, err error) {
	s.op(ctx, id, func() { rec, err = s.memory.Load(ctx, id) })
	return rec, err
}
func (s *ttl) Swap(ctx context.Context, id string, rev uint64, data []byte, e time.Time) (next uint64, err error) {
	s.op(ctx, id, func() {
		if next, err = s.memory.Swap(ctx, id, rev, data, e); err == nil && !s.keepSwap {
			s.until[id] = e
		}
	})
	return next, err
}
func (s *ttl) Touch(ctx context.Context, id string, e time.Time) (err error) {
	s.op(ctx, id, func() {
		if err = s.memory.Touch(ctx, id, e); err == nil && !s.keepTouch {
			s.until[id] = e
		}
	})
	return err
}

// An undead store touches in two steps, the second of which is an upsert of the expiry: a Delete in between is undone.
type undead struct{ *memory }

func (s undead) Touch(ctx context.Context, id string, e time.Time) error {
	rec, err := s.Load(ctx, id)
	if err != nil {
		return err
	}
	runtime.Gosched()
	s.mu.Lock()
	defer s.mu.Unlock()
	if now, ok := s.records[id]; ok {
		rec = now
	}
	rec.Expires = e
	s.records[id] = rec
	return nil
}

// A torn store overwrites in place, and the revision last; a Load does not wait for that.
type torn struct {
	*memory
	w *sync.Mutex
}

func (s torn) Swap(ctx context.Context, id string, rev uint64, data []byte, e time.Time) (uint64, error) {
	s.w.Lock()
	defer s.w.Unlock()
	old, err := s.Load(ctx, id)
	if err != nil {
		return 0, err
	}
	if old.Rev != rev {
		return 0, session.ErrConflict
	}
	if len(data) == len(old.Data) {
		mixed := bytes.Clone(old.Data)
		copy(mixed, data[:len(data)/2])
		s.mu.Lock()
		if r, ok := s.records[id]; ok {
			r.Data = mixed
			s.records[id] = r
		}
		s.mu.Unlock()
		runtime.Gosched()
	}
	return s.memory.Swap(ctx, id, rev, data, e)
}

// A forgetful store has a new secret for each call.
type forgetful struct{ *memory }

func (forgetful) Secret(context.Context) ([]byte, error) {
	return []byte(rand.Text() + rand.Text()), nil
}

// flawed is a store with a flaw of an engine, or with one of memory.
func flawed(flaw string) session.Store {
	m := newMemory("")
	switch flaw {
	case "split":
		return split{m}
	case "ttl":
		return &ttl{memory: m, until: map[string]time.Time{}}
	case "ttl-touch":
		return &ttl{memory: m, until: map[string]time.Time{}, keepTouch: true}
	case "ttl-swap":
		return &ttl{memory: m, until: map[string]time.Time{}, keepSwap: true}
	case "undead":
		return undead{m}
	case "torn":
		return torn{m, new(sync.Mutex)}
	case "forgetful":
		return forgetful{m}
	}
	return newMemory(flaw)
}
