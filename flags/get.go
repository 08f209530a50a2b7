package flags

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/open-feature/go-sdk/openfeature"
)

// The ways in which an evaluation fails. The caller's default is the answer to each of them.
var (
	errNotReady = errors.New("there are no values yet")
	errNotFound = errors.New("there is no such flag")
	errType     = errors.New("the flag has another type")
	errChoice   = errors.New("the rule chose what is not a variant")
	errPanic    = errors.New("panic")
)

// typed is how a variant is taken as a T.
type typed[T any] func(*variant) (T, kind, bool)

func asBool(v *variant) (bool, kind, bool)     { return v.flag, boolean, true }
func asString(v *variant) (string, kind, bool) { return v.text, text, true }
func asFloat(v *variant) (float64, kind, bool) { return v.num, number, true }
func asInt(v *variant) (int64, kind, bool)     { return v.whole, number, v.exact }
func asObject(v *variant) (any, kind, bool)    { return plain(v.raw), object, true }

// answer is the outcome of an evaluation.
type answer struct {
	flag    *flag
	variant *variant
	reason  openfeature.Reason
	err     error
}

// find returns the flag of that name, or why there is none.
func (f *Flags) find(key string) (*flag, error) {
	cur := f.cur.Load()
	if cur == nil {
		return nil, errNotReady
	}
	if fl := cur.flags[key]; fl != nil {
		return fl, nil
	}
	return nil, errNotFound
}

// decide chooses the variant. It is nil where the caller's default is the answer.
func (fl *flag) decide(ctx context.Context, flat openfeature.FlattenedContext) (a answer) {
	switch {
	case fl.disabled:
		return answer{flag: fl, reason: openfeature.DisabledReason}
	case fl.rule != nil:
		return fl.target(ctx, flat)
	case fl.fallback == nil:
		return answer{flag: fl, reason: openfeature.DefaultReason}
	}
	return answer{flag: fl, variant: fl.fallback, reason: openfeature.StaticReason}
}

// target evaluates the rule. What the program's own functions do to it, such as a panic in a function of
// Options.Attributes, is an error of this evaluation.
func (fl *flag) target(ctx context.Context, flat openfeature.FlattenedContext) (a answer) {
	defer func() {
		if p := recover(); p != nil {
			a = answer{flag: fl, err: fmt.Errorf("%w: %v", errPanic, p)}
		}
	}()
	e := env{ctx: ctx, flat: flat}
	if flat == nil {
		e.ec = openfeature.TransactionContext(ctx)
	}
	v := fl.rule(e)
	if v.kind == null {
		return answer{flag: fl, variant: fl.fallback, reason: openfeature.DefaultReason}
	}
	chosen, _ := v.ref.(*variant)
	if chosen == nil {
		name, _ := v.name()
		chosen = fl.variants[name]
	}
	if chosen == nil {
		return answer{flag: fl, err: fmt.Errorf("%w: %#v", errChoice, v)}
	}
	return answer{flag: fl, variant: chosen, reason: openfeature.TargetingMatchReason}
}

// evaluate gives the value, or def where that is the answer.
func evaluate[T any](ctx context.Context, f *Flags, fl *flag, missing error, flat openfeature.FlattenedContext, def T, as typed[T]) (T, answer) {
	a := answer{err: missing}
	if fl != nil {
		a = fl.decide(ctx, flat)
	}
	if a.variant != nil {
		got, want, ok := as(a.variant)
		if ok && fl.kind == want {
			return got, a
		}
		a.err = errType
	}
	if a.err != nil {
		f.errors.Add(1)
	}
	return def, a
}

// get evaluates by name.
func get[T any](ctx context.Context, f *Flags, key string, def T, as typed[T]) T {
	fl, missing := f.find(key)
	v, _ := evaluate(ctx, f, fl, missing, nil, def, as)
	return v
}

// Bool returns the value of a boolean flag for ctx, see [With]. It is def if the flag is disabled or has no default
// variant, and also if something is wrong: no such flag, another type, no values yet. Status counts those.
func (f *Flags) Bool(ctx context.Context, key string, def bool) bool {
	return get(ctx, f, key, def, asBool)
}

// String is Bool for a flag whose variants are strings.
func (f *Flags) String(ctx context.Context, key, def string) string {
	return get(ctx, f, key, def, asString)
}

// Float is Bool for a flag whose variants are numbers.
func (f *Flags) Float(ctx context.Context, key string, def float64) float64 {
	return get(ctx, f, key, def, asFloat)
}

// Int is Bool for a flag whose variants are numbers. One that is not a whole number is of another type.
func (f *Flags) Int(ctx context.Context, key string, def int64) int64 {
	return get(ctx, f, key, def, asInt)
}

// Object is Bool for a flag whose variants are objects: a map[string]any with float64 for numbers, which is the caller's.
func (f *Flags) Object(ctx context.Context, key string, def any) any {
	return get(ctx, f, key, def, asObject)
}

// detail is a value with all that OpenFeature wants to know about it.
func detail[T any](key string, v T, a answer) openfeature.GenericResolutionDetail[T] {
	d := openfeature.GenericResolutionDetail[T]{Value: v}
	if a.flag != nil {
		d.FlagMetadata = maps.Clone(a.flag.metadata)
	}
	if a.err != nil {
		d.Reason = openfeature.ErrorReason
		d.ResolutionError = resolution(key, a)
		return d
	}
	d.Reason = a.reason
	if a.variant != nil {
		d.Variant = a.variant.name
	}
	return d
}

func resolution(key string, a answer) openfeature.ResolutionError {
	message := fmt.Sprintf("flag %s: %v", key, a.err)
	switch a.err {
	case errNotReady:
		return openfeature.NewProviderNotReadyResolutionError(message)
	case errNotFound:
		return openfeature.NewFlagNotFoundResolutionError(message)
	case errType:
		return openfeature.NewTypeMismatchResolutionError(message)
	}
	return openfeature.NewGeneralResolutionError(message, a.err)
}
