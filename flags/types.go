package flags

import (
	"github.com/midair-go/midair/flags/internal/flagd"
	"github.com/midair-go/midair/flags/internal/hosted"
)

// typed is how a variant becomes a T, and how a provider is asked for a T.
type typed[T any] struct {
	kind flagd.Kind
	take func(*flagd.Variant) (T, bool)
	ask  hosted.Getter[T]
	word func(text string) (T, bool) // reads the text of an override; nil: a text is no T
}

// value returns the T of an answer with a variant. It reports false for a variant of another type.
func (as *typed[T]) value(a answer) (v T, ok bool) {
	switch {
	case a.variant.Kind == as.kind:
		return as.take(a.variant)
	case as.word != nil && a.variant.Kind == flagd.Text && a.entry.flag == nil: // nobody knows the type of a flag of a provider
		return as.word(a.variant.Text)
	}
	return v, false
}

// boolWord returns the boolean that operators mean with the name of a variant.
func boolWord(text string) (v, ok bool) {
	v = text == "on" || text == "true"
	return v, v || text == "off" || text == "false"
}

// The types of flags. A whole number is a number whose value is exact.
var (
	asBool   = typed[bool]{flagd.Boolean, func(v *flagd.Variant) (bool, bool) { return v.Bool, true }, hosted.Bool, boolWord}
	asString = typed[string]{flagd.Text, func(v *flagd.Variant) (string, bool) { return v.Text, true }, hosted.String, nil}
	asFloat  = typed[float64]{flagd.Number, func(v *flagd.Variant) (float64, bool) { return v.Number, true }, hosted.Float, nil}
	asInt    = typed[int64]{flagd.Number, func(v *flagd.Variant) (int64, bool) { return v.Whole, v.Exact }, hosted.Int, nil}
	asObject = typed[any]{flagd.Object, func(v *flagd.Variant) (any, bool) { return v.Value(), true }, hosted.Object, nil}
)
