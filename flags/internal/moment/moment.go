// Package moment is what packages httpflags and flagstest need of package flags, and what users should not see. Package flags sets
// the variables, so that a program without HTTP does not get net/http by its flags.
package moment

import (
	"context"
	"math"
	"sync/atomic"
)

// MaxGuards is the number of guards that Flags have at most.
const MaxGuards = 32

// A Pin makes all evaluations in a context see the same values, the same weights of guards and the same time.
type Pin struct {
	// View is the *view of package flags; nil: there were no values at the moment of the Pin.
	View any
	// Request reports whether the moment is that of a request of a server, and not of the whole program.
	Request bool
	// Second is the time for rules, in Unix seconds: that of the first rule that asks for it. Before, it is 0.
	Second atomic.Int64

	weights atomic.Pointer[[MaxGuards]atomic.Uint64] // what each guard said first: the bits of the weight, and 1 more; 0: not asked
}

// Weight returns what a guard says, or what the guard has said in this context before.
func (p *Pin) Weight(guard int, ask func() float64) float64 {
	all := p.weights.Load()
	if all == nil {
		p.weights.CompareAndSwap(nil, new([MaxGuards]atomic.Uint64))
		all = p.weights.Load()
	}
	said := &all[guard]
	if said.Load() == 0 {
		said.CompareAndSwap(0, math.Float64bits(ask())+1)
	}
	return math.Float64frombits(said.Load() - 1)
}

// A Source is a *flags.Flags.
type Source interface {
	// Key is the key of the Pin in a context.
	Key() any
	// Pin returns the Pin of the request in an outer context. If there is none, own becomes a Pin of this moment.
	Pin(outer context.Context, own *Pin) *Pin
	// Panicked counts and logs a panic of the function of a middleware.
	Panicked(p any)
	// With returns a context in which the flags have other values, by key.
	With(ctx context.Context, values map[string]any) (context.Context, error)
}

// Of returns the Source of a *flags.Flags.
var Of func(flags any) Source

// InServer reports whether a context belongs to a request that a server serves.
var InServer = func(context.Context) bool { return false }
