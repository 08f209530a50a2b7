package flags

import (
	"cmp"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/midair-go/midair/flags/internal/flagd"
	"github.com/midair-go/midair/flags/internal/moment"
	"github.com/midair-go/midair/internal/cohort"
)

// A Guard lets a rollout move the share of a flag: visitors in the cohort of the weight get a variant, and all others get what
// the sources below say.
//
// The cohort is computed from the key of the flag and the targeting key, in the same way as the cohorts of package canary. So a
// cohort only grows while the weight grows, and is the same in every process and on every host. A visitor without a targeting
// key is in no cohort. A disabled flag has no guard. A flag that is in no file and not in Options.Defaults has no guard either, also
// if a provider has the flag; a warning in Status says so.
type Guard struct {
	// Key is that of the flag.
	Key string
	// Variant is what visitors in the cohort get. Default: "on".
	Variant string
	// Weight returns the share of the visitors, from 0 to 1. Each evaluation of the flag calls Weight, from any goroutine; in a
	// request, and in a context of With, only the first evaluation does. A panic, and a number outside of 0 to 1, count as 0 and are
	// logged once. A rollout without a judge must return 0.
	Weight func() float64
}

// maxGuards is the number of guards whose weights a request keeps.
const maxGuards = moment.MaxGuards

// Guarded returns the Guard of a flag with the variant "on".
func Guarded(key string, weight func() float64) Guard { return Guard{Key: key, Weight: weight} }

// A guard is the Guard of a flag in a view.
type guard struct {
	index   int // in Options.Guards
	salt    string
	weight  func() float64
	variant *flagd.Variant
	report  func(reason string)
}

// Guards are those of Options.Guards.
type guards struct {
	list   []Guard
	log    *slog.Logger
	warned [maxGuards]sync.Once // by the index of the guard: its weight was wrong, and the log says so
}

// find returns the guard of a flag, or nil; and a warning if the flag has no variant as the guard wants it.
func (gs *guards) find(key string, fl *flagd.Flag) (g *guard, warning string) {
	index := slices.IndexFunc(gs.list, func(g Guard) bool { return g.Key == key })
	if index < 0 {
		return nil, ""
	}
	of := gs.list[index]
	name := cmp.Or(of.Variant, "on")
	variant := fl.Variant(name)
	if variant == nil {
		return nil, fmt.Sprintf("its guard has no effect, because it has no variant %q", name)
	}
	report := func(reason string) {
		gs.warned[index].Do(func() {
			gs.log.Error("flags: the weight of a guard counts as 0", slog.String("key", key), slog.String("reason", reason))
		})
	}
	return &guard{index: index, salt: key, weight: of.Weight, variant: variant, report: report}, ""
}

// in reports whether the visitor of an evaluation is in the cohort. In a request, the first evaluation asks for the weight.
func (g *guard) in(e flagd.Env, p *moment.Pin) bool {
	key := e.Key()
	switch {
	case key == "":
		return false
	case p == nil:
		return cohort.In(g.salt, key, g.share())
	}
	return cohort.In(g.salt, key, p.Weight(g.index, g.share))
}

// share returns the weight.
func (g *guard) share() (w float64) {
	defer func() {
		if p := recover(); p != nil {
			g.report(fmt.Sprintf("panic: %v", p))
			w = 0
		}
	}()
	if w = g.weight(); !(w >= 0 && w <= 1) {
		g.report(fmt.Sprintf("it is %v, which is not from 0 to 1", w))
		return 0
	}
	return w
}
