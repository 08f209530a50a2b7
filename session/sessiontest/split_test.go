package sessiontest_test

import (
	"context"
	"runtime"
	"time"

	"github.com/midair-go/midair/session"
)

// A split store makes each change in two steps: it looks, and then writes whatever it is told.
type split struct{ *memory }

func (s split) Create(ctx context.Context, id string, data []byte, expires time.Time) (uint64, error) {
	if _, err := s.Load(ctx, id); err == nil {
		return 0, session.ErrConflict
	}
	runtime.Gosched()
	return s.write(id, data, expires), nil
}

func (s split) Swap(ctx context.Context, id string, rev uint64, data []byte, expires time.Time) (uint64, error) {
	old, err := s.Load(ctx, id)
	if err != nil {
		return 0, err
	}
	if old.Rev != rev {
		return 0, session.ErrConflict
	}
	runtime.Gosched()
	return s.write(id, data, expires), nil
}

func (s split) write(id string, data []byte, expires time.Time) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.put(id, data, expires)
}
