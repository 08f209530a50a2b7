package flags

import (
	"context"
	"math"
	"sync/atomic"

	"github.com/open-feature/go-sdk/openfeature"
)

// slot is where handles and weights find a flag. The reloader fills it; there is one for each key that was asked for.
type slot struct {
	key    string
	flag   atomic.Pointer[flag]
	weight atomic.Uint64 // bits of a float64; NaN if the flag cannot be a weight
}

func (f *Flags) slot(key string) *slot {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.slots[key]
	if s == nil {
		s = &slot{key: key}
		f.slots[key] = s
		f.fill(s)
	}
	return s
}

// fill brings the slot up to date. The caller holds the lock.
func (f *Flags) fill(s *slot) {
	fl, _ := f.find(s.key)
	s.flag.Store(fl)
	s.weight.Store(math.Float64bits(fl.asWeight()))
}

// asWeight is the static value of a flag if it is a share; NaN otherwise.
func (fl *flag) asWeight() float64 {
	if fl == nil || fl.disabled || fl.kind != number || fl.rule != nil || fl.fallback == nil {
		return math.NaN()
	}
	if w := fl.fallback.num; w >= 0 && w <= 1 {
		return w
	}
	return math.NaN()
}

// Weight returns a function that gives the value of a number flag as a share of the traffic, for canary.Options.Weight
// and its like. It is def as long as there are no values, and whenever the flag is missing, disabled, no number, not in
// [0,1], or depends on targeting: a weight is for everybody. A def that is not in [0,1] is 0. Each call of the function
// is one atomic load; the value changes when the file does.
func (f *Flags) Weight(key string, def float64) func() float64 {
	if !(def >= 0 && def <= 1) {
		def = 0
	}
	s := f.slot(key)
	return func() float64 {
		if w := math.Float64frombits(s.weight.Load()); w == w {
			return w
		}
		return def
	}
}

// Flag is a handle to one flag. It follows the file like everything else and saves looking the name up.
type Flag[T any] struct {
	f    *Flags
	slot *slot
	def  T
	as   typed[T]
}

// BoolFlag returns a handle; def is as in Bool.
func (f *Flags) BoolFlag(key string, def bool) Flag[bool] {
	return Flag[bool]{f, f.slot(key), def, asBool}
}

// StringFlag returns a handle; def is as in String.
func (f *Flags) StringFlag(key, def string) Flag[string] {
	return Flag[string]{f, f.slot(key), def, asString}
}

// FloatFlag returns a handle; def is as in Float.
func (f *Flags) FloatFlag(key string, def float64) Flag[float64] {
	return Flag[float64]{f, f.slot(key), def, asFloat}
}

// IntFlag returns a handle; def is as in Int.
func (f *Flags) IntFlag(key string, def int64) Flag[int64] {
	return Flag[int64]{f, f.slot(key), def, asInt}
}

// ObjectFlag returns a handle; def is as in Object.
func (f *Flags) ObjectFlag(key string, def any) Flag[any] {
	return Flag[any]{f, f.slot(key), def, asObject}
}

func (h Flag[T]) evaluate(ctx context.Context) (T, answer) {
	fl := h.slot.flag.Load()
	var missing error
	if fl == nil {
		fl, missing = h.f.find(h.slot.key)
	}
	return evaluate(ctx, h.f, fl, missing, nil, h.def, h.as)
}

// Get returns the value for ctx, see [With]. It allocates nothing unless the flag is an object or its rule uses cat.
func (h Flag[T]) Get(ctx context.Context) T {
	v, _ := h.evaluate(ctx)
	return v
}

// Details returns the value with the variant, the reason, the metadata, and the error if there was one.
func (h Flag[T]) Details(ctx context.Context) openfeature.GenericResolutionDetail[T] {
	v, a := h.evaluate(ctx)
	return detail(h.slot.key, v, a)
}
