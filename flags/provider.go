package flags

import (
	"context"

	"github.com/open-feature/go-sdk/openfeature"
)

// A provider lets clients of the OpenFeature SDK evaluate the flags.
type provider struct {
	s       *store
	channel *channel
}

var (
	_ openfeature.FeatureProvider          = (*provider)(nil)
	_ openfeature.ContextAwareStateHandler = (*provider)(nil)
	_ openfeature.EventHandler             = (*provider)(nil)
	_ openfeature.Tracker                  = (*provider)(nil)
)

// Metadata names the provider.
func (p *provider) Metadata() openfeature.Metadata { return openfeature.Metadata{Name: providerName} }

// Hooks returns none.
func (p *provider) Hooks() []openfeature.Hook { return nil }

// EventChannel is where events come from.
func (p *provider) EventChannel() <-chan openfeature.Event { return p.channel.events }

// Init fails if there are no values yet. The provider is of use all the same, and says when there are.
func (p *provider) Init(openfeature.EvaluationContext) error {
	if err := p.s.channels.join(p.channel, p.s.ready()); err != nil {
		return &openfeature.ProviderInitError{ErrorCode: openfeature.ProviderNotReadyCode, Message: err.Error()}
	}
	return nil
}

// InitWithContext is Init.
func (p *provider) InitWithContext(_ context.Context, ec openfeature.EvaluationContext) error {
	return p.Init(ec)
}

// Shutdown ends the events.
func (p *provider) Shutdown() {
	p.s.channels.leave(p.channel)
}

// ShutdownWithContext is Shutdown.
func (p *provider) ShutdownWithContext(context.Context) error {
	p.Shutdown()
	return nil
}

// Track passes an event on to the provider of FromProvider, if that tracks events.
func (p *provider) Track(ctx context.Context, name string, ec openfeature.EvaluationContext, details openfeature.TrackingEventDetails) {
	if h := p.s.provider; h != nil {
		h.Track(ctx, name, ec, details)
	}
}

func resolve[T any](ctx context.Context, p *provider, key string, def T, flat openfeature.FlattenedContext, as *typed[T]) openfeature.GenericResolutionDetail[T] {
	now, pin := p.s.at(ctx)
	e, missing := now.find(key)
	v, a := evaluate(ctx, &p.s.current, key, e, missing, pin, flat, def, as)
	return detail(key, v, a)
}

// BooleanEvaluation evaluates a boolean flag.
func (p *provider) BooleanEvaluation(ctx context.Context, key string, def bool, flat openfeature.FlattenedContext) openfeature.BoolResolutionDetail {
	return resolve(ctx, p, key, def, flat, &asBool)
}

// StringEvaluation evaluates a string flag.
func (p *provider) StringEvaluation(ctx context.Context, key, def string, flat openfeature.FlattenedContext) openfeature.StringResolutionDetail {
	return resolve(ctx, p, key, def, flat, &asString)
}

// FloatEvaluation evaluates a number flag.
func (p *provider) FloatEvaluation(ctx context.Context, key string, def float64, flat openfeature.FlattenedContext) openfeature.FloatResolutionDetail {
	return resolve(ctx, p, key, def, flat, &asFloat)
}

// IntEvaluation evaluates a number flag whose value is whole.
func (p *provider) IntEvaluation(ctx context.Context, key string, def int64, flat openfeature.FlattenedContext) openfeature.IntResolutionDetail {
	return resolve(ctx, p, key, def, flat, &asInt)
}

// ObjectEvaluation evaluates an object flag.
func (p *provider) ObjectEvaluation(ctx context.Context, key string, def any, flat openfeature.FlattenedContext) openfeature.InterfaceResolutionDetail {
	return resolve(ctx, p, key, def, flat, &asObject)
}

func newProvider(s *store) *provider {
	return &provider{s: s, channel: newChannel()}
}
