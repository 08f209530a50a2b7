package flags_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/flags"
	"github.com/open-feature/go-sdk/openfeature"
)

// A new weight and a new Var have their value at once, follow an event at once, and follow a provider without events by polls.
func TestWeightsAndVarsFollowAProvider(t *testing.T) {
	hosted(t, flags.Options{Poll: time.Hour}, func(t *testing.T, h *host, f *flags.Flags) {
		h.put("w", fixed(0.25))
		h.put("v", fixed("5s"))
		weight, v := f.Weight("w", 0), flags.NewVar(f, "v", time.Minute, flags.VarOptions[time.Duration]{})
		mustBe(t, "the first weight", weight(), 0.25)
		mustBe(t, "the first value", v.Get(), 5*time.Second)
		await := listen(t, f.Client())
		h.put("w", fixed(0.5))
		h.put("v", fixed(int64(time.Hour)))
		h.emit(openfeature.ProviderConfigChange, "", "", "w", "v")
		mustBe(t, "the weight after an event", weight(), 0.5)
		mustBe(t, "the value after an event", v.Get(), time.Hour)
		mustBe(t, "the changes", fmt.Sprint(await(openfeature.ProviderConfigChange).FlagChanges), "[v w]")
		h.put("w", fixed(0.75))
		h.emit(openfeature.ProviderConfigChange, "", "")
		mustBe(t, "the changes without keys", len(await(openfeature.ProviderConfigChange).FlagChanges), 0)
		mustBe(t, "the weight after it", weight(), 0.75)
	})
	bubble(t, func(t *testing.T) {
		p := &fake{}
		p.put("w", fixed(0.25))
		f := from(t, p, flags.Options{})
		weight := f.Weight("w", 0)
		wait(1)
		p.put("w", fixed(1.0))
		mustBe(t, "the weight before a poll", weight(), 0.25)
		wait(1)
		mustBe(t, "the weight after a poll", weight(), 1)
		check(t, f.Close())
	})
}

// Clients hear of a change when weights and values have followed it.
func TestEventsComeAfterValues(t *testing.T) {
	hosted(t, flags.Options{Poll: time.Hour}, func(t *testing.T, h *host, f *flags.Flags) {
		h.put("w", fixed(0.25))
		weight, got := f.Weight("w", 0), make(chan float64, 1)
		fn := func(openfeature.EventDetails) { got <- weight() }
		f.Client().AddHandler(openfeature.ProviderConfigChange, &fn)
		h.put("w", fixed(0.5))
		h.emit(openfeature.ProviderConfigChange, "", "", "w")
		mustBe(t, "the weight in the handler", <-got, 0.5)
	})
}

// A flag that is no weight gives the default, with a warning; an error of the provider leaves the last weight.
func TestWeightOfAProviderThatIsNoShare(t *testing.T) {
	hosted(t, flags.Options{}, func(t *testing.T, h *host, f *flags.Flags) {
		weight := f.Weight("w", 0.125)
		h.lenient = true
		for _, c := range []struct {
			name string
			is   fact
			want float64
			warn string
		}{
			{"good", fixed(0.5), 0.5, ""},
			{"5", fixed(5.0), 0.125, "its value 5 is not from 0 to 1"},
			{"whole", fixed(int64(1)), 1, ""},
			{"whole 5", fixed(int64(5)), 0.125, "its value 5 is not from 0 to 1"},
			{"negative", fixed(-0.1), 0.125, "is not from 0 to 1"},
			{"NaN", fixed(math.NaN()), 0.125, "it is read as a weight, but"},
			{"infinite", fixed(math.Inf(1)), 0.125, "it is read as a weight, but"},
			{"boolean", fixed(true), 0.125, "it is a boolean"},
			{"string", fixed("0.5"), 0.125, "it is a string"},
			{"object", fixed(map[string]any{"a": 1.0}), 0.125, "it is a object"},
			{"good again", fixed(0.75), 0.75, ""},
			{"an error", fact{value: 0.5, err: openfeature.NewGeneralResolutionError("down")}, 0.75, ""},
			{"an error of the context", fact{value: 0.5, err: openfeature.NewTargetingKeyMissingResolutionError("who")}, 0.75, ""},
			{"disabled", fact{reason: openfeature.DisabledReason}, 0.125, ""},
			{"zero", fixed(0.0), 0, ""},
			{"no value", fact{reason: openfeature.DefaultReason}, 0.125, ""},
			{"zero by default", fact{value: 0.0, reason: openfeature.DefaultReason, variant: "none"}, 0, ""},
			{"zero without a variant", fact{value: 0.0}, 0, ""},
		} {
			h.put("w", c.is)
			wait(1)
			mustBe(t, c.name, weight(), c.want)
			mustBe(t, "a new weight: "+c.name, f.Weight("w", 0.125)(), c.want)
			warnings := f.Status().Warnings
			if c.warn == "" {
				mustBe(t, "warnings: "+c.name, len(warnings), 0)
				continue
			}
			mustHold(t, fmt.Sprint(warnings), "flag w: ", c.warn)
		}
		h.set(func() { delete(h.flags, "w") })
		wait(1)
		mustBe(t, "no such flag", weight(), 0.125)
	})
}

// A provider that evaluates nothing without a targeting key gets a targeting key for weights and Vars, and for nothing else.
func TestWeightOfAProviderThatNeedsAKey(t *testing.T) {
	hosted(t, flags.Options{}, func(t *testing.T, h *host, f *flags.Flags) {
		h.put("w", fixed(0.5))
		f.Weight("w", 0)
		mustBe(t, "the context", len(h.last()), 0)
		h.set(func() { h.keyed = true })
		h.put("w", fixed(0.75))
		weight := f.Weight("w", 0)
		wait(1)
		mustBe(t, "the weight", weight(), 0.75)
		mustBe(t, "the context", fmt.Sprint(h.last()), "map[targetingKey:midair]")
		mustHold(t, f.FloatFlag("w", 0).Details(context.Background()).ResolutionError.Error(), "TARGETING_KEY_MISSING")
		calls := h.calls()
		wait(1)
		mustBe(t, "the calls of a poll", h.calls()-calls, 1)
	})
}

// Errors and panics of the provider leave the last weights and values, and are logged once each.
func TestReadingsThatFail(t *testing.T) {
	j := &journal{}
	hosted(t, flags.Options{Logger: j.logger()}, func(t *testing.T, h *host, f *flags.Flags) {
		h.put("w", fixed(0.5))
		h.put("v", fixed(int64(7)))
		weight, v := f.Weight("w", 0), flags.NewVar(f, "v", 1, flags.VarOptions[int]{Validate: func(n int) error {
			if n > 10 {
				return errors.New("too many")
			}
			return nil
		}})
		h.set(func() { h.panics = true })
		wait(5)
		mustBe(t, "the weight in a panic", weight(), 0.5)
		mustBe(t, "lines about w", strings.Count(strings.Join(j.lines(), "\n"), "is not read from the provider, the last one stays\" key=w"), 1)
		h.set(func() { h.panics = false })
		h.put("v", fixed(int64(11)))
		wait(1)
		mustBe(t, "a value that is not valid", v.Get(), 7)
		mustHold(t, fmt.Sprint(f.Status().Warnings), "flag v", "too many")
		h.put("v", fixed("many"))
		wait(1)
		mustBe(t, "a value of another type", v.Get(), 7)
		mustHold(t, fmt.Sprint(f.Status().Warnings), "flag v", "many")
		h.put("v", fixed(int64(9)))
		wait(1)
		mustBe(t, "a good value", v.Get(), 9)
	})
}

// An evaluation that hangs holds up neither a new weight for long nor Close, and the other evaluations go on.
func TestReadingsThatHang(t *testing.T) {
	for name, ends := range map[string]bool{"until the context ends": true, "for ever": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h := newHost()
				h.put("w", fixed(0.5))
				f := from(t, h, flags.Options{})
				synctest.Wait()
				blocked := make(chan struct{})
				h.set(func() { h.blocked, h.deaf = blocked, !ends })
				began := time.Now()
				weight := f.Weight("w", 0.125)
				mustBe(t, "the time of a new weight", time.Since(began), time.Second)
				mustBe(t, "the weight", weight(), 0.125)
				mustBe(t, "a flag that is not blocked", f.Status().State, "ready")
				if ends {
					close(blocked)
					wait(2)
					mustBe(t, "the weight afterwards", weight(), 0.5)
				}
				h.set(func() { h.blocked = make(chan struct{}) })
				wait(3)
				began = time.Now()
				err := f.Close()
				if ends {
					check(t, err)
					mustBe(t, "the time of Close", time.Since(began), 0)
					return
				}
				if err == nil {
					t.Fatal("no error")
				}
				mustBe(t, "the time of Close", time.Since(began), 5*time.Second)
				mustHold(t, err.Error(), "an evaluation for a weight or a Var has not returned")
				h.set(func() { close(h.blocked) })
				close(blocked)
			})
		})
	}
}

// While new weights and a new Var wait for a provider that hangs, all other methods go on: nothing waits with the lock. A second
// weight with the same key waits for the same reading, and no longer.
func TestNothingElseWaitsForAReading(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHost()
		h.put("w", fixed(0.5))
		path := filepath.Join(t.TempDir(), "overlay.json")
		write(t, path, file("off"))
		f := from(t, h, flags.Options{Overlays: []string{path}, Poll: time.Hour})
		synctest.Wait()
		blocked := make(chan struct{})
		h.set(func() { h.blocked = blocked })
		began := time.Now()
		var waiting sync.WaitGroup
		var weights [2]float64
		for i := range weights {
			waiting.Go(func() { weights[i] = f.Weight("w", 0.125)() })
		}
		waiting.Go(func() { flags.NewVar(f, "n", 1, flags.VarOptions[int]{}) })
		synctest.Wait()
		mustBe(t, "the state", f.Status().State, "ready")
		write(t, path, file("on"))
		check(t, f.Reload())
		mustBe(t, "the new content", cart(f), "on")
		mustBe(t, "the readings", h.calls(), 2)
		mustBe(t, "the time of all this", time.Since(began), 0)
		<-time.After(time.Second / 2)
		close(blocked)
		waiting.Wait()
		mustBe(t, "the weights", fmt.Sprint(weights), "[0.5 0.5]")
		mustBe(t, "the time of a new weight", time.Since(began), time.Second/2)
		check(t, f.Close())
	})
}

// Provider, weight and Var work before the provider is ready, and follow when it is.
func TestWeightBeforeTheStart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHost()
		h.put("w", fixed(0.5))
		h.put("n", fixed(3.0))
		h.init = func() error { <-time.After(time.Minute); return nil }
		f := from(t, h, flags.Options{Poll: time.Hour})
		type config struct {
			N int     `flag:"n"`
			W float64 `flag:"w"`
		}
		weight := f.Weight("w", 0.125)
		bound, err := flags.Bind(f, config{1, 1}, flags.VarOptions[config]{})
		check(t, err)
		mustBe(t, "the weight before", weight(), 0.125)
		mustBe(t, "the struct before", bound.Get(), config{1, 1})
		wait(60)
		mustBe(t, "the weight", weight(), 0.5)
		mustBe(t, "the struct", bound.Get(), config{3, 0.5})
		mustBe(t, "a value of any type", fmt.Sprint(flags.NewVar(f, "w", any("-"), flags.VarOptions[any]{}).Get()), "0.5")
		mustBe(t, "the whole", f.Float(context.Background(), "n", 0), 3)
		check(t, f.Close())
	})
}
