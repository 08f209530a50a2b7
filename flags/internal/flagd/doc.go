// Package flagd reads flag files in the format of flagd (https://flagd.dev), and evaluates the flags.
//
// The file is JSON: flags, each with variants, a default variant and a targeting rule in JsonLogic; $evaluators, which
// are parts of rules to be used with $ref; and metadata. Parse compiles the rules to closures.
//
// The text of package flags says which semantics the rules have, and where they differ from those of flagd. Evaluations that flagd
// ends with PARSE_ERROR end with ErrRule, and results that flagd ends with GENERAL end with ErrChoice. A flag that cannot be served is
// in Document.Faults, and remarks are in Document.Warnings.
//
// # Goroutines
//
// Parse and all methods may be called from any number of goroutines. The package has no state.
package flagd
