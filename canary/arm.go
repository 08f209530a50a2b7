package canary

import (
	"net/http"
	"sync/atomic"
)

// SideStatus counts the requests of a side in this process.
type SideStatus struct {
	// Requests is how many were given to the handler.
	Requests uint64 `json:"requests"`
	// InFlight is how many of them the handler has not returned from.
	InFlight uint64 `json:"in_flight"`
	// Forced is how many of them Options.Choose has sent here.
	Forced uint64 `json:"forced"`
	// Panics is how many of them ended in a panic other than http.ErrAbortHandler.
	Panics uint64 `json:"panics"`
	// Outcomes counts the outcomes; nil if Options has none of Begin, Observe and Bad.
	Outcomes *OutcomeStatus `json:"outcomes,omitempty"`
}

// An arm counts the requests of a side. The requests in flight are those begun and not ended, so they have no counter.
type arm struct {
	side   Side
	sides  *sides // of Options.Switch, or nil
	begun  atomic.Uint64
	ended  atomic.Uint64
	forced atomic.Uint64
	panics atomic.Uint64
	_      [64]byte // the other side counts on another cache line
}

// serve calls the handler with a request that is counted as begun.
func (a *arm) serve(h http.Handler, w http.ResponseWriter, r *http.Request, forced bool) {
	if forced {
		a.forced.Add(1)
	}
	defer a.end()
	h.ServeHTTP(w, r)
}

// end is deferred. A panic goes on with the same value; the stack, which is still there, shows where the panic began.
func (a *arm) end() {
	p := recover()
	if p != nil && p != http.ErrAbortHandler {
		a.panics.Add(1)
	}
	a.ended.Add(1)
	if a.sides != nil {
		a.sides.ended(a.side)
	}
	if p != nil {
		panic(p)
	}
}

// beginAgain counts a request as begun whose canary has failed. It returns false if the program may have ended what the handler uses.
func (a *arm) beginAgain() bool {
	if a.sides == nil {
		a.begun.Add(1)
		return true
	}
	return a.sides.beginAgain(a)
}

// giveUp takes back that a request has begun.
func (a *arm) giveUp() {
	a.begun.Add(^uint64(0))
	if a.sides != nil {
		a.sides.ended(a.side)
	}
}

// inFlight returns how many requests are under way. It is never too low.
func (a *arm) inFlight() uint64 {
	ended := a.ended.Load() // before begun: what begins in between is counted as in flight, and nothing below 0
	return a.begun.Load() - ended
}

func (a *arm) status() SideStatus {
	inFlight := a.inFlight()
	return SideStatus{Requests: a.begun.Load(), InFlight: inFlight, Forced: a.forced.Load(), Panics: a.panics.Load()}
}
