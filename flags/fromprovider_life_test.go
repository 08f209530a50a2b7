package flags_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/flags"
	"github.com/open-feature/go-sdk/openfeature"
)

// Ready waits for a slow start, and until then callers have their defaults.
func TestProviderThatStartsSlowly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, began := newHost(), time.Now()
		h.put("f", fixed(true))
		h.init = func() error { <-time.After(7 * time.Second); return nil }
		f := from(t, h, flags.Options{})
		d := f.BoolFlag("f", false).Details(context.Background())
		mustBe(t, "the value before", d.Value, false)
		mustHold(t, d.ResolutionError.Error(), "PROVIDER_NOT_READY")
		mustBe(t, "the calls before", h.calls(), 0)
		mustBe(t, "the errors", f.Status().EvaluationErrors, 1)
		err := f.Ready(within(t, 2))
		if err == nil {
			t.Fatal("ready before Init has returned")
		}
		mustHold(t, err.Error(), "flags: provider acme: NOT_READY")
		mustHold(t, f.Status().State, "not ready: flags: provider acme")
		check(t, f.Ready(within(t, 20)))
		mustBe(t, "the time", time.Since(began), 7*time.Second)
		mustBe(t, "the value", f.Bool(context.Background(), "f", false), true)
		mustBe(t, "the state", f.Status().State, "ready")
		check(t, f.Close())
	})
}

// Close ends within its limit while Init never returns, and leaves nothing but Init.
func TestInitThatNeverReturns(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, forever := newHost(), make(chan struct{})
		h.init = func() error { <-forever; return nil }
		f := from(t, h, flags.Options{})
		mustHold(t, f.Ready(within(t, 1)).Error(), "acme")
		began := time.Now()
		err := f.Close()
		mustBe(t, "the time", time.Since(began), 5*time.Second)
		if err == nil {
			t.Fatal("no error")
		}
		mustHold(t, err.Error(), "flags: the provider acme does not shut down", "Init has not returned")
		mustBe(t, "the calls of Shutdown", h.ends, 1)
		mustBe(t, "the second Close", f.Close(), err)
		mustBe(t, "the calls of Shutdown", h.ends, 1)
		close(forever) // else the bubble fails: it is what Close has left
	})
}

// Close ends an Init that knows contexts, and does not shut the provider down while Init is in it.
func TestCloseEndsInit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, running := &aware{host: newHost()}, false
		h.begin = func(ctx context.Context) error {
			running = true
			<-ctx.Done()
			<-time.After(time.Second / 2)
			running = false
			return ctx.Err()
		}
		h.end = func(context.Context) error {
			mustBe(t, "Init runs during Shutdown", running, false)
			return nil
		}
		f := from(t, h, flags.Options{})
		synctest.Wait()
		began := time.Now()
		check(t, f.Close())
		mustBe(t, "the time", time.Since(began), time.Second/2)
	})
}

// Close gives up a Shutdown that never returns, an error and a panic of Shutdown are its error, and evaluations go on meanwhile.
func TestShutdownThatFails(t *testing.T) {
	forever := make(chan struct{})
	for name, c := range map[string]struct {
		p    func(*host) openfeature.FeatureProvider
		want string
		time time.Duration
	}{
		"never": {func(h *host) openfeature.FeatureProvider {
			h.shutdown = func() { <-forever }
			return h
		}, "Shutdown has not returned", 5 * time.Second},
		"panic": {func(h *host) openfeature.FeatureProvider {
			h.shutdown = func() { panic("closed twice") }
			return h
		}, "Shutdown: panic: closed twice", 0},
		"error": {func(h *host) openfeature.FeatureProvider {
			return &aware{h, func(context.Context) error { return nil }, func(context.Context) error { return errors.New("no network") }}
		}, "no network", 0},
		"until its context ends": {func(h *host) openfeature.FeatureProvider {
			return &aware{h, func(context.Context) error { return nil }, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
		}, "", 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				forever = make(chan struct{})
				h := newHost()
				h.put("f", fixed(true))
				f := from(t, c.p(h), flags.Options{})
				check(t, f.Ready(within(t, 1)))
				mustBe(t, "the value", f.Bool(context.Background(), "f", false), true)
				began, done := time.Now(), make(chan error)
				go func() { done <- f.Close() }()
				synctest.Wait()
				mustBe(t, "the value during Close", f.Bool(context.Background(), "f", false), true)
				err := <-done
				mustBe(t, "the time", time.Since(began), c.time)
				if err == nil {
					t.Fatal("no error")
				}
				mustHold(t, err.Error(), "flags: the provider acme does not shut down", c.want)
				close(forever)
			})
		})
	}
}

// A panic of Init does not end the program: it is the reason why the provider is not ready.
func TestInitThatPanics(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHost()
		h.init = func() error { panic("no key") }
		f := from(t, h, flags.Options{})
		err := f.Ready(within(t, 1))
		mustHold(t, err.Error(), "flags: provider acme: ERROR", "no key")
		mustBe(t, "the cause", errors.Is(err, flags.ErrPanic), true)
		check(t, f.Close())
	})
}

// A provider whose start failed becomes ready by its event. Until then the SDK asks it, and so do Flags.
func TestStartThatFailsAndRecovers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, cause := newHost(), errors.New("no network")
		h.init = func() error { return cause }
		f := from(t, h, flags.Options{})
		await := listen(t, f.Client())
		err := f.Ready(within(t, 3))
		mustHold(t, err.Error(), "flags: provider acme: ERROR", "no network")
		mustBe(t, "the cause", errors.Is(err, cause), true)
		await(openfeature.ProviderError)
		h.put("f", fixed(true))
		mustBe(t, "the value in state ERROR", f.Bool(context.Background(), "f", false), true)
		h.emit(openfeature.ProviderReady, "", "")
		await(openfeature.ProviderReady)
		check(t, f.Ready(within(t, 0)))
		mustBe(t, "the state", f.Status().State, "ready")
		check(t, f.Close())
	})
}

// Each state of the provider is told with its message and its name, and the values are served all the same, but for FATAL.
func TestStatesOfAProvider(t *testing.T) {
	hosted(t, flags.Options{}, func(t *testing.T, h *host, f *flags.Flags) {
		h.put("f", fixed(true))
		client := f.Client()
		for _, c := range []struct {
			event         openfeature.EventType
			code          openfeature.ErrorCode
			message, want string
			state         openfeature.State
			value         bool
		}{
			{openfeature.ProviderStale, "", "the stream ended", "stale: STALE: the stream ended", openfeature.StaleState, true},
			{openfeature.ProviderError, "", "no network", "stale: ERROR: no network", openfeature.StaleState, true},
			{openfeature.ProviderStale, "", "", "stale: STALE", openfeature.StaleState, true},
			{openfeature.ProviderReady, "", "", "ready", openfeature.ReadyState, true},
			{openfeature.ProviderError, openfeature.ProviderFatalCode, "no licence", "stale: FATAL: no licence", openfeature.StaleState, false},
			{openfeature.ProviderConfigChange, "", "", "stale: FATAL: no licence", openfeature.StaleState, false},
			{openfeature.ProviderReady, "", "", "ready", openfeature.ReadyState, true},
		} {
			h.emit(c.event, c.message, c.code)
			mustBe(t, "the state", f.Status().State, c.want)
			mustBe(t, "the state of the client", client.State(), c.state)
			mustBe(t, "the value", f.Bool(context.Background(), "f", false), c.value)
			check(t, f.Ready(context.Background()))
		}
	})
}

// Ready does not wait for a provider which says that it never will be ready.
func TestReadyOfAFatalProvider(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, began := newHost(), time.Now()
		h.init = func() error {
			<-time.After(time.Second)
			return &openfeature.ProviderInitError{ErrorCode: openfeature.ProviderFatalCode, Message: "the key is revoked"}
		}
		f := from(t, h, flags.Options{})
		mustHold(t, f.Ready(within(t, 60)).Error(), "flags: provider acme: FATAL: the key is revoked")
		mustBe(t, "the time", time.Since(began), time.Second)
		check(t, f.Close())
	})
}

// A provider that only evaluates is ready at once.
func TestProviderWithoutStates(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := &fake{}
		p.put("f", fixed("x"))
		f := from(t, p, flags.Options{})
		check(t, f.Ready(within(t, 1)))
		mustBe(t, "the value", f.String(context.Background(), "f", ""), "x")
		f.Client().Track(context.Background(), "sale", openfeature.EvaluationContext{}, openfeature.TrackingEventDetails{})
		check(t, f.Close())
	})
}

// A provider belongs to one Flags until Close; without a provider there are none.
func TestProviderBelongsToOneFlags(t *testing.T) {
	h := newHost()
	h.put("f", fixed(true))
	for range 2 {
		f := from(t, h, flags.Options{})
		check(t, f.Ready(context.Background()))
		_, err := flags.FromProvider(h, flags.Options{})
		if err == nil {
			t.Fatal("a provider serves two Flags")
		}
		mustHold(t, err.Error(), "flags: FromProvider: the provider acme serves other Flags")
		check(t, f.Close())
	}
	for _, p := range []openfeature.FeatureProvider{nil, (*host)(nil)} {
		if _, err := flags.FromProvider(p, flags.Options{}); err == nil {
			t.Error("no error without a provider")
		}
	}
	if _, err := flags.FromProvider(h, flags.Options{Defaults: []byte("{")}); err == nil {
		t.Error("no error with broken defaults")
	}
}

// After Close the provider is left in peace: static flags keep their values, and all others are defaults.
func TestProviderIsNotAskedAfterClose(t *testing.T) {
	h := newHost()
	h.put("f", fixed(true))
	h.put("g", fact{value: true, reason: openfeature.TargetingMatchReason})
	f := from(t, h, flags.Options{})
	check(t, f.Ready(context.Background()))
	ctx := context.Background()
	mustBe(t, "before", f.Bool(ctx, "f", false) && f.Bool(ctx, "g", false), true)
	check(t, f.Close())
	asked := h.calls()
	d := f.BoolFlag("f", false).Details(ctx)
	mustBe(t, "the static flag", d.Value, true)
	mustBe(t, "its reason", d.Reason, openfeature.CachedReason)
	other := f.BoolFlag("g", false).Details(ctx)
	mustBe(t, "the other flag", other.Value, false)
	mustHold(t, other.ResolutionError.Error(), "the flags are closed")
	mustBe(t, "a Var", flags.NewVar(f, "f", false, flags.VarOptions[bool]{}).Get(), false)
	mustBe(t, "the calls", h.calls(), asked)
}
