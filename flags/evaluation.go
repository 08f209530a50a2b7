package flags

import "github.com/open-feature/go-sdk/openfeature"

// An Evaluation is what Options.Observe is told.
type Evaluation struct {
	// Provider is "midair", or the name of the provider of FromProvider.
	Provider string
	// Key is that of the flag.
	Key string
	// Value is the answer: a bool, a string, a float64, an int64 or an object.
	Value any
	// Variant is the name of the variant; empty if the answer is the caller's default.
	Variant string
	// Reason is that of OpenFeature, or OVERRIDE.
	Reason openfeature.Reason
	// Code and Err are what was wrong; empty and nil if nothing was.
	Code openfeature.ErrorCode
	Err  error
	// Metadata is that of the flag. It must not be changed.
	Metadata map[string]any
}
