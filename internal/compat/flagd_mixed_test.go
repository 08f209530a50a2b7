package compat

import "maps"

// arity is how many arguments the schema of an operator allows.
type arity struct{ min, max int }

var arities = map[string]arity{
	"if": {1, 5}, "and": {1, 3}, "or": {1, 3}, "!": {1, 1}, "!!": {1, 1}, "==": {2, 2}, "!=": {2, 2}, "===": {2, 2}, "!==": {2, 2},
	"<": {2, 3}, "<=": {2, 3}, ">": {2, 2}, ">=": {2, 2}, "in": {2, 2}, "cat": {1, 3}, "substr": {2, 3}, "max": {1, 3}, "min": {1, 3},
	"+": {1, 3}, "-": {1, 2}, "*": {2, 3}, "/": {2, 2}, "%": {2, 2}, "merge": {1, 3}, "missing": {1, 3}, "missing_some": {2, 2},
	"map": {2, 2}, "filter": {2, 2}, "reduce": {3, 3}, "all": {2, 2}, "none": {2, 2}, "some": {2, 2}, "sem_ver": {3, 3},
	"starts_with": {2, 2}, "ends_with": {2, 2}, "fractional": {1, 4}, "var": {1, 2},
}

// operators lists those that a mixed rule may have, in one order for all runs.
func (g *gen) operators() []string {
	var names []string
	for _, name := range []string{"if", "and", "or", "!", "!!", "==", "!=", "===", "!==", "<", "<=", ">", ">=", "in", "cat", "substr",
		"max", "min", "+", "-", "*", "/", "%", "merge", "missing", "missing_some", "map", "filter", "reduce", "all", "none", "some",
		"sem_ver", "starts_with", "ends_with", "fractional", "var"} {
		if g.allowed(name) {
			names = append(names, name)
		}
	}
	return names
}

// anything is an expression of any type.
func (g *gen) anything(d int) any {
	switch n := g.IntN(12); {
	case n < 4:
		return lookup(pick(g, "s1", "n1", "b1", "ls", "ln", "lo", "user", "gone", "empty", "null", "odd", "mixed", "user.age", "ls.0", "", "targetingKey", "p", "q", "current", "accumulator"))
	case n < 5 && d > 0, n < 9 && d > 1:
		return g.operation(d - 1)
	}
	return g.literal(1)
}

// literal is a constant of any type.
func (g *gen) literal(d int) any {
	switch g.IntN(12) {
	case 0:
		return nil
	case 1:
		return g.chance(2)
	case 2, 3, 4:
		return pick(g, -1.0, 0, 1, 2, 3, 10, 0.5, 100)
	case 5, 6, 7:
		return pick(g, words...)
	case 8:
		return pick(g, "0", "1", " 1", "1 ", "abc", "1e2", "0x10", "1_0", "inf", "NaN", "true", "null", "a<b", "\t", "1.0.0", "s1", "ls.1")
	case 9:
		return pick[any](g, map[string]any{}, map[string]any{"a": 1.0, "b": 2.0})
	}
	if d == 0 {
		return []any{}
	}
	return g.times(0, 3, func() any { return g.literal(d - 1) })
}

// operation is an operator with arguments of any type, mostly as many as the schema allows.
func (g *gen) operation(d int) any {
	names := g.operators()
	if len(names) == 0 {
		return g.literal(1)
	}
	name := pick(g, names...)
	a := arities[name]
	if g.ops == nil {
		switch {
		case g.chance(150):
			return map[string]any{"$ref": pick(g, "first", "unknown")}
		case g.chance(300):
			return op("unknown_operator", 1.0)
		case g.chance(12):
			return map[string]any{name: g.anything(d)}
		case g.chance(12):
			a = arity{0, 4}
		}
	}
	args := g.times(a.min, a.max, func() any { return g.anything(d) })
	g.shape(name, args, d)
	return map[string]any{name: args}
}

// shape gives some arguments the form without which an operator does nothing: names for var, shares for fractional.
func (g *gen) shape(name string, args []any, d int) {
	if len(args) == 0 || g.ops == nil && g.chance(8) {
		return
	}
	switch name {
	case "var":
		args[0] = pick(g, "s1", "n1", "b1", "ls", "ls.0", "ln.1", "lo.0.p", "user.name", "user.x.y", "gone", "mixed.0", "odd.x", "a.b")
	case "missing":
		for i := range args {
			args[i] = pick(g, "s1", "gone", "null", "user.age", "ls.7", "", "targetingKey")
		}
	case "missing_some":
		args[0], args[len(args)-1] = float64(g.IntN(3)), []any{"s1", "gone", pick(g, "null", "n1", "user.x")}
	case "fractional":
		for i := range args {
			if i > 0 || g.chance(2) {
				args[i] = []any{pick[any](g, "one", "two", true, nil, 1.0, lookup("s1")), g.share(d)}
			}
		}
	case "map", "filter", "reduce", "all", "none", "some":
		args[0] = lookup(pick(g, "ls", "ln", "lo", "mixed", "empty", "gone", "s1", "user"))
		if g.chance(8) {
			args[0] = []any{lookup("s1"), 1.0, "a"}
		}
		if len(args) > 1 && g.chance(2) && g.allowed("==") {
			args[1] = op("==", pick(g, lookup(""), lookup("p"), lookup("s1"), op("var", "p", 1.0), op("var", "gone", "a")), g.literal(0))
		}
		if len(args) > 2 {
			args[2] = pick[any](g, 0.0, "", false, 1.0)
		}
	case "in":
		if len(args) > 1 && g.chance(4) {
			args[1] = []any{[]any{1.0, 5.0}, []any{"a", "b"}, "ab"}
		}
	case "sem_ver":
		if len(args) > 1 {
			args[1] = pick(g, "=", "<", "^", "~", "!=", ">=", "==")
		}
		args[0] = pick[any](g, lookup("ver"), 1.0, 1.2, "1.2.3", nil, true, 1e6, g.literal(0))
	}
}

// share is a weight of any kind.
func (g *gen) share(d int) any {
	if d > 0 && g.chance(4) {
		return g.anything(d - 1)
	}
	return pick[any](g, 0.0, 1, 50, 100, -5, 2.5, "50", nil, true, 2147483647.0, 2147483648.0, 1e300, -1e300, lookup("n1"), lookup("gone"))
}

// mixedFlag makes a flag with a rule of any types.
func (g *gen) mixedFlag() (flag map[string]any, getter string) {
	variants := map[string]any{}
	for _, name := range []string{"one", "two", "true", "false", "null", "0", "1", "2", "3", "4", "5", "10", "11", "100", "-1", "-2", "0.5", "1.5", "-0", "42", "18", "a<b"} {
		variants[name] = "value " + name
	}
	for _, w := range words {
		variants[w] = "value " + w
	}
	flag = map[string]any{"state": "ENABLED", "variants": variants, "defaultVariant": "two", "targeting": g.operation(2)}
	return flag, "string"
}

// mixedContext adds attributes that the typed rules do not know.
func (g *gen) mixedContext() map[string]any {
	ec := g.context()
	maps.Copy(ec, map[string]any{
		"null": nil, "empty": pick[any](g, []any{}, "", map[string]any{}), "odd": pick[any](g, map[string]any{"x": 1, "y": "z"}, []int{1, 2}, int8(3), uint64(7)),
		"mixed": g.times(0, 4, func() any { return g.literal(1) }), "a.b": "dotted", "plan": g.literal(1), "q": g.literal(0),
	})
	for _, k := range []string{"s1", "n1", "b1", "ls", "user", "targetingKey"} {
		if g.chance(6) {
			ec[k] = g.literal(1)
		}
	}
	return ec
}
