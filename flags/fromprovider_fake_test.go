package flags_test

import (
	"context"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/flags"
	"github.com/open-feature/go-sdk/openfeature"
)

// fact is what a fake provider says about a flag. Without a value it says the default of the caller.
type fact struct {
	value    any
	reason   openfeature.Reason
	variant  string
	metadata map[string]any
	err      openfeature.ResolutionError
}

// fixed is a flag that is the same for everybody.
func fixed(value any) fact { return fact{value: value, reason: openfeature.StaticReason, variant: "v"} }

// fake is a provider that only evaluates.
type fake struct {
	mu      sync.Mutex
	flags   map[string]fact
	seen    []openfeature.FlattenedContext
	panics  bool
	hooks   []openfeature.Hook
	blocked chan struct{} // evaluations wait until it is closed or their context ends
	deaf    bool          // to the end of their context
	keyed   bool          // nothing is evaluated without a targeting key
	lenient bool          // a number is whole when that is asked for
}

func (f *fake) put(key string, is fact) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.flags = maps.Clone(f.flags)
	if f.flags == nil {
		f.flags = map[string]fact{}
	}
	f.flags[key] = is
}

func (f *fake) last() openfeature.FlattenedContext {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen[len(f.seen)-1]
}

// calls is how often the provider was asked.
func (f *fake) calls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.seen)
}

func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func say[T any](ctx context.Context, f *fake, key string, def T, flat openfeature.FlattenedContext) (d openfeature.GenericResolutionDetail[T]) {
	f.mu.Lock()
	f.seen = append(f.seen, maps.Clone(flat))
	is, known := f.flags[key]
	panics, blocked, keyed := f.panics, f.blocked, f.keyed
	if f.deaf {
		ctx = context.Background()
	}
	f.mu.Unlock()
	if blocked != nil {
		select {
		case <-ctx.Done():
		case <-blocked:
		}
	}
	if panics {
		panic("evaluation")
	}
	value, ok := is.value.(T)
	d.Value, d.Reason, d.Variant, d.FlagMetadata, d.ResolutionError = value, is.reason, is.variant, is.metadata, is.err
	switch {
	case !known:
		d.ResolutionError = openfeature.NewFlagNotFoundResolutionError("not here")
	case is.err != openfeature.ResolutionError{}:
	case keyed && flat[openfeature.TargetingKey] == nil:
		d.ResolutionError = openfeature.NewTargetingKeyMissingResolutionError("for whom?")
	case is.value == nil:
		d.Value = def
	case !ok:
		d.ResolutionError = openfeature.NewTypeMismatchResolutionError("another type")
	}
	if (d.ResolutionError != openfeature.ResolutionError{}) {
		d.Value, d.Reason = def, openfeature.ErrorReason
	}
	return d
}

func (f *fake) Metadata() openfeature.Metadata { return openfeature.Metadata{Name: "acme"} }

func (f *fake) Hooks() []openfeature.Hook { return f.hooks }

func (f *fake) BooleanEvaluation(ctx context.Context, key string, def bool, flat openfeature.FlattenedContext) openfeature.BoolResolutionDetail {
	return say(ctx, f, key, def, flat)
}

func (f *fake) StringEvaluation(ctx context.Context, key, def string, flat openfeature.FlattenedContext) openfeature.StringResolutionDetail {
	return say(ctx, f, key, def, flat)
}

func (f *fake) FloatEvaluation(ctx context.Context, key string, def float64, flat openfeature.FlattenedContext) openfeature.FloatResolutionDetail {
	return say(ctx, f, key, def, flat)
}

func (f *fake) IntEvaluation(ctx context.Context, key string, def int64, flat openfeature.FlattenedContext) openfeature.IntResolutionDetail {
	d := say(ctx, f, key, def, flat)
	if n, ok := f.flag(key).(float64); ok && f.lenient {
		return openfeature.IntResolutionDetail{Value: int64(n)}
	}
	return d
}

func (f *fake) ObjectEvaluation(ctx context.Context, key string, def any, flat openfeature.FlattenedContext) openfeature.InterfaceResolutionDetail {
	if x := f.flag(key); x != nil && reflect.TypeOf(x).Kind() != reflect.Map {
		d := say(ctx, f, key, struct{}{}, flat) // another type
		return openfeature.InterfaceResolutionDetail{Value: def, ProviderResolutionDetail: d.ProviderResolutionDetail}
	}
	d := say(ctx, f, key, def, flat)
	d.Value = fresh(d.Value)
	return d
}

// fresh returns a copy of an object, which is the caller's.
func fresh(x any) any {
	switch v := x.(type) {
	case map[string]any:
		v = maps.Clone(v)
		for name := range v {
			v[name] = fresh(v[name])
		}
		return v
	case []any:
		v = slices.Clone(v)
		for i := range v {
			v[i] = fresh(v[i])
		}
		return v
	}
	return x
}

func (f *fake) flag(key string) any {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.flags[key].value
}

// host is a fake with a start, an end, events and a record of what is tracked.
type host struct {
	*fake
	init     func() error
	shutdown func()
	events   chan openfeature.Event
	tracked  []string
	ends     int
}

func newHost() *host {
	return &host{fake: &fake{}, init: func() error { return nil }, shutdown: func() {}, events: make(chan openfeature.Event)}
}

func (h *host) Init(openfeature.EvaluationContext) error { return h.init() }

func (h *host) Shutdown() { h.ends++; h.shutdown() }

func (h *host) EventChannel() <-chan openfeature.Event { return h.events }

func (h *host) Track(_ context.Context, name string, ec openfeature.EvaluationContext, _ openfeature.TrackingEventDetails) {
	if name == "panic" {
		panic(name)
	}
	h.tracked = append(h.tracked, name+" by "+ec.TargetingKey())
}

// emit sends an event, and waits until all have heard of it.
func (h *host) emit(event openfeature.EventType, message string, code openfeature.ErrorCode, keys ...string) {
	h.events <- openfeature.Event{EventType: event, ProviderEventDetails: openfeature.ProviderEventDetails{Message: message, ErrorCode: code, FlagChanges: keys}}
	synctest.Wait()
}

// aware is a host whose methods know contexts.
type aware struct {
	*host
	begin func(context.Context) error
	end   func(context.Context) error
}

func (a *aware) InitWithContext(ctx context.Context, _ openfeature.EvaluationContext) error {
	return a.begin(ctx)
}

func (a *aware) ShutdownWithContext(ctx context.Context) error { return a.end(ctx) }

// from opens the flags of a provider. The provider has started if that takes no time.
func from(t testing.TB, p openfeature.FeatureProvider, opts flags.Options) *flags.Flags {
	t.Helper()
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	f, err := flags.FromProvider(p, opts)
	check(t, err)
	return f
}

// bubble runs a test with fake time. Goroutines that are left at its end fail the test.
func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}

// hosted runs a test with the flags of a host that is ready.
func hosted(t *testing.T, opts flags.Options, test func(t *testing.T, h *host, f *flags.Flags)) {
	t.Helper()
	bubble(t, func(t *testing.T) {
		h := newHost()
		f := from(t, h, opts)
		defer func() { check(t, f.Close()) }()
		synctest.Wait()
		test(t, h, f)
	})
}

// within returns a context that ends after some seconds.
func within(t *testing.T, seconds int) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(seconds)*time.Second)
	t.Cleanup(cancel)
	return ctx
}
