package flags

import (
	"context"
	"sync"

	"github.com/open-feature/go-sdk/openfeature"
	"github.com/open-feature/go-sdk/openfeature/isolated"
)

// provider lets clients of the OpenFeature SDK evaluate the flags.
type provider struct {
	f      *Flags
	events chan openfeature.Event

	told openfeature.EventType // the state that the SDK knows of; Flags.mu
}

var (
	_ openfeature.FeatureProvider          = (*provider)(nil)
	_ openfeature.ContextAwareStateHandler = (*provider)(nil)
	_ openfeature.EventHandler             = (*provider)(nil)
)

// Provider returns an OpenFeature provider of the flags, for an API that the program sets up itself. A provider belongs
// to one API, so each call returns another one. Its events tell what changed, when the file is refused and when it is
// good again; after Close of the flags there are no more of them.
func (f *Flags) Provider() openfeature.FeatureProvider {
	return &provider{f: f, events: make(chan openfeature.Event, 16)}
}

// Metadata names the provider.
func (p *provider) Metadata() openfeature.Metadata { return openfeature.Metadata{Name: "midair"} }

// Hooks returns none.
func (p *provider) Hooks() []openfeature.Hook { return nil }

// EventChannel is where events come from.
func (p *provider) EventChannel() <-chan openfeature.Event { return p.events }

// Init fails if there are no values yet. The provider is of use all the same, and says when there are.
func (p *provider) Init(openfeature.EvaluationContext) error {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	p.f.providers[p] = struct{}{}
	p.told = openfeature.ProviderReady
	if p.f.cur.Load() != nil {
		return nil
	}
	p.told = openfeature.ProviderError
	return &openfeature.ProviderInitError{ErrorCode: openfeature.ProviderNotReadyCode, Message: p.f.err.Error()}
}

// InitWithContext is Init.
func (p *provider) InitWithContext(_ context.Context, ec openfeature.EvaluationContext) error {
	return p.Init(ec)
}

// Shutdown ends the events.
func (p *provider) Shutdown() {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	delete(p.f.providers, p)
}

// ShutdownWithContext is Shutdown.
func (p *provider) ShutdownWithContext(context.Context) error {
	p.Shutdown()
	return nil
}

// state is that of the flags in the SDK's terms. The caller holds the lock.
func (f *Flags) state() (openfeature.EventType, string) {
	switch {
	case f.err == nil:
		return openfeature.ProviderReady, "the file is served"
	case f.cur.Load() != nil:
		return openfeature.ProviderStale, f.err.Error()
	}
	return openfeature.ProviderError, f.err.Error()
}

// tell lets the SDK know of a state that is new.
func (p *provider) tell(state openfeature.EventType, why string) {
	if p.told == state {
		return
	}
	p.told = state
	p.emit(openfeature.Event{EventType: state, ProviderEventDetails: openfeature.ProviderEventDetails{Message: why}})
}

// changed lets the SDK know of new values.
func (p *provider) changed(keys []string) {
	details := openfeature.ProviderEventDetails{Message: "the file has changed", FlagChanges: keys}
	p.emit(openfeature.Event{EventType: openfeature.ProviderConfigChange, ProviderEventDetails: details})
}

// emit never waits: if nobody takes the events, the oldest one is forgotten.
func (p *provider) emit(e openfeature.Event) {
	e.ProviderName = p.Metadata().Name
	for {
		select {
		case p.events <- e:
			return
		default:
		}
		select {
		case <-p.events:
		default:
		}
	}
}

func resolve[T any](ctx context.Context, p *provider, key string, def T, flat openfeature.FlattenedContext, as typed[T]) openfeature.GenericResolutionDetail[T] {
	fl, missing := p.f.find(key)
	v, a := evaluate(ctx, p.f, fl, missing, flat, def, as)
	return detail(key, v, a)
}

// BooleanEvaluation evaluates a boolean flag.
func (p *provider) BooleanEvaluation(ctx context.Context, key string, def bool, flat openfeature.FlattenedContext) openfeature.BoolResolutionDetail {
	return resolve(ctx, p, key, def, flat, asBool)
}

// StringEvaluation evaluates a string flag.
func (p *provider) StringEvaluation(ctx context.Context, key, def string, flat openfeature.FlattenedContext) openfeature.StringResolutionDetail {
	return resolve(ctx, p, key, def, flat, asString)
}

// FloatEvaluation evaluates a number flag.
func (p *provider) FloatEvaluation(ctx context.Context, key string, def float64, flat openfeature.FlattenedContext) openfeature.FloatResolutionDetail {
	return resolve(ctx, p, key, def, flat, asFloat)
}

// IntEvaluation evaluates a number flag whose value is whole.
func (p *provider) IntEvaluation(ctx context.Context, key string, def int64, flat openfeature.FlattenedContext) openfeature.IntResolutionDetail {
	return resolve(ctx, p, key, def, flat, asInt)
}

// ObjectEvaluation evaluates an object flag.
func (p *provider) ObjectEvaluation(ctx context.Context, key string, def any, flat openfeature.FlattenedContext) openfeature.InterfaceResolutionDetail {
	return resolve(ctx, p, key, def, flat, asObject)
}

// api is the OpenFeature API of the clients that Flags gives out. It is nobody else's, so what other code does to the
// SDK's global one does not matter here.
type api struct {
	mu     sync.Mutex
	api    *openfeature.EvaluationAPI
	closed bool
}

// Client returns a client of the OpenFeature SDK for the flags, with hooks and events of its own. Hooks cost time: the
// methods of Flags and of handles give the same values without them.
func (f *Flags) Client() *openfeature.Client {
	a := &f.api
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.api == nil {
		a.api = isolated.NewAPI()
		// It fails only while there are no values; the client tells that by its state.
		_ = a.api.SetProviderAndWait(context.Background(), f.Provider())
		if a.closed {
			_ = a.api.Shutdown(context.Background())
		}
	}
	return a.api.NewClient()
}

func (a *api) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	if a.api != nil {
		_ = a.api.Shutdown(context.Background()) // our own provider has nothing to fail with
	}
}
