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
	// WeightPanics, ChoosePanics, KeyPanics and SamePanics are how often Options.Weight, Choose, Key and SameForAll have panicked,
	// and NotNumbers is how often Weight has returned what is not a number. The request is stable then, but for SameForAll.
	WeightPanics uint64 `json:"weight_panics,omitempty"`
	NotNumbers   uint64 `json:"not_numbers,omitempty"`
	ChoosePanics uint64 `json:"choose_panics,omitempty"`
	KeyPanics    uint64 `json:"key_panics,omitempty"`
	SamePanics   uint64 `json:"same_panics,omitempty"`
	// Rescued is how many requests Options.Rescue has given to the stable handler after the canary had failed. They count as
	// requests of both sides.
	Rescued uint64 `json:"rescued,omitempty"`
	// RescuePanics is how often functions of Options.Rescue have panicked.
	RescuePanics uint64 `json:"rescue_panics,omitempty"`
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
	// Forced is how many of them Options.Choose has sent here.
	Forced uint64 `json:"forced"`
	// Panics is how many of them ended in a panic other than http.ErrAbortHandler.
	Panics uint64 `json:"panics"`
}

// Status returns the weight and the counters of the router. The figures of a busy router are not all of the same instant.
func (rt *Router) Status() Status {
	weight, by := rt.weight()
	s := Status{
		Name: rt.opts.Name, Weight: weight, DecidedBy: by,
		WeightPanics: rt.asked.weightPanics.Load(), NotNumbers: rt.asked.notNumbers.Load(),
		ChoosePanics: rt.asked.choosePanics.Load(), KeyPanics: rt.asked.keyPanics.Load(), SamePanics: rt.asked.samePanics.Load(),
		Stable: rt.arms[Stable].status(), Canary: rt.arms[Canary].status(),
	}
	if rt.rescue != nil {
		s.Rescued, s.RescuePanics = rt.rescue.saved.Load(), rt.rescue.panics.Load()
	}
	return s
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
	side    Side
	turn    *Switch // Options.Switch
	begun   atomic.Uint64
	ended   atomic.Uint64
	forced  atomic.Uint64
	panics  atomic.Uint64
	_       [64]byte // the other side counts on another cache line
}

// serve passes a request on that is counted as begun.
func (a *arm) serve(w http.ResponseWriter, r *http.Request, forced bool) {
	if forced {
		a.forced.Add(1)
	}
	defer a.end()
	a.handler.ServeHTTP(w, r)
}

// end is deferred. A panic goes on with the same value; the stack, which is still there, shows where the panic began.
func (a *arm) end() {
	p := recover()
	if p != nil && p != http.ErrAbortHandler {
		a.panics.Add(1)
	}
	a.ended.Add(1)
	if a.turn != nil {
		a.turn.ended(a.side)
	}
	if p != nil {
		panic(p)
	}
}

// beginAgain counts a request as begun whose canary has failed. It returns false if the program may have ended what the handler uses.
func (a *arm) beginAgain() bool {
	if a.turn == nil {
		a.begun.Add(1)
		return true
	}
	return a.turn.beginAgain(a)
}

// giveUp takes back that a request has begun.
func (a *arm) giveUp() {
	a.begun.Add(^uint64(0))
	a.turn.ended(a.side)
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
