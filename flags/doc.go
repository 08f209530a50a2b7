// Package flags serves feature flags from a file, directly and through OpenFeature.
//
// The file is in flagd's format. It may be replaced, rewritten or moved at any time: [Flags] look at it every second and
// serve the last good content that it had. A file that is missing or broken is a state and not an error: callers get the
// defaults that they give, or the last good values, and [Flags.Ready], [Flags.Status] and the log say what is wrong.
//
//	ff, err := flags.Open("flags.json", flags.Options{})
//	if err != nil {
//		return err
//	}
//	defer ff.Close()
//	ctx = flags.With(ctx, userID, map[string]any{"plan": "pro"})
//	fresh := ff.Bool(ctx, "new-cart", false)
//
// # The file
//
//	{"flags": {
//	  "new-cart": {
//	    "state": "ENABLED",
//	    "variants": {"on": true, "off": false},
//	    "defaultVariant": "off",
//	    "targeting": {"if": [
//	      {"==": [{"var": "plan"}, "pro"]}, "on",
//	      {"fractional": [["on", 10], ["off", 90]]}
//	    ]}
//	  }
//	}}
//
// The variants of a flag are all booleans, all strings, all numbers or all objects. Targeting is a JsonLogic expression
// that gives the name of a variant, or null for the default variant. A flag that is DISABLED, and one without a default
// variant, give the caller's default. Operators are if, and, or, !, !!, ==, !=, ===, !==, <, <=, >, >=, in, cat, var and
// fractional, with the meaning that they have in JavaScript; an attribute that is missing is null, which counts as 0 in an
// order. {"$ref": "name"} stands for a part of $evaluators. A var may ask for any attribute by its name, or by a path
// with dots into objects; for targetingKey; for $flagd.flagKey and $flagd.timestamp. metadata, of the file and of a flag,
// comes with the details of an evaluation.
//
// Rules are compiled when the file is read, and the whole file is refused if anything in it cannot be right: an operator
// that is not known, a wrong number of arguments, variants of several types, a variant that does not exist, weights that
// are not whole numbers from 0 to 2147483647 in all, a name that is used twice in one object.
//
// # Percentages
//
// fractional is flagd's, version 2: MurmurHash3 of the flag's key and the targeting key, as 32 bits, times the sum of the
// weights, shifted by 32. So a key gets the same variant in every process, on every host and from flagd itself. If
// the share that grows is listed first, nobody leaves it while it grows. Without a targeting key the result is null.
//
// # OpenFeature
//
// [Flags.Client] returns a client of the OpenFeature SDK, on an API of its own, and [Flags.Provider] a provider for an
// API that the program has. Both give the same values as the methods of Flags and of [Flag], which skip what the SDK does
// around an evaluation (hooks, contexts of clients) and allocate nothing unless the flag is an object or its rule uses cat. [With] sets the
// transaction context of OpenFeature, so it reaches all of them. [Flags.Middleware] does the same for a request, when the first
// flag is evaluated in it.
//
// # Upgrades
//
// Flags are a value for Keep of package upgrade: a new process that finds the file broken serves what the old one served,
// and Ready of such a process is nil. A good file always comes before what was kept.
//
// # Goroutines
//
// All methods may be called from any goroutine. Open starts one goroutine, which looks at the file and is the only one
// that changes values but for UnmarshalBinary and Ready; Close ends it and waits for that. Evaluations never wait: they
// read one atomic pointer, and each sees the whole of one file. The first call of Client starts the goroutines of the SDK,
// which Close ends as well. Functions in [Options.Attributes] run in the goroutine that evaluates.
package flags
