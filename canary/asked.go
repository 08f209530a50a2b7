package canary

import (
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync/atomic"
)

// asked calls the functions of the options. A panic of a function costs neither the request nor the process.
type asked struct {
	opts          *Options
	weightPanics  atomic.Uint64
	notNumbers    atomic.Uint64
	choosePanics  atomic.Uint64
	keyPanics     atomic.Uint64
	samePanics    atomic.Uint64
	beginPanics   atomic.Uint64
	badPanics     atomic.Uint64
	observePanics atomic.Uint64
}

// weight returns what Options.Weight returns, and false if the function has panicked. What is not a number is 0.
func (a *asked) weight() (weight float64, ok bool) {
	defer a.caught("Weight", &a.weightPanics)
	weight = a.opts.Weight()
	if weight != weight {
		a.notNumber()
		weight = 0
	}
	return weight, true
}

// notNumber is called when Options.Weight has returned NaN. The first one is logged.
func (a *asked) notNumber() {
	if a.notNumbers.Add(1) == 1 {
		a.opts.Logger.Error("canary: Options.Weight has returned what is not a number; later ones are counted only",
			slog.String("name", a.opts.Name))
	}
}

// choose returns what Options.Choose returns. After a panic the request has chosen Stable.
func (a *asked) choose(r *http.Request) (side Side, forced bool) {
	forced = true
	defer a.caught("Choose", &a.choosePanics)
	s, chosen := a.opts.Choose(r)
	if !chosen {
		return Stable, false
	}
	if s > Canary {
		panic(fmt.Sprintf("there is no side %d", s))
	}
	return s, true
}

// key returns the result of Options.Key, and false if the function has panicked.
func (a *asked) key(r *http.Request) (key string, ok bool) {
	defer a.caught("Key", &a.keyPanics)
	return a.opts.Key(r), true
}

// sameForAll returns the result of Options.SameForAll, or false if the function has panicked.
func (a *asked) sameForAll(r *http.Request) bool {
	defer a.caught("SameForAll", &a.samePanics)
	return a.opts.SameForAll(r)
}

// begin returns what Options.Begin returns, or nil if the function has panicked.
func (a *asked) begin(o Outcome) (begun any) {
	defer a.caught("Begin", &a.beginPanics)
	return a.opts.Begin(o)
}

// bad returns what Options.Bad says about an outcome, or what Outcome.Failed says if there is no such function or it has panicked.
func (a *asked) bad(o Outcome) (bad bool) {
	bad = o.Failed()
	if a.opts.Bad != nil {
		defer a.caught("Bad", &a.badPanics)
		bad = a.opts.Bad(o)
	}
	return bad
}

// observe calls Options.Observe.
func (a *asked) observe(o Outcome) {
	defer a.caught("Observe", &a.observePanics)
	a.opts.Observe(o)
}

// caught is deferred, and ends a panic of a function of the options. The first panic of each function is logged.
func (a *asked) caught(name string, panics *atomic.Uint64) {
	p := recover()
	if p == nil {
		return
	}
	if panics.Add(1) == 1 {
		a.opts.Logger.Error("canary: Options."+name+" has panicked; later panics are counted only",
			slog.String("name", a.opts.Name), slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
	}
}
