package flags_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/midair-go/midair/flags"
	"github.com/open-feature/go-sdk/openfeature"
)

// waiting returns the events that nobody has taken yet: the keys of changes, and the last state.
func waiting(p openfeature.FeatureProvider) (keys map[string]bool, all bool, state openfeature.EventType) {
	keys = map[string]bool{}
	for {
		select {
		case e := <-p.(openfeature.EventHandler).EventChannel():
			if e.EventType != openfeature.ProviderConfigChange {
				state = e.EventType
				continue
			}
			all = all || len(e.FlagChanges) == 0
			for _, key := range e.FlagChanges {
				keys[key] = true
			}
		default:
			return keys, all, state
		}
	}
}

// No key of a change is forgotten, and the last state is the present one, however late a listener is.
func TestALateListenerHearsOfEveryKey(t *testing.T) {
	f, path := served(t, set(onOff("a"), onOff("b"), onOff("c")), flags.Options{})
	p := f.Provider()
	check(t, p.(openfeature.StateHandler).Init(openfeature.EvaluationContext{}))
	for round := range 3 {
		check(t, f.Override("a", []string{"off", "on", "off"}[round], time.Time{}, ""))
		for i := range 50 {
			check(t, f.Override("b", []string{"off", "on"}[i%2], time.Time{}, ""))
			look(t, f, path, []string{"{", set(onOff("a"), onOff("b"), onOff("c"))}[i%2])
		}
		check(t, f.Override("c", []string{"off", "on", "off"}[round], time.Time{}, ""))
		look(t, f, path, "{")
		for i := range 20 { // the states are among the events that become one
			check(t, f.Override("b", []string{"off", "on"}[i%2], time.Time{}, ""))
		}
		keys, all, state := waiting(p)
		if fmt.Sprint(keys) != "map[a:true b:true c:true]" || all || state != openfeature.ProviderStale {
			t.Errorf("round %d: the listener hears of %v, of all flags %v, and of %s", round, keys, all, state)
		}
	}
}

// A change of unknown keys stays one after it is merged with others.
func TestAChangeOfUnknownKeysIsNotForgotten(t *testing.T) {
	hosted(t, flags.Options{Poll: time.Hour}, func(t *testing.T, h *host, f *flags.Flags) {
		p := f.Provider()
		check(t, p.(openfeature.StateHandler).Init(openfeature.EvaluationContext{}))
		override := func() {
			for i := range 20 {
				check(t, f.Override("cart", fmt.Sprint(i), time.Time{}, ""))
			}
		}
		override()
		h.emit(openfeature.ProviderConfigChange, "", "")
		override()
		if keys, all, _ := waiting(p); !all {
			t.Errorf("the listener hears of %v alone", keys)
		}
	})
}
