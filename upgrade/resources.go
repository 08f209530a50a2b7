package upgrade

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/midair-go/midair/internal/guard"
)

// Resource is something that only one process may hold: a lock, a store with a single writer, a place in a queue. See
// [Upgrader.Exclusive].
type Resource struct {
	// Acquire takes the resource. It may wait until ctx ends, which happens after Options.Timeout at the latest. If the commit
	// of an upgrade fails after Release was called, the old process calls Acquire again.
	Acquire func(ctx context.Context) error
	// Release gives up the resource, so that another process can take it. ctx ends after Options.Timeout, or earlier if the
	// upgrade is aborted.
	Release func(ctx context.Context) error
	// Background means that requests can be served without the resource, as with a scheduler that may pause for a moment. By
	// default requests need the resource. Then a candidate must acquire the resource at the commit before it accepts, so users
	// do not reach the candidate during Options.Soak.
	Background bool
}

// resources are the exclusive resources of a program, in the order of the calls of Exclusive.
type resources struct {
	mu  sync.Mutex
	all []*resource
}

// resource is an exclusive resource. Only one goroutine at a time uses it. During Run, this is a goroutine that the loop of Run
// or an attempt has started. At the end of Run, it is the goroutine of Run.
type resource struct {
	Resource
	name string
	held bool
	last chan struct{} // closed when the latest call of Acquire or Release has returned; nil before the first call
}

func (s *resources) add(name string, r Resource) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, &resource{Resource: r, name: name})
}

func (s *resources) list() []*resource {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}

// serving reports whether requests need any of the resources.
func (s *resources) serving() bool {
	return slices.ContainsFunc(s.list(), func(r *resource) bool { return !r.Background })
}

// acquire acquires all resources that are not held. If one Acquire fails, acquire releases all held resources. The argument
// limit is the time for all releases together. The releases do not use ctx, because ctx has perhaps ended by then.
func (s *resources) acquire(ctx context.Context, limit time.Duration) error {
	for _, r := range s.list() {
		if r.held {
			continue
		}
		if err := r.call(ctx, r.Acquire); err != nil {
			own, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
			defer cancel()
			return errors.Join(fmt.Errorf("acquire %q: %w", r.name, err), s.release(own))
		}
		r.held = true
	}
	return nil
}

// release releases the held resources. A resource whose Release fails counts as released, since nothing else can be done.
func (s *resources) release(ctx context.Context) error {
	var errs []error
	for _, r := range slices.Backward(s.list()) {
		if !r.held {
			continue
		}
		r.held = false
		if err := r.call(ctx, r.Release); err != nil {
			errs = append(errs, fmt.Errorf("release %q: %w", r.name, err))
		}
	}
	return errors.Join(errs...)
}

// call calls fn, a function of the program. If fn is nil, call does nothing. After the end of ctx, call waits at most
// commitStall for fn, and then returns an error. In this case fn goes on, and the next call for this resource first waits for
// the end of fn.
func (r *resource) call(ctx context.Context, fn func(context.Context) error) error {
	if fn == nil {
		return nil
	}
	if r.last != nil {
		select {
		case <-r.last:
		case <-ctx.Done():
			return fmt.Errorf("the call before this one goes on: %w", context.Cause(ctx))
		}
	}
	err := errors.New("it has ended its goroutine")
	last := make(chan struct{})
	r.last = last
	go func() { // ends when fn has returned
		defer close(last)
		err = guard.Call(func() error { return fn(ctx) })
	}()
	select {
	case <-last:
		return err
	case <-ctx.Done():
	}
	select {
	case <-last:
		return err
	case <-time.After(commitStall):
		return fmt.Errorf("it did not return when its context had ended: %w", context.Cause(ctx))
	}
}

// reacquire acquires the resources after a failed commit. It tries again until it succeeds, the limit has passed, or ctx ends.
func (s *resources) reacquire(ctx context.Context, limit time.Duration, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := s.acquire(ctx, limit)
		if err == nil || errors.Is(ctx.Err(), context.Canceled) { // ctx is canceled when the service stops
			return err
		}
		log.Error("upgrade: cannot take back what was released for the commit", "err", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				log.Error("upgrade: serving without it", "after", limit, "err", err)
			}
			return err
		}
	}
}
