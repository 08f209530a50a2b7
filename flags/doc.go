// Package flags serves feature flags from files, or from a provider of OpenFeature, directly and through OpenFeature.
//
// A file is in flagd's format. It may be replaced, rewritten or moved at any time: [Flags] look at it every second and
// serve the last good content that it had. A file that is missing or broken is a state and not an error: callers get the
// defaults that they give, or the last good values, and [Flags.Ready], [Flags.Status] and the log say what is wrong.
//
//	ff, err := flags.Open("flags.json", flags.Options{})
//	if err != nil {
//		return err
//	}
//	defer ff.Close()
//	ctx = ff.With(ctx, userID, map[string]any{"plan": "pro"})
//	fresh := ff.Bool(ctx, "new-cart", false)
//
// # Sources
//
// From the weakest to the strongest: [Options.Defaults], the file of [Open] or the provider of [FromProvider],
// [Options.Overlays], [Options.Guards], and [Flags.Override], the kill switch of an operator.
//
// # One moment
//
// All evaluations in a request behind the Middleware of package httpflags, and in a context of [Flags.With], see the values of
// one moment. A change and an override count for the next request. [Flags.Renew] gives a long stream the present values.
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
// Targeting is a JsonLogic expression that gives the name of a variant, or null for the default variant. A flag that is
// DISABLED, and one without a default variant, give the caller's default. {"$ref": "name"} stands for a part of $evaluators. A var
// asks for an attribute by its name, or by a path with dots into objects and lists; for targetingKey; for $flagd.flagKey and
// $flagd.timestamp. metadata, of the file and of a flag, comes with the details of an evaluation. A file has at most 16 MiB.
//
// # Which semantics
//
// Where the conformance suite of flagd (open-feature/flagd-testbed) has a case, the suite decides. Where the arguments
// of an operator have the right types, and mostly where the types are wrong, the result is the result of flagd's core
// 0.16 with diegoholiveira/jsonlogic 3.9. Evaluations that flagd ends with PARSE_ERROR have the same code here, and so have results
// that flagd ends with GENERAL. The rest is chosen to be simple and safe:
//
//	what                                         here                            flagd
//	-----------------------------------------------------------------------------------------------------------------
//	an unknown operator or $ref in a rule        a fault of the flag             an error when it is reached
//	an object that a branch of if gives          data                            run as a rule, also from the caller
//	$ref inside $evaluators                      expanded, a circle is a fault   depends on the order of a map
//	$ref in variants and metadata                data                            replaced
//	{"!": rule} whose result is a list           whether it is empty             its first element
//	{"op": rule} for if, and, or and loops       one argument                    an error
//	in, a number in a list                       numbers, texts that spell it,   other texts are 0; a boolean or null in
//	                                             and ranges [low, high]          the list is an error
//	in, a text in a list with ranges             the range is no match           the text is 0 if it spells no number
//	texts as numbers                             decimal                         inf, nan, 0x1p4 are numbers as well
//	var "a.b"                                    the attribute of this name,     the path
//	                                             else the path
//	var, a path into a list                      a decimal index                 all else is element 0
//	var "" in reduce                             null                            an object with current, accumulator
//	filter, none, some, and loops inside of      names are looked up in the      outside first
//	them                                         element first, then outside
//	a default of var in filter, none, some       where the name is not there     always, if it is not there outside
//	a list in the file for a loop to go through  its elements are evaluated      objects in it are data
//	a body of all, none, some, reduce            any expression                  an operator, else an error
//	too few arguments for a loop                 an error                        an empty result
//	a name of missing that is no string          an error                        looked up in some way
//	missing with one list of strings, from var   the names are looked up         none is missing
//	{"-": []}, {"/": []}                         0                               0 that is === to no other number
//	sem_ver, starts_with, ends_with with a       null, the other arguments are   an error of any argument
//	wrong type                                   not evaluated
//	a loop over an object or a string in the     an empty list                   an error
//	file
//	fractional in the body of a loop             by the caller's targeting key   by that of the element
//	fractional v1, a targeting key ""            no key                          a key
//	variants named with < > & " \                can be chosen                   never match
//	"targeting": null                            no rule (STATIC)                a rule that gives null (DEFAULT)
//	a state "disabled" in small letters          DISABLED, a warning             enabled
//	a flag without variants                      a fault of the flag             served as the caller's default
//	metadata that is no scalar                   left out, a warning             as it is
//	a defaultVariant that is no variant,         a fault of the flag             the whole file is refused
//	fields of a wrong type, 1e999
//	$evaluators or metadata of a wrong type      a warning, left out             the whole file is refused
//	an attribute that JSON cannot express        the evaluation that reads it    each evaluation of a flag with
//	(NaN, a function)                            fails                           targeting fails
//	loops that take more than 2^18 steps         the evaluation fails            no limit
//
// # Faults and warnings
//
// A flag that cannot be served is refused alone: its last good definition is served. What flagd accepts, but is hardly meant,
// is a warning in Status: unknown names, names used twice in an object (the last use counts), variants of several
// types, results that are no variant, weights that give nobody a share, numbers beyond 2^53. A file is refused as a whole if it
// is no JSON, has no flags, or names an unknown bucketing.
//
// # Bucketing
//
// fractional gives a share to each key by a hash. The versions have names, and never change:
//
//	flagd/fractional-v1  flagd's core before 0.15: 100 * |hash| / MaxInt32, in float64
//	flagd/fractional-v2  flagd's core from 0.15 on, the default: hash * sum of the weights / 2^32, in integers
//	flagd/fractional-v3  decided for a coming flagd: version 2 with the key in CBOR, so that numbers, booleans and
//	                     objects can be keys; each text moves
//
// The hash is MurmurHash3 (x86, 32 bit, seed 0). The metadata of a file may name the version:
// {"metadata": {"midair.bucketing": "flagd/fractional-v1"}}. The file outranks Options.Bucketing: all programs that read
// a file, and both generations during an upgrade, agree.
//
// # Cost
//
// An evaluation without loops takes each expression at most once. No allocation is made for comparisons, in, arithmetic,
// sem_ver, starts_with, ends_with, and fractional with a key of a text, a number or a boolean. These allocate: cat,
// substr, merge, missing, missing_some, all loops, var "", sem_ver of a number, lists in a rule that are not literals,
// and attributes of types other than bool, string, int, int64, float64, []any, []string, map[string]any and the named
// forms of the basic types. The loops (map, filter, reduce, all, none, some) of an evaluation share 2^18 steps: an
// element takes a step for each expression of the body, and what a var reads takes a step for each element, for each
// 64 bytes of a text, and for each 8 bytes of a value that is encoded.
//
// # OpenFeature
//
// [Flags.Client] returns a client of the OpenFeature SDK, on an API of its own, and [Flags.Provider] a provider for an
// API that the program has. Both give the same values as the methods of Flags and of [Flag], which skip what the SDK does
// around an evaluation (hooks, contexts of clients). [Flags.With] sets the transaction context of OpenFeature, so it reaches all of
// them. The Middleware of package httpflags does the same for a request, when the first flag is evaluated in it.
//
// # Upgrades
//
// Flags are a value for Keep of package upgrade: a new process that finds a file broken serves what the old process served,
// and Ready of such a process is nil. So does a flag that is refused. A good file always comes before what was kept.
//
// # Goroutines
//
// All methods may be called from any goroutine. Open starts a goroutine, which looks at the files and ends overrides; Close ends it
// and waits for that. The first Var with OnChange starts another one. Evaluations never wait: they read one atomic pointer, and each
// sees the whole of one view. The first call of Client starts the goroutines of the SDK, which Close ends as well. Functions in
// [Options.Attributes] and in [Options.Guards] run in the goroutine that evaluates.
package flags
