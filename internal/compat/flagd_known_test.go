package compat

import (
	"slices"
	"strings"

	"github.com/open-feature/go-sdk/openfeature"
)

// A known is a class of differences from flagd that the documentation of package flags tells.
type known struct {
	name  string
	match func(difference) bool
}

// knownDifferences are all that may differ from flagd. Rules whose operands have the types that the operators are made for are
// not among them: those may not differ at all.
var knownDifferences = []known{
	{`a rule that cannot be right (an unknown operator or reference, a wrong number of arguments) is a PARSE_ERROR of its flag at
once; flagd finds it when an evaluation gets there`, func(d difference) bool {
		return d.ours.code == parseError && d.has(malformed)
	}},
	{`a loop over something that is no list is a PARSE_ERROR; flagd takes scalars, "" and {} as an empty list`, func(d difference) bool {
		return d.ours.code == parseError && d.has(named(loops...))
	}},
	{`a loop over an object or a string in the file is empty; flagd gives PARSE_ERROR`, func(d difference) bool {
		return d.theirs.code == parseError && d.has(named(loops...))
	}},
	{`a name of missing is a string, or else the result is a PARSE_ERROR; flagd looks numbers and lists up in some way`, func(d difference) bool {
		return d.ours.code != "" && d.has(named("missing", "missing_some"))
	}},
	{`missing with one list of strings, as from var, looks these names up; flagd finds none of them missing`, func(d difference) bool {
		return d.ours.code == "" && d.has(func(name string, arg any) bool {
			l, ok := arg.([]any)
			if !ok {
				l = []any{arg}
			}
			if name != "missing" || len(l) != 1 {
				return false
			}
			_, ok = l[0].(map[string]any)
			return ok
		})
	}},
	{`{"-": []} and {"/": []} are 0; flagd gives a whole number, which is === to no other number`, func(d difference) bool {
		return d.has(func(name string, arg any) bool {
			l, ok := arg.([]any)
			return (name == "-" || name == "/") && ok && len(l) == 0
		})
	}},
	{`substr looks at each of its arguments; flagd leaves the length out if the start is not in the string`, func(d difference) bool {
		return d.ours.code == parseError && d.has(named("substr"))
	}},
	{`{"op": x} is {"op": [x]} for all operators; flagd gives PARSE_ERROR if the operator wants a list`, func(d difference) bool {
		return d.theirs.code == parseError && d.has(unlisted)
	}},
	{`arguments that an operator has no use for are not evaluated; flagd gives the PARSE_ERROR of any of them`, func(d difference) bool {
		return d.theirs.code == parseError && d.has(malformed)
	}},
	{`sem_ver, starts_with and ends_with of a wrong type are null, whatever their other arguments; flagd gives the PARSE_ERROR of any of
them`, func(d difference) bool {
		return d.theirs.code == parseError && d.has(named("sem_ver", "starts_with", "ends_with"))
	}},
	{`all, none, some and reduce take any condition; flagd gives PARSE_ERROR for one that is no operation`, func(d difference) bool {
		return d.theirs.code == parseError && d.has(bareCondition)
	}},
	{`a number is not in a list because of booleans, nulls, lists or objects in it; flagd gives PARSE_ERROR`, func(d difference) bool {
		return d.theirs.code == parseError && d.has(named("in"))
	}},
	{`the default of var is evaluated if it is needed; flagd evaluates it in all cases`, func(d difference) bool {
		return d.theirs.code == parseError && d.has(func(name string, arg any) bool { l, _ := arg.([]any); return name == "var" && len(l) == 2 })
	}},
	{`a list with a number that JSON does not have is no variant, GENERAL; flagd gives PARSE_ERROR`, func(d difference) bool {
		return d.theirs.code == parseError && d.ours.code == openfeature.GeneralCode && d.has(named("/", "%"))
	}},
	{`"inf", "NaN", "1_0" and hexadecimal strings are no numbers; flagd takes them as Go does`, func(d difference) bool {
		all := asJSON(d.rule()) + asJSON(d.context)
		return strings.Contains(all, `"inf"`) || strings.Contains(all, `"NaN"`) || strings.Contains(all, `"1_0"`)
	}},
	{`reduce gives the initial value if there is no list; flagd gives 0`, func(d difference) bool {
		return d.theirs.code != parseError && d.has(named("reduce"))
	}},
	{`variants with < > & " \ in their names can be chosen; flagd never finds them`, func(d difference) bool {
		return d.ours.reason == openfeature.TargetingMatchReason && d.theirs.code == openfeature.GeneralCode && strings.ContainsAny(d.ours.variant, "<>&\"\\")
	}},
	{`{"var": null} is the whole context; flagd gives null`, func(d difference) bool {
		return d.has(func(name string, arg any) bool {
			_, computed := arg.(map[string]any)
			return name == "var" && (arg == nil || computed)
		})
	}},
	{`fractional by a list goes by the targeting key; flagd takes the list as a share`, func(d difference) bool {
		return d.ours.code == "" && d.theirs.reason == openfeature.DefaultReason && d.has(named("fractional"))
	}},
	{`an attribute whose name is the whole path, with the dots, comes first; flagd does not find it`, func(d difference) bool {
		return d.has(func(name string, arg any) bool { return name == "var" && strings.Contains(asJSON(arg), `"a.b"`) })
	}},
	{`a targeting key that is empty or no string is none; flagd has it as an attribute`, func(d difference) bool {
		key, ok := d.context["targetingKey"]
		text, _ := key.(string)
		return ok && text == "" && strings.Contains(asJSON(d.rule()), "targetingKey")
	}},
	{`an element of a list has a decimal number; flagd takes all other names as 0`, func(d difference) bool {
		return d.has(named("var", "missing", "missing_some")) && strings.Contains(asJSON(d.rule()), ".")
	}},
	{`in: a string is in no range [low, high]; flagd takes strings that are no numbers as 0`, func(d difference) bool {
		return d.has(func(name string, arg any) bool { return name == "in" && strings.Contains(asJSON(arg), "[") })
	}},
	{`{"!": rule} asks whether a list is empty; flagd asks for the first element of the list`, func(d difference) bool {
		return d.has(func(name string, arg any) bool { _, rule := arg.(map[string]any); return rule && name[0] == '!' })
	}},
	{`an object that a branch of if gives is data; flagd runs it as a rule`, func(d difference) bool {
		return d.has(named("if"))
	}},
	{`the elements of a list in the file for a loop are evaluated; flagd takes objects among them as data`, func(d difference) bool {
		return d.has(func(name string, arg any) bool {
			l, _ := arg.([]any)
			return slices.Contains(loops, name) && len(l) > 0 && strings.HasPrefix(asJSON(l[0]), "[") && strings.Contains(asJSON(l[0]), "{")
		})
	}},
	{`fractional in a loop goes by the caller's targeting key; flagd by the key of the element`, func(d difference) bool {
		return d.has(named(loops...)) && d.has(named("fractional"))
	}},
	{`in a loop var looks into the element first, then outside; flagd looks outside first, or not at all, and takes a default early`, func(d difference) bool {
		return d.has(named(loops...)) && d.has(named("var"))
	}},
}

// loops are the operators that evaluate an expression for each element of a list.
var loops = []string{"map", "filter", "reduce", "all", "none", "some"}

const parseError = "PARSE_ERROR"

// explain is the name of the known class of the difference, or "".
func (d difference) explain() string {
	for _, k := range knownDifferences {
		if k.match(d) {
			return k.name
		}
	}
	return ""
}

// has reports whether an operation of the rule, at any depth, is as asked for.
func (d difference) has(is func(name string, arg any) bool) bool {
	var walk func(any) bool
	walk = func(x any) bool {
		switch x := x.(type) {
		case map[string]any:
			for name, arg := range x {
				if len(x) == 1 && is(name, arg) || walk(arg) {
					return true
				}
			}
		case []any:
			return slices.ContainsFunc(x, walk)
		}
		return false
	}
	return walk(d.rule())
}

// named asks for an operation of one of the names.
func named(names ...string) func(string, any) bool {
	return func(name string, _ any) bool { return slices.Contains(names, name) }
}

// malformed is an operation that the schema does not allow.
func malformed(name string, arg any) bool {
	a, ok := arities[name]
	l, list := arg.([]any)
	switch {
	case !ok:
		return name != "$ref" || arg == "unknown"
	case name == "var" && list && len(l) > 0:
		_, text := l[0].(string)
		return !text || len(l) > a.max
	case name == "var" && !list:
		_, wrong := arg.(bool)
		return wrong
	}
	return list && (len(l) < a.min || len(l) > a.max) || !list && a.min > 1
}

// unlisted is an operation whose argument is not in a list.
func unlisted(_ string, arg any) bool {
	_, list := arg.([]any)
	return !list
}

// bareCondition is a loop whose condition is no operation.
func bareCondition(name string, arg any) bool {
	l, _ := arg.([]any)
	if !slices.Contains([]string{"all", "none", "some", "reduce"}, name) || len(l) < 2 {
		return false
	}
	m, ok := l[1].(map[string]any)
	return !ok || len(m) != 1 || m["var"] != nil
}
