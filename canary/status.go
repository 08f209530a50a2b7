package canary

import "github.com/midair-go/midair/internal/killswitch"

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
	// BeginPanics, BadPanics and ObservePanics are how often Options.Begin, Bad and Observe have panicked.
	BeginPanics   uint64 `json:"begin_panics,omitempty"`
	BadPanics     uint64 `json:"bad_panics,omitempty"`
	ObservePanics uint64 `json:"observe_panics,omitempty"`
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

// Status returns the weight and the counters of the router. The figures of a busy router are not all of the same instant.
func (rt *Router) Status() Status {
	weight, by := rt.weight()
	s := Status{
		Name: rt.opts.Name, Weight: weight, DecidedBy: by,
		WeightPanics: rt.decider.asked.weightPanics.Load(), NotNumbers: rt.decider.asked.notNumbers.Load(),
		ChoosePanics: rt.decider.asked.choosePanics.Load(), KeyPanics: rt.decider.asked.keyPanics.Load(), SamePanics: rt.decider.asked.samePanics.Load(),
		Stable: rt.arms[Stable].status(), Canary: rt.arms[Canary].status(),
	}
	s.BeginPanics = rt.decider.asked.beginPanics.Load()
	s.BadPanics, s.ObservePanics = rt.decider.asked.badPanics.Load(), rt.decider.asked.observePanics.Load()
	if rt.outcomes != nil {
		s.Stable.Outcomes, s.Canary.Outcomes = rt.outcomes.sides[Stable].status(), rt.outcomes.sides[Canary].status()
	}
	if rt.rescue != nil {
		s.Rescued, s.RescuePanics = rt.rescue.saved.Load(), rt.rescue.panics.Load()
	}
	return s
}

// weight returns the effective weight, and the reason for Status.DecidedBy.
func (rt *Router) weight() (weight float64, by string) {
	if !rt.decider.hasCanary {
		return 0, "no canary"
	}
	if word := rt.opts.Kill.word(); word != killswitch.Open {
		return 0, word.String()
	}
	weight, ok := rt.decider.asked.weight()
	if !ok {
		return 0, "panic"
	}
	return clamp(weight), "weight"
}
