package hosted

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/open-feature/go-sdk/openfeature"
	"github.com/open-feature/go-sdk/openfeature/memprovider"
)

// static is a provider of one number flag, "w", which counts what it is asked.
type static struct {
	openfeature.FeatureProvider
	value  float64
	asked  atomic.Int64
	init   error
	events chan openfeature.Event
}

func newStatic() *static {
	return &static{FeatureProvider: memprovider.NewInMemoryProvider(nil), value: 0.5, events: make(chan openfeature.Event)}
}

func (s *static) Init(openfeature.EvaluationContext) error { return s.init }

func (s *static) Shutdown() {}

func (s *static) EventChannel() <-chan openfeature.Event { return s.events }

func (s *static) FloatEvaluation(_ context.Context, key string, def float64, _ openfeature.FlattenedContext) (d openfeature.FloatResolutionDetail) {
	s.asked.Add(1)
	if d.Value = def; key != "w" {
		d.ResolutionError = openfeature.NewFlagNotFoundResolutionError("not here")
		return d
	}
	d.Value, d.Variant, d.Reason = s.value, "v", openfeature.StaticReason
	return d
}

// A told Provider counts the calls of the functions of its Config. A lock that its owner would have is taken by each.
type told struct {
	owner                   sync.Mutex
	states, values, changes int
}

func (c *told) count(n *int) func() {
	return func() {
		c.owner.Lock()
		defer c.owner.Unlock()
		*n++
	}
}

func begin(t *testing.T, p openfeature.FeatureProvider) (*Provider, *told) {
	t.Helper()
	c := &told{}
	change := c.count(&c.changes)
	h, err := New(p, Config{
		Poll: time.Hour, Logger: slog.New(slog.DiscardHandler), OnState: c.count(&c.states), OnValues: c.count(&c.values),
		OnChange: func(map[string]bool) { change() },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	return h, c
}

func closes(t *testing.T, h *Provider) {
	t.Helper()
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}

// What the text of the package allows under the lock of an owner waits for nothing, also while events come in whose functions
// want the same lock.
func TestOrderOfLocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newStatic()
		h, c := begin(t, p)
		h.Read("w", reflect.Float64)
		c.owner.Lock()
		for _, event := range []openfeature.EventType{openfeature.ProviderError, openfeature.ProviderConfigChange, openfeature.ProviderStale} {
			p.events <- openfeature.Event{EventType: event}
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for reason := ""; !strings.HasPrefix(reason, "STALE"); reason, _ = h.Problem() {
				runtime.Gosched() // until the SDK has heard of the last event: its functions wait for the lock
			}
			if v := h.Values()["w"]; v == nil || v.Variant.Number != 0.5 || !h.IsReady() {
				t.Errorf("the value is %v", v)
			}
			h.Keep(h.Kept())
		}()
		<-done
		c.owner.Unlock()
		synctest.Wait()
		c.owner.Lock()
		if c.states != 3 || c.changes != 1 || c.values == 0 { // READY, ERROR and STALE
			t.Errorf("told of %d states, %d changes and %d values", c.states, c.changes, c.values)
		}
		c.owner.Unlock()
		closes(t, h)
	})
}

// All who read the same key at the same time wait for one reading.
func TestOneReadingForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newStatic()
		h, _ := begin(t, p)
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				h.Read("w", reflect.Float64)
				if v := h.Values()["w"]; v == nil || v.Variant.Number != 0.5 {
					t.Errorf("the value is %v", v)
				}
			})
		}
		all.Wait()
		synctest.Wait()
		if n := p.asked.Load(); n > 2 { // the first reading, and the one after it for OnValues
			t.Errorf("the provider was asked %d times", n)
		}
		h.Read("none", reflect.Float64)
		if v := h.Values()["none"]; v != nil {
			t.Errorf("there is a value of no flag: %v", v)
		}
		closes(t, h)
	})
}

// A reason names the state and what the provider has said, and the cause is what Init has returned until the provider is ready.
func TestProblemOfAProvider(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newStatic()
		p.init = errors.New("no network")
		h, _ := begin(t, p)
		if reason, cause := h.Problem(); cause != p.init || !strings.HasPrefix(reason, "ERROR: ") || !strings.Contains(reason, "no network") {
			t.Errorf("after a start that has failed: %q, %v", reason, cause)
		}
		p.events <- openfeature.Event{EventType: openfeature.ProviderReady}
		synctest.Wait()
		if reason, cause := h.Problem(); reason != "" || cause != nil || !h.IsReady() {
			t.Errorf("when it is ready: %q, %v", reason, cause)
		}
		p.events <- openfeature.Event{EventType: openfeature.ProviderStale, ProviderEventDetails: openfeature.ProviderEventDetails{Message: "old"}}
		synctest.Wait()
		if reason, cause := h.Problem(); reason != "STALE: old" || cause != nil {
			t.Errorf("when it is stale: %q, %v", reason, cause)
		}
		closes(t, h)
	})
}

// A provider belongs to one Provider until Close. Close may be called again, and for nil.
func TestProviderIsFreeAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newStatic()
		h, _ := begin(t, p)
		if _, err := New(p, Config{}); err == nil || !strings.Contains(err.Error(), "serves other Flags") {
			t.Errorf("a second one: %v", err)
		}
		closes(t, h)
		closes(t, h)
		closes(t, nil)
		if v, a := Ask(context.Background(), h, "w", nil, 0.25, Float); v != 0.5 && a.Err == nil {
			t.Errorf("after Close: %v, %v", v, a)
		}
		again, _ := begin(t, p)
		closes(t, again)
	})
}
