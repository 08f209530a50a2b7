package vendors

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	unleash "github.com/Unleash/unleash-go-sdk/v5"
	unleashcontext "github.com/Unleash/unleash-go-sdk/v5/context"
	of "github.com/open-feature/go-sdk/openfeature"
)

// An onUnleash is a provider for OpenFeature on a client of Unleash. The client gets the provider as its listener.
type onUnleash struct {
	client *unleash.Client
	events chan of.Event // has a buffer
}

func (p *onUnleash) Metadata() of.Metadata           { return of.Metadata{Name: "Unleash"} }
func (p *onUnleash) Hooks() []of.Hook                { return nil }
func (p *onUnleash) Init(of.EvaluationContext) error { return nil } // WaitForReady waits for the server
func (p *onUnleash) Shutdown()                       { _ = p.client.Close() }
func (p *onUnleash) EventChannel() <-chan of.Event   { return p.events }
func (p *onUnleash) OnReady()                        { p.OnUpdate() } // the bootstrap was served until now
func (p *onUnleash) OnUpdate() {
	select {
	case p.events <- of.Event{ProviderName: "Unleash", EventType: of.ProviderConfigChange}:
	default: // an event that waits says the same
	}
}

// fromUnleash evaluates a flag: a boolean says whether the flag is on, anything else is the payload of its variant.
func fromUnleash[T any](p *onUnleash, key string, def T, ec of.FlattenedContext,
	parse func(string) (T, error)) of.GenericResolutionDetail[T] {
	known, who := true, unleashcontext.Context{Properties: map[string]string{}}
	who.UserId, _ = ec[of.TargetingKey].(string)
	for name, value := range ec {
		who.Properties[name] = fmt.Sprint(value)
	}
	missing := func(string, *unleashcontext.Context) bool { known = false; return false }
	on := p.client.IsEnabled(key, unleash.WithContext(who), unleash.WithFallbackFunc(missing))
	payload, d := strconv.FormatBool(on), of.GenericResolutionDetail[T]{Value: def}
	if _, boolean := any(def).(bool); known && !boolean {
		variant := p.client.GetVariant(key, unleash.WithVariantContext(who))
		if payload, d.Variant = variant.Payload.Value, variant.Name; !variant.Enabled {
			d.Variant, d.Reason = "", of.DisabledReason
			return d
		}
	}
	if value, err := parse(payload); !known {
		d.Reason, d.ResolutionError = of.ErrorReason, of.NewFlagNotFoundResolutionError(key)
	} else if err != nil {
		d.Reason, d.ResolutionError = of.ErrorReason, of.NewTypeMismatchResolutionError(err.Error())
	} else {
		d.Value, d.Reason = value, of.UnknownReason // the client gives no reason
	}
	return d
}

func (p *onUnleash) BooleanEvaluation(_ context.Context, k string, def bool, ec of.FlattenedContext) of.BoolResolutionDetail {
	return fromUnleash(p, k, def, ec, strconv.ParseBool)
}
func (p *onUnleash) StringEvaluation(_ context.Context, k string, def string, ec of.FlattenedContext) of.StringResolutionDetail {
	return fromUnleash(p, k, def, ec, func(s string) (string, error) { return s, nil })
}
func (p *onUnleash) FloatEvaluation(_ context.Context, k string, def float64, ec of.FlattenedContext) of.FloatResolutionDetail {
	return fromUnleash(p, k, def, ec, func(s string) (float64, error) { return strconv.ParseFloat(s, 64) })
}
func (p *onUnleash) IntEvaluation(_ context.Context, k string, def int64, ec of.FlattenedContext) of.IntResolutionDetail {
	return fromUnleash(p, k, def, ec, func(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) })
}
func (p *onUnleash) ObjectEvaluation(_ context.Context, k string, def any, ec of.FlattenedContext) of.InterfaceResolutionDetail {
	return fromUnleash(p, k, def, ec, func(s string) (v any, err error) { err = json.Unmarshal([]byte(s), &v); return v, err })
}
