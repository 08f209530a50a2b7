package flags

import (
	"context"
	"math"

	"github.com/open-feature/go-sdk/openfeature"
)

// get evaluates by name.
func get[T any](ctx context.Context, f *Flags, key string, def T, as *typed[T]) T {
	now, p := f.at(ctx)
	e, missing := now.find(key)
	v, _ := evaluate(ctx, &f.current, key, e, missing, p, nil, def, as)
	return v
}

// Bool returns the value of a boolean flag for ctx, see [Flags.With]. It is def if the flag is disabled or has no default
// variant, and also if something is wrong: no such flag, another type, no values yet. Status counts those.
func (f *Flags) Bool(ctx context.Context, key string, def bool) bool {
	return get(ctx, f, key, def, &asBool)
}

// String is Bool for a flag whose variants are strings.
func (f *Flags) String(ctx context.Context, key, def string) string {
	return get(ctx, f, key, def, &asString)
}

// Float is Bool for a flag whose variants are numbers.
func (f *Flags) Float(ctx context.Context, key string, def float64) float64 {
	return get(ctx, f, key, def, &asFloat)
}

// Int is Bool for a flag whose variants are numbers. A number that is not whole is of another type.
func (f *Flags) Int(ctx context.Context, key string, def int64) int64 {
	return get(ctx, f, key, def, &asInt)
}

// Object is Bool for a flag whose variants are objects: a map[string]any with float64 for numbers, which is the caller's.
func (f *Flags) Object(ctx context.Context, key string, def any) any {
	return get(ctx, f, key, def, &asObject)
}

// A Flag is a handle to a flag. It follows the files like everything else, and saves the look for the name.
type Flag[T any] struct {
	c     *current
	index int
	key   string
	def   T
	as    *typed[T]
}

func newFlag[T any](f *Flags, key string, def T, as *typed[T]) Flag[T] {
	return Flag[T]{&f.current, f.handle(key, false), key, def, as}
}

// BoolFlag returns a handle; def is as in Bool.
func (f *Flags) BoolFlag(key string, def bool) Flag[bool] { return newFlag(f, key, def, &asBool) }

// StringFlag returns a handle; def is as in String.
func (f *Flags) StringFlag(key, def string) Flag[string] { return newFlag(f, key, def, &asString) }

// FloatFlag returns a handle; def is as in Float.
func (f *Flags) FloatFlag(key string, def float64) Flag[float64] {
	return newFlag(f, key, def, &asFloat)
}

// IntFlag returns a handle; def is as in Int.
func (f *Flags) IntFlag(key string, def int64) Flag[int64] { return newFlag(f, key, def, &asInt) }

// ObjectFlag returns a handle; def is as in Object.
func (f *Flags) ObjectFlag(key string, def any) Flag[any] { return newFlag(f, key, def, &asObject) }

func (h Flag[T]) evaluate(ctx context.Context) (T, answer) {
	now, p := h.c.at(ctx)
	var e *entry
	var missing error
	if now != nil && h.index < len(now.handles) {
		e = now.handles[h.index]
	}
	if e == nil {
		e, missing = now.find(h.key)
	}
	return evaluate(ctx, h.c, h.key, e, missing, p, nil, h.def, h.as)
}

// Get returns the value for ctx, see [Flags.With]. It allocates nothing, unless the flag is an object, its rule makes texts or
// lists, or it is the flag of a provider.
func (h Flag[T]) Get(ctx context.Context) T {
	v, _ := h.evaluate(ctx)
	return v
}

// Details returns the value with the variant, the reason, the metadata, and the error if there was one.
func (h Flag[T]) Details(ctx context.Context) openfeature.GenericResolutionDetail[T] {
	v, a := h.evaluate(ctx)
	return detail(h.key, v, a)
}

// Weight returns a function that gives the value of a number flag as a share of the traffic, for canary.Options.Weight and the
// like. The value is def as long as there are no values, and whenever the flag is missing, disabled, no number, not in [0,1], or
// depends on targeting: a weight is for everybody. Status and the log have a warning for the last three. A def that is not in
// [0,1] is 0. Each call of the function is one atomic load. The value changes when the file does.
func (f *Flags) Weight(key string, def float64) func() float64 {
	if !(def >= 0 && def <= 1) {
		def = 0
	}
	c, i := &f.current, f.handle(key, true)
	return func() float64 {
		now := c.now.Load()
		if now == nil || i >= len(now.weights) {
			return def
		}
		if w := now.weights[i]; !math.IsNaN(w) {
			return w
		}
		return def
	}
}
