package vendors

import (
	"context"
	"encoding/json"
	"strconv"

	of "github.com/open-feature/go-sdk/openfeature"
	splitclient "github.com/splitio/go-client/v6/splitio/client"
)

// An onSplit is a provider for OpenFeature on a factory of Split that is ready.
type onSplit struct {
	factory *splitclient.SplitFactory
	client  *splitclient.SplitClient
}

func (p onSplit) Metadata() of.Metadata           { return of.Metadata{Name: "Split"} }
func (p onSplit) Hooks() []of.Hook                { return nil }
func (p onSplit) Init(of.EvaluationContext) error { return nil }
func (p onSplit) Shutdown()                       { p.factory.Destroy() }

// fromSplit evaluates a flag: an object is the configuration of the treatment, anything else is the name of the treatment. The
// names of booleans are on and off.
func fromSplit[T any](p onSplit, key string, def T, ec of.FlattenedContext,
	parse func(string) (T, error)) of.GenericResolutionDetail[T] {
	d := of.GenericResolutionDetail[T]{Value: def}
	who, _ := ec[of.TargetingKey].(string)
	r := p.client.TreatmentWithConfig(who, key, ec)
	text := r.Treatment
	switch any(&def).(type) {
	case *any:
		if text = ""; r.Config != nil {
			text = *r.Config
		}
	case *bool:
		text = map[string]string{"on": "true", "off": "false"}[text]
	}
	value, err := parse(text)
	switch {
	case who == "":
		d.ResolutionError = of.NewTargetingKeyMissingResolutionError("Split needs a key")
	case r.Treatment == "control":
		d.ResolutionError = of.NewFlagNotFoundResolutionError(key)
	case err != nil:
		d.ResolutionError = of.NewTypeMismatchResolutionError(err.Error())
	default:
		d.Value, d.Variant, d.Reason = value, r.Treatment, of.UnknownReason // the client gives no reason
		return d
	}
	d.Reason = of.ErrorReason
	return d
}

func (p onSplit) BooleanEvaluation(_ context.Context, k string, def bool, ec of.FlattenedContext) of.BoolResolutionDetail {
	return fromSplit(p, k, def, ec, strconv.ParseBool)
}
func (p onSplit) StringEvaluation(_ context.Context, k string, def string, ec of.FlattenedContext) of.StringResolutionDetail {
	return fromSplit(p, k, def, ec, func(s string) (string, error) { return s, nil })
}
func (p onSplit) FloatEvaluation(_ context.Context, k string, def float64, ec of.FlattenedContext) of.FloatResolutionDetail {
	return fromSplit(p, k, def, ec, func(s string) (float64, error) { return strconv.ParseFloat(s, 64) })
}
func (p onSplit) IntEvaluation(_ context.Context, k string, def int64, ec of.FlattenedContext) of.IntResolutionDetail {
	return fromSplit(p, k, def, ec, func(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) })
}
func (p onSplit) ObjectEvaluation(_ context.Context, k string, def any, ec of.FlattenedContext) of.InterfaceResolutionDetail {
	return fromSplit(p, k, def, ec, func(s string) (v any, err error) { err = json.Unmarshal([]byte(s), &v); return v, err })
}
