package hosted

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/open-feature/go-sdk/openfeature"
)

// The errors of an evaluation that do not come from the provider.
var (
	// ErrNotReady is the error of an evaluation before the provider has started.
	ErrNotReady = errors.New("there are no values yet")
	// ErrPanic is wrapped by the error of a call that has panicked.
	ErrPanic = errors.New("panic")

	errClosed = errors.New("the flags are closed")
)

// An Answer is what a provider says besides a value. With an error the value is the default of the caller.
type Answer struct {
	Variant  string // also with an error, if the provider has named a variant
	Reason   openfeature.Reason
	Metadata map[string]any
	Err      error
	Code     openfeature.ErrorCode // may be empty with an error
}

// A Getter evaluates a flag of the type T: a method of the client.
type Getter[T any] func(c *openfeature.Client, ctx context.Context, key string, def T, ec openfeature.EvaluationContext,
	options ...openfeature.Option) (openfeature.GenericEvaluationDetails[T], error)

// The getters of the types of OpenFeature.
var (
	Bool   Getter[bool]    = (*openfeature.Client).BooleanValueDetails
	String Getter[string]  = (*openfeature.Client).StringValueDetails
	Float  Getter[float64] = (*openfeature.Client).FloatValueDetails
	Int    Getter[int64]   = (*openfeature.Client).IntValueDetails
	Object Getter[any]     = (*openfeature.Client).ObjectValueDetails
)

// Ask evaluates a flag of the provider. A client of the SDK has merged all contexts into flat; otherwise flat is nil. While the
// provider is not ready, and after Close, a kept value is the answer if there is one.
func Ask[T any](ctx context.Context, h *Provider, key string, flat openfeature.FlattenedContext, def T,
	get Getter[T]) (v T, a Answer) {
	defer func() {
		if r := recover(); r != nil {
			v, a = def, Answer{Err: fmt.Errorf("%w: %v", ErrPanic, r)}
		}
	}()
	place := slot{key, reflect.TypeFor[T]().Kind()}
	if closed := h.closed.Load(); closed || !h.IsReady() {
		if x, ok := h.kept.get(place).(T); ok {
			return x, Answer{Reason: openfeature.CachedReason}
		}
		switch {
		case closed:
			return def, Answer{Err: errClosed}
		case !h.started():
			return def, Answer{Err: ErrNotReady}
		}
	}
	d, err := get(h.client, ctx, key, def, h.with(ctx, flat))
	switch {
	case err == nil:
		h.kept.note(place, d.Value, d.Reason == openfeature.StaticReason)
		return d.Value, Answer{Variant: d.Variant, Reason: d.Reason, Metadata: d.FlagMetadata}
	case d.ErrorCode == openfeature.FlagNotFoundCode, d.ErrorCode == openfeature.TypeMismatchCode:
		h.kept.note(place, nil, false)
	}
	if d.ErrorMessage != "" {
		err = &plainError{d.ErrorMessage, err}
	}
	return def, Answer{Variant: d.Variant, Err: err, Code: d.ErrorCode, Metadata: d.FlagMetadata}
}

// A plainError has the message of a provider without what the SDK adds.
type plainError struct {
	message string
	err     error
}

func (e *plainError) Error() string { return e.message }
func (e *plainError) Unwrap() error { return e.err }

// with adds what the program knows about a request to the attributes of a caller.
func (h *Provider) with(ctx context.Context, flat openfeature.FlattenedContext) openfeature.EvaluationContext {
	own := h.config.Attributes
	if flat == nil && len(own) == 0 {
		return openfeature.EvaluationContext{} // the client adds what the context says
	}
	attrs := make(map[string]any, len(flat)+len(own))
	key := ""
	for name, x := range flat {
		if name == openfeature.TargetingKey {
			key, _ = x.(string)
			continue
		}
		attrs[name] = x
	}
	for name, fn := range own {
		if x := fn(ctx); x != "" {
			attrs[name] = x
		}
	}
	return openfeature.NewEvaluationContext(key, attrs)
}
