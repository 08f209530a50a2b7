package hosted

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/open-feature/go-sdk/openfeature"
)

// readLimit is when the context of a reading ends.
const readLimit = 10 * time.Second

// readKey is the targeting key of readings, for providers that evaluate nothing without a targeting key.
const readKey = "midair"

// A questioner asks a provider for the value that everybody gets, without knowledge of the type of the flag.
type questioner struct {
	client *openfeature.Client
	keyed  atomic.Bool // the provider needs a targeting key
}

// read asks for the value that everybody gets, as the first kinds, and if the flag has another type as all others: then the caller
// can say what is wrong. The value is nil if there is no such flag, or no value but the default of the caller.
func (q *questioner) read(ctx context.Context, key string, first ...reflect.Kind) (v *Value, found reflect.Kind, err error) {
	defer func() {
		if r := recover(); r != nil {
			v, err = nil, fmt.Errorf("%w: %v", ErrPanic, r)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	for _, k := range append(first, reflect.Int64, reflect.Float64, reflect.Bool, reflect.String, reflect.Map) {
		x, d := q.ask(ctx, key, k, defaults[k][0])
		switch {
		case d.ErrorCode == openfeature.TypeMismatchCode:
			err = errors.New(d.ErrorMessage)
			continue
		case d.ErrorCode == openfeature.FlagNotFoundCode:
			return nil, first[0], nil
		case d.ErrorCode != "":
			return nil, first[0], errors.New(string(d.ErrorCode) + ": " + d.ErrorMessage)
		case q.isDefault(ctx, key, k, x, d):
			return nil, k, nil
		}
		v, err = newValue(x, d)
		return v, k, err
	}
	return nil, first[0], err
}

// defaults are two values of each kind that the provider may return in place of a value.
var defaults = map[reflect.Kind][2]any{
	reflect.Bool: {false, true}, reflect.String: {"", "-"}, reflect.Float64: {0.0, 1.0}, reflect.Int64: {int64(0), int64(1)},
	reflect.Map: {nil, map[string]any{"default": true}},
}

// isDefault reports whether a value is not that of the flag but the default of the caller, as for a flag that is disabled. If that
// is possible the provider is asked a second time, with another default.
func (q *questioner) isDefault(ctx context.Context, key string, kind reflect.Kind, x any, d openfeature.EvaluationDetails) bool {
	sure := d.Variant != "" && d.Reason != openfeature.DisabledReason && d.Reason != openfeature.DefaultReason
	if sure || !reflect.DeepEqual(x, defaults[kind][0]) {
		return false
	}
	again, d := q.ask(ctx, key, kind, defaults[kind][1])
	return d.ErrorCode == "" && reflect.DeepEqual(again, defaults[kind][1])
}

// ask evaluates a flag of the provider with an empty context, or with readKey alone if the provider wants a targeting key.
func (q *questioner) ask(ctx context.Context, key string, kind reflect.Kind, def any) (any, openfeature.EvaluationDetails) {
	if !q.keyed.Load() {
		x, d := q.askFor(ctx, "", key, kind, def)
		if d.ErrorCode != openfeature.TargetingKeyMissingCode {
			return x, d
		}
	}
	x, d := q.askFor(ctx, readKey, key, kind, def)
	q.keyed.Store(true)
	return x, d
}

func (q *questioner) askFor(ctx context.Context, who, key string, kind reflect.Kind, def any) (any, openfeature.EvaluationDetails) {
	ec := openfeature.NewEvaluationContext(who, nil)
	switch kind {
	case reflect.Bool:
		r, err := q.client.BooleanValueDetails(ctx, key, def.(bool), ec)
		return r.Value, coded(r.EvaluationDetails, err)
	case reflect.String:
		r, err := q.client.StringValueDetails(ctx, key, def.(string), ec)
		return r.Value, coded(r.EvaluationDetails, err)
	case reflect.Float64:
		r, err := q.client.FloatValueDetails(ctx, key, def.(float64), ec)
		return r.Value, coded(r.EvaluationDetails, err)
	case reflect.Int64:
		r, err := q.client.IntValueDetails(ctx, key, def.(int64), ec)
		return r.Value, coded(r.EvaluationDetails, err)
	}
	r, err := q.client.ObjectValueDetails(ctx, key, def, ec)
	return r.Value, coded(r.EvaluationDetails, err)
}

// coded gives the errors of hooks, which have no code, the general code.
func coded(d openfeature.EvaluationDetails, err error) openfeature.EvaluationDetails {
	if err != nil && d.ErrorCode == "" {
		d.ErrorCode, d.ErrorMessage = openfeature.GeneralCode, err.Error()
	}
	return d
}
