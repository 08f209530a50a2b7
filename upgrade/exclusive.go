package upgrade

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/midair-go/midair/internal/guard"
)

// Resource is something that only one process may hold: a lock, a store with a single writer, a place in a queue. See
// [Upgrader.Exclusive].
type Resource struct {
	// Acquire takes it, and may wait for it until ctx ends, after Options.Timeout. It is called again after a Release,
	// when an upgrade was taken back.
	Acquire func(ctx context.Context) error
	// Release gives it up, so that another process can take it. Its ctx ends after Options.Timeout.
	Release func(ctx context.Context) error
	// Background says that requests are served without it: a scheduler, say, that may pause for a moment. By default a
	// candidate does not accept before it has the resource, so that nothing of its soak is seen by users.
	Background bool
}

// Exclusive makes Run hold a resource while this process is the main generation. The first process acquires the resource
// before accepting. In an upgrade the old process stops accepting and releases the resource right before the commit, and
// the new process acquires it before accepting: new connections wait in the kernel's queue meanwhile. If the commit fails,
// the old process acquires the resource again. If Acquire fails until Options.Timeout, the old process serves on without,
// and logs an error. Requests that the old process has begun, or that come on its open connections, go on after the
// Release: either Release waits for such requests, or they work without the resource. A process without another one to
// fall back to ends Run with the error of Acquire. At its end Run releases the held resources.
//
// Several resources are acquired in the order of the calls and released in the reverse. To be called before Run.
func (u *Upgrader) Exclusive(name string, r Resource) {
	u.resources.mu.Lock()
	defer u.resources.mu.Unlock()
	u.resources.all = append(u.resources.all, &resource{Resource: r, name: name})
}

type resources struct {
	mu  sync.Mutex
	all []*resource
}

// resource is touched by one goroutine at a time: the runner's or that of the attempt.
type resource struct {
	Resource
	name string
	held bool
	last chan struct{} // closed when the last call has returned; nil before the first
}

func (s *resources) list() []*resource {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}

// serving tells whether one is needed to serve.
func (s *resources) serving() bool {
	return slices.ContainsFunc(s.list(), func(r *resource) bool { return !r.Background })
}

// acquire takes all of them, or none.
func (s *resources) acquire(ctx context.Context) error {
	for _, r := range s.list() {
		if r.held {
			continue
		}
		if err := r.call(ctx, r.Acquire); err != nil {
			return errors.Join(fmt.Errorf("acquire %q: %w", r.name, err), s.release(context.WithoutCancel(ctx)))
		}
		r.held = true
	}
	return nil
}

// release gives up those that are held. One that fails is taken as given up, since nothing else can be done about it.
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

// call runs a function of the program, which may be nil, and waits a moment longer than its context lasts. One that goes on
// for longer still is not called over: the next call waits for it.
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
	go func() { // ends when fn does
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

// releaseResources releases the held resources at the end of Run.
func (u *Upgrader) releaseResources() {
	ctx, cancel := context.WithTimeout(context.Background(), u.opts.Timeout)
	defer cancel()
	if err := u.resources.release(ctx); err != nil {
		u.log.Error("upgrade: cannot release", "err", err)
	}
}

// reacquire gives the program back what it released for a commit that failed. The candidate has ended, or cannot be killed (killLimit).
func (a *attempt) reacquire() {
	if !a.released {
		return
	}
	a.released = false
	ctx, cancel := context.WithTimeout(context.Background(), a.u.opts.Timeout)
	defer cancel()
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := a.u.resources.acquire(ctx)
		if err == nil {
			return
		}
		a.u.log.Error("upgrade: cannot take back what was released for the commit", "err", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			a.u.log.Error("upgrade: serving without it", "after", a.u.opts.Timeout)
			return
		}
	}
}
