package flags

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/midair-go/midair/flags/internal/hosted"
	"github.com/midair-go/midair/flags/internal/moment"
)

// Current is what evaluations read: the present view, and the provider if there is one. No evaluation takes the lock of a store.
type current struct {
	now      atomic.Pointer[view] // nil as long as there are no values
	provider *hosted.Provider     // of FromProvider, or nil

	errors  atomic.Uint64                     // evaluations that gave the default because of an error
	observe func(context.Context, Evaluation) // Options.Observe
	log     *slog.Logger
	warned  sync.Once // Options.Observe has panicked, and the log says so
}

// A pinKey is the key of a Pin in a context: the current, as a type of its own.
type pinKey current

// at returns the view for a context, and the Pin of the context or nil. A Pin that is older than all values has no view.
func (c *current) at(ctx context.Context) (*view, *moment.Pin) {
	if ctx != nil {
		if p, _ := ctx.Value((*pinKey)(c)).(*moment.Pin); p != nil {
			v, _ := p.View.(*view)
			return v, p
		}
	}
	return c.now.Load(), nil
}

// pin returns a context with a Pin.
func (c *current) pin(ctx context.Context, v *view, request bool) context.Context {
	return context.WithValue(ctx, (*pinKey)(c), &moment.Pin{View: v, Request: request})
}

// lookup returns the entries that weights and Vars read: those of the provider, unless another source outranks the provider. All
// entries of the provider are of one moment.
func (c *current) lookup(entries map[string]*entry) func(key string) *entry {
	var values map[string]*hosted.Value
	if c.provider != nil {
		values = c.provider.Values()
	}
	return func(key string) *entry {
		e := entries[key]
		if v := values[key]; v != nil && (e == nil || e.weak && e.forced == nil) {
			return entryOf(key, v)
		}
		return e
	}
}
