package flags

import (
	"maps"
	"math"

	"github.com/midair-go/midair/flags/internal/flagd"
	"github.com/midair-go/midair/flags/internal/hosted"
)

// An entry is a flag in a view.
type entry struct {
	key   string
	path  string      // of the source; empty for a provider
	flag  *flagd.Flag // nil if there is an override of a provider's flag only, or a fault
	fault error       // the flag was refused, and nothing can be served in its place
	weak  bool        // a provider outranks the flag
	guard *guard      // or nil

	forced   *flagd.Variant // the variant of an override, or nil
	metadata map[string]any

	tally *tally
}

// static returns the variant for everybody, or nil and the reason.
func (e *entry) static() (*flagd.Variant, string) {
	switch {
	case e == nil:
		return nil, "there is no such flag"
	case e.forced != nil:
		return e.forced, ""
	case e.fault != nil:
		return nil, e.fault.Error()
	case e.flag.Disabled:
		return nil, "it is disabled"
	case e.flag.Targeted():
		return nil, "it has targeting, but its value is for everybody"
	case e.guard != nil:
		return nil, "it has a guard, but its value is for everybody"
	case e.flag.Default == nil:
		return nil, "it has no default variant"
	}
	return e.flag.Default, ""
}

// share returns the value of the flag as a share. Without a share it returns NaN, and a warning if the author of the file
// probably meant something else.
func (e *entry) share() (w float64, warning string) {
	v, why := e.static()
	if v == nil {
		if e == nil || e.flag == nil || e.flag.Disabled || e.flag.Default == nil && !e.flag.Targeted() {
			why = ""
		}
		return math.NaN(), why
	}
	if v.Kind != flagd.Number {
		return math.NaN(), "it is read as a weight, but it is a " + v.Kind.String()
	}
	if w = v.Number; !(w >= 0 && w <= 1) {
		return math.NaN(), "it is read as a weight, but its value " + string(v.JSON()) + " is not from 0 to 1: 5 % is 0.05"
	}
	return w, ""
}

// same reports whether two entries of a key answer the same.
func (e *entry) same(other *entry) bool {
	if e.flag != other.flag || e.weak != other.weak || (e.guard == nil) != (other.guard == nil) || e.path != other.path {
		return false
	}
	if e.fault != nil || other.fault != nil {
		return e.fault != nil && other.fault != nil && e.fault.Error() == other.fault.Error()
	}
	if e.forced == nil || other.forced == nil {
		return e.forced == other.forced
	}
	return e.forced.Name == other.forced.Name && maps.Equal(e.metadata, other.metadata)
}

// entryOf returns the entry of a value that a provider has for everybody.
func entryOf(key string, v *hosted.Value) *entry {
	return &entry{key: key, forced: v.Variant, metadata: v.Metadata}
}
