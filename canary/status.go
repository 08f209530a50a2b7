package canary

import (
	"net/http"
	"sync/atomic"

	"github.com/midair-go/midair/internal/killswitch"
)

// Status has the weight and the counters of a Router.
type Status struct {
	// Name is that of the options.
	Name string `json:"name"`
	// Weight is the effective weight: the share that the canary gets now.
	Weight float64 `json:"weight"`
	// DecidedBy is what has decided the effective weight: "weight" (Options.Weight), "killed" or "latched" (Options.Kill),
	// "panic" (Options.Weight has panicked) or "no canary" (the router has no canary handler). In all but the first case the
	// weight is 0.
	DecidedBy string `json:"decided_by"`
	// WeightPanics, KeyPanics and SamePanics are how often Options.Weight, Options.Key and Options.SameForAll have panicked. A
	// request is stable after a panic of Weight or Key.
	WeightPanics uint64 `json:"weight_panics,omitempty"`
	KeyPanics    uint64 `json:"key_panics,omitempty"`
	SamePanics   uint64 `json:"same_panics,omitempty"`
	// Stable is the side that was there before.
	Stable SideStatus `json:"stable"`
	// Canary is the side that is being tried.
	Canary SideStatus `json:"canary"`
}

// SideStatus counts the requests of a side in this process.
type SideStatus struct {
	// Requests is how many were given to the handler.
	Requests uint64 `json:"requests"`
	// InFlight is how many of them the handler has not returned from.
	InFlight uint64 `json:"in_flight"`
	// Forced is how many of them have chosen the side by header.
	Forced uint64 `json:"forced"`
	// Panics is how many of them ended in a panic other than http.ErrAbortHandler.
	Panics uint64 `json:"panics"`
}

// Status returns the weight and the counters of the router. The figures of a busy router are not all of the same instant.
func (rt *Router) Status() Status {
	weight, by := rt.weight()
	return Status{
		Name: rt.opts.Name, Weight: weight, DecidedBy: by,
		WeightPanics: rt.asked.weightPanics.Load(), KeyPanics: rt.asked.keyPanics.Load(),
		SamePanics: rt.asked.samePanics.Load(),
		Stable:     rt.arms[Stable].status(), Canary: rt.arms[Canary].status(),
	}
}

// weight returns the effective weight, and the reason for Status.DecidedBy.
func (rt *Router) weight() (weight float64, by string) {
	if rt.arms[Canary].handler == nil {
		return 0, "no canary"
	}
	if word := rt.opts.Kill.word(); word != killswitch.Open {
		return 0, word.String()
	}
	weight, ok := rt.asked.weight()
	if !ok {
		return 0, "panic"
	}
	return clamp(weight), "weight"
}

// An arm is the handler of a side, with counters. The requests in flight are those begun and not ended: two counters are enough.
type arm struct {
	handler http.Handler
	begun   atomic.Uint64
	ended   atomic.Uint64
	forced  atomic.Uint64
	panics  atomic.Uint64
	_       [64]byte // the other side counts on another cache line
}

func (a *arm) serve(w http.ResponseWriter, r *http.Request, forced bool) {
	a.begun.Add(1)
	if forced {
		a.forced.Add(1)
	}
	defer a.end()
	a.handler.ServeHTTP(w, r)
}

// end is deferred. A panic goes on with the same value; the stack, which is still there, shows where the panic began.
func (a *arm) end() {
	p := recover()
	if p == nil {
		a.ended.Add(1)
		return
	}
	if p != http.ErrAbortHandler {
		a.panics.Add(1)
	}
	a.ended.Add(1)
	panic(p)
}

func (a *arm) status() SideStatus {
	ended := a.ended.Load() // before begun: what begins in between is counted as in flight, and nothing below 0
	begun := a.begun.Load()
	return SideStatus{Requests: begun, InFlight: begun - ended, Forced: a.forced.Load(), Panics: a.panics.Load()}
}
