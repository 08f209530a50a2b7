package compat

import "maps"

// scope is what var can see: the attributes of the context, or an element of a list.
type scope struct {
	str, num, boolean, ver []string // paths by type
	strs, nums, objs       []string
	outer                  bool
}

var (
	outside = scope{
		str: []string{"s1", "s2", "s3", "user.name", "user.tags.0", "$flagd.flagKey", "plan"}, num: []string{"n1", "n2", "n3", "user.age"},
		boolean: []string{"b1", "b2"}, ver: []string{"ver"}, strs: []string{"ls", "user.tags"}, nums: []string{"ln"}, objs: []string{"lo"}, outer: true,
	}
	inString  = scope{str: []string{""}}
	inNumber  = scope{num: []string{""}}
	inObject  = scope{str: []string{"q"}, num: []string{"p"}, strs: []string{"t"}}
	inNumbers = scope{num: []string{"current", "accumulator"}}
)

// truth is a boolean expression whose operands have the types that the operators are made for.
func (g *gen) truth(s scope, d int) any {
	leaf := func() any {
		if len(s.boolean) > 0 {
			return lookup(pick(g, s.boolean...))
		}
		return g.equality(s, 0)
	}
	if d <= 0 {
		return leaf()
	}
	forms := []recipe{
		{[]string{"!"}, func() any { return op("!", g.truth(s, d-1)) }},
		{[]string{"!"}, func() any { return map[string]any{"!": g.truth(s, d-1)} }},
		{[]string{"!!"}, func() any { return op("!!", g.condition(s, d-1)) }},
		{[]string{"and"}, func() any { return op("and", g.times(1, 3, func() any { return g.truth(s, d-1) })...) }},
		{[]string{"or"}, func() any { return op("or", g.times(1, 3, func() any { return g.truth(s, d-1) })...) }},
		{nil, func() any { return g.equality(s, d-1) }},
		{nil, func() any { return g.order(s, d-1) }},
		{[]string{"in"}, func() any { return op("in", g.text(s, d-1), g.text(s, d-1)) }},
		{[]string{"in"}, func() any { return op("in", g.text(s, d-1), g.strings(s, d-1)) }},
		{[]string{"in"}, func() any { return op("in", g.number(s, d-1), g.numbers(s, d-1)) }},
		{[]string{"starts_with"}, func() any { return op("starts_with", g.text(s, d-1), g.text(s, d-1)) }},
		{[]string{"ends_with"}, func() any { return op("ends_with", g.text(s, d-1), g.text(s, d-1)) }},
		{[]string{"if"}, func() any { return op("if", g.condition(s, d-1), g.truth(s, d-1), g.truth(s, d-1)) }},
		{nil, func() any { return g.quantifier(s, d-1) }},
	}
	if s.outer {
		forms = append(forms,
			recipe{[]string{"sem_ver"}, func() any { return g.version(d) }}, recipe{[]string{"sem_ver"}, func() any { return g.version(d) }},
			recipe{[]string{"fractional"}, func() any { return g.split(d-1, func() any { return g.chance(2) }) }},
			recipe{[]string{"$ref"}, func() any { return map[string]any{"$ref": pick(g, "first", "second")} }})
	}
	return g.choose(leaf, forms...)
}

// condition is an expression of any type, of which the truth is asked for.
func (g *gen) condition(s scope, d int) any {
	forms := []recipe{
		{nil, func() any { return g.truth(s, d) }}, {nil, func() any { return g.truth(s, d) }},
		{nil, func() any { return g.text(s, d) }}, {nil, func() any { return g.number(s, d) }},
		{nil, func() any { return g.strings(s, d) }},
	}
	if s.outer {
		forms = append(forms, recipe{[]string{"filter"}, func() any { return op("filter", lookup("lo"), g.predicate(inObject, d-1)) }},
			recipe{nil, func() any { return lookup(pick(g, "gone", "user.gone", "gone.x", "ls.9", "s1.x")) }},
			recipe{[]string{"missing"}, func() any { return map[string]any{"missing": g.paths()} }},
			recipe{[]string{"missing_some"}, func() any { return op("missing_some", g.IntN(3), g.paths()) }})
	}
	return g.choose(nil, forms...)
}

func (g *gen) paths() []any {
	return g.times(1, 4, func() any {
		return pick(g, "s1", "n1", "gone", "gone2", "user.name", "user.gone", "lo.0.p", "ln.3", "targetingKey")
	})
}

// equality compares two of one type, or something with null.
func (g *gen) equality(s scope, d int) any {
	name := pick(g, "==", "!=", "===", "!==")
	leaf := func() any { return g.chance(2) }
	return g.choose(leaf,
		recipe{[]string{name}, func() any { return op(name, g.text(s, d), g.text(s, d)) }},
		recipe{[]string{name}, func() any { return op(name, g.number(s, d), g.number(s, d)) }},
		recipe{[]string{name, "!!"}, func() any { return op(name, op("!!", g.text(s, d)), g.chance(2)) }},
		recipe{[]string{name}, func() any { return op(name, lookup(pick(g, "gone", "s1", "user")), nil) }})
}

// order compares two or three numbers or texts.
func (g *gen) order(s scope, d int) any {
	name := pick(g, "<", "<=", ">", ">=")
	n := 2
	if name[0] == '<' && g.chance(3) {
		n = 3
	}
	operand := g.number
	if g.chance(3) {
		operand = g.text
	}
	leaf := func() any { return g.chance(2) }
	return g.choose(leaf, recipe{[]string{name}, func() any { return op(name, g.times(n, n, func() any { return operand(s, d) })...) }})
}

// quantifier is all, none or some. The condition is an operation on the element: flagd does not take a value in its place.
func (g *gen) quantifier(s scope, d int) any {
	name := pick(g, "all", "none", "some")
	type choice struct {
		paths []string
		inner scope
	}
	var may []choice
	for _, c := range []choice{{s.strs, inString}, {s.nums, inNumber}, {s.objs, inObject}} {
		if len(c.paths) > 0 {
			may = append(may, c)
		}
	}
	if len(may) == 0 || !g.allowed(name, "<", "==") {
		return g.chance(2)
	}
	c := pick(g, may...)
	return op(name, lookup(pick(g, c.paths...)), g.predicate(c.inner, d))
}

// predicate is a condition on an element that is an operation in all cases.
func (g *gen) predicate(s scope, d int) any {
	for range 100 {
		p, ok := g.truth(s, max(d, 1)).(map[string]any)
		if _, bare := p["var"]; ok && !bare {
			return p
		}
	}
	return op("==", 1.0, 1.0)
}

// version compares versions.
func (g *gen) version(d int) any {
	side := func() any {
		return pick[any](g, lookup("ver"), lookup("ver"), pick(g, versions...), pick(g, "1.2.x", "01.0.0", "1.0.0.0", ""))
	}
	return op("sem_ver", side(), pick(g, "=", "!=", "<", "<=", ">", ">=", "^", "~"), side())
}

// number is an expression that gives a number.
func (g *gen) number(s scope, d int) any {
	leaf := func() any {
		if len(s.num) > 0 && !g.chance(3) {
			return lookup(pick(g, s.num...))
		}
		return pick(g, numbers...)
	}
	if d <= 0 {
		return leaf()
	}
	some := func(lo, hi int) []any { return g.times(lo, hi, func() any { return g.number(s, d-1) }) }
	forms := []recipe{
		{nil, leaf}, {[]string{"+"}, func() any { return op("+", some(1, 3)...) }},
		{[]string{"+"}, func() any { return map[string]any{"+": pick(g, "3.14", "10", "-2")} }},
		{[]string{"-"}, func() any { return op("-", some(1, 2)...) }}, {[]string{"*"}, func() any { return op("*", some(2, 3)...) }},
		{[]string{"/"}, func() any { return op("/", g.number(s, d-1), pick(g, 2.0, -4, 0.5, 3)) }},
		{[]string{"%"}, func() any { return op("%", g.number(s, d-1), pick(g, 2.0, -4, 0.5, 3)) }},
		{[]string{"max"}, func() any { return op("max", some(1, 3)...) }}, {[]string{"min"}, func() any { return op("min", some(1, 3)...) }},
		{[]string{"if"}, func() any { return op("if", g.condition(s, d-1), g.number(s, d-1), g.number(s, d-1)) }},
	}
	if s.outer {
		forms = append(forms,
			recipe{nil, func() any { return op("var", pick(g, "gone", "n1", "user.gone"), pick(g, numbers...)) }},
			recipe{[]string{"reduce", "filter"}, func() any {
				return op("reduce", g.numbers(s, d-1), g.fold(d-1), pick(g, numbers...))
			}})
	}
	return g.choose(leaf, forms...)
}

// fold is the body of a reduce of numbers.
func (g *gen) fold(d int) any {
	return g.choose(func() any { return lookup("current") },
		recipe{[]string{"+"}, func() any { return op("+", lookup("accumulator"), lookup("current")) }},
		recipe{[]string{"max"}, func() any { return op("max", lookup("accumulator"), lookup("current")) }},
		recipe{[]string{"if"}, func() any { return op("if", g.order(inNumbers, d), lookup("accumulator"), lookup("current")) }})
}

// text is an expression that gives a string.
func (g *gen) text(s scope, d int) any {
	leaf := func() any {
		if len(s.str) > 0 && !g.chance(3) {
			return lookup(pick(g, s.str...))
		}
		return pick(g, words...)
	}
	if d <= 0 {
		return leaf()
	}
	part := func() any { return pick(g, g.text(s, d-1), g.text(s, d-1), g.number(s, d-1)) }
	forms := []recipe{
		{nil, leaf}, {[]string{"cat"}, func() any { return op("cat", g.times(1, 3, part)...) }},
		{[]string{"substr"}, func() any { return op("substr", g.text(s, d-1), g.IntN(7)-3) }},
		{[]string{"substr"}, func() any { return op("substr", g.text(s, d-1), g.IntN(7)-3, g.IntN(4)) }},
		{[]string{"if"}, func() any { return op("if", g.condition(s, d-1), g.text(s, d-1), g.text(s, d-1)) }},
	}
	if s.outer {
		forms = append(forms,
			recipe{nil, func() any { return op("var", pick(g, "gone", "s1", "user.gone"), pick(g, words...)) }},
			recipe{[]string{"cat"}, func() any { return op("cat", lookup("$flagd.flagKey"), lookup(pick(g, "s1", "gone"))) }},
			recipe{[]string{"reduce", "cat"}, func() any {
				return op("reduce", g.strings(s, d-1), op("cat", lookup("accumulator"), lookup("current")), pick(g, words...))
			}})
	}
	return g.choose(leaf, forms...)
}

// strings is an expression that gives a list of strings.
func (g *gen) strings(s scope, d int) any { return g.sequence(s, d, s.strs, inString, g.text, words) }

// numbers is an expression that gives a list of numbers.
func (g *gen) numbers(s scope, d int) any {
	l := g.sequence(s, d, s.nums, inNumber, g.number, nil)
	if fixed, ok := l.([]any); ok {
		for i := range fixed {
			fixed[i] = pick(g, numbers...)
		}
	}
	return l
}

func (g *gen) sequence(s scope, d int, paths []string, inner scope, element func(scope, int) any, from []string) any {
	leaf := func() any {
		if len(paths) > 0 && !g.chance(3) {
			return lookup(pick(g, paths...))
		}
		if from == nil {
			return make([]any, 1+g.IntN(3))
		}
		return g.times(1, 3, func() any { return pick(g, from...) })
	}
	if d <= 0 || len(paths) == 0 || !s.outer {
		return leaf()
	}
	return g.choose(leaf, recipe{nil, leaf},
		recipe{[]string{"filter"}, func() any { return op("filter", lookup(pick(g, paths...)), g.predicate(inner, d-1)) }},
		recipe{[]string{"map"}, func() any { return op("map", lookup(pick(g, paths...)), element(inner, d-1)) }},
		recipe{[]string{"map"}, func() any { return op("map", lookup("lo"), element(inObject, d-1)) }},
		recipe{[]string{"merge"}, func() any { return op("merge", lookup(pick(g, paths...)), element(s, 0), lookup(pick(g, paths...))) }})
}

// split is a fractional whose shares give what result makes.
func (g *gen) split(d int, result func() any) any {
	var args []any
	switch g.IntN(5) {
	case 0:
		args = append(args, op("var", "gone"))
	case 1, 2:
		args = append(args, g.choose(func() any { return lookup("s1") },
			recipe{[]string{"cat"}, func() any { return op("cat", lookup("$flagd.flagKey"), lookup(pick(g, "s1", "user.name", "gone"))) }}))
	}
	args = append(args, g.times(1, 4, func() any {
		if g.chance(6) {
			return []any{result()}
		}
		return []any{result(), g.weight(d)}
	})...)
	return map[string]any{"fractional": args}
}

// weight is a whole number, by a literal or a rule.
func (g *gen) weight(d int) any {
	leaf := func() any { return pick(g, 0.0, 1, 1, 5, 25, 50, 50, 100, 100000, -5) }
	if d <= 0 || !g.chance(3) {
		return leaf()
	}
	return g.choose(leaf,
		recipe{[]string{"if"}, func() any { return op("if", g.truth(outside, d-1), leaf(), leaf()) }},
		recipe{[]string{"-"}, func() any { return op("-", leaf(), leaf()) }},
		recipe{[]string{"max"}, func() any { return op("max", leaf(), leaf()) }})
}

// typedFlag makes a flag with a rule, and tells the getter to ask with.
func (g *gen) typedFlag() (flag map[string]any, getter string) {
	flag, getter = g.shell()
	if !g.chance(15) {
		flag["targeting"] = g.rule(4)
	}
	if g.chance(40) {
		flag["targeting"] = map[string]any{}
	}
	return flag, getter
}

// rule chooses a variant: a name, a boolean, or null.
func (g *gen) rule(d int) any {
	name := func() any {
		if g.ops == nil && g.chance(30) {
			return "nothing"
		}
		return pick[any](g, "one", "two", "three", "true", nil, lookup("plan"))
	}
	if d <= 0 {
		return lookup("plan")
	}
	forms := []recipe{
		{[]string{"if"}, func() any { return op("if", g.condition(outside, d-1), name()) }},
		{[]string{"if"}, func() any { return op("if", g.condition(outside, d-1), name(), name()) }},
		{[]string{"if"}, func() any {
			return op("if", g.condition(outside, d-1), name(), g.condition(outside, d-1), name(), g.rule(d-1))
		}},
		{[]string{"if"}, func() any { return op("if", g.truth(outside, d-1), g.rule(d-1), g.rule(d-1)) }},
		{[]string{"fractional"}, func() any { return g.split(d-1, name) }}, {nil, func() any { return g.truth(outside, d-1) }},
		{[]string{"and"}, func() any { return op("and", g.truth(outside, d-1), name()) }},
		{[]string{"or"}, func() any { return op("or", lookup("gone"), g.rule(d-1)) }},
	}
	for {
		if r, ok := g.choose(name, forms...).(map[string]any); ok {
			return r
		}
	}
}

// shell makes a flag without a rule.
func (g *gen) shell() (flag map[string]any, getter string) {
	kind := g.IntN(4)
	value := func(i int) any {
		switch kind {
		case 0:
			return i%2 == 1
		case 1:
			return pick(g, words...)
		case 2:
			return float64(g.IntN(50))
		}
		return map[string]any{"x": pick(g, words...), "l": []any{pick(g, numbers...)}}
	}
	getter = []string{"boolean", "string", pick(g, "int", "float"), "object"}[kind]
	variants := map[string]any{}
	for i, name := range []string{"one", "two", "three", "true", "false"} {
		variants[name] = value(i)
	}
	flag = map[string]any{"state": "ENABLED", "variants": variants, "defaultVariant": pick[any](g, "one", "one", "two", nil)}
	switch g.IntN(30) {
	case 0:
		flag["state"] = "DISABLED"
	case 1:
		getter = pick(g, "boolean", "string", "int", "float", "object")
	case 2:
		delete(flag, "defaultVariant")
	case 3:
		flag["metadata"] = map[string]any{"owner": "a", "n": 1.5, "b": true}
	}
	return flag, getter
}

// file makes n flags for a file, and tells the getter of each.
func (g *gen) file(n int, flag func() (map[string]any, string)) (file map[string]any, getters map[string]string) {
	all := map[string]any{}
	getters = map[string]string{}
	for i := range n {
		key := flagName(i)
		all[key], getters[key] = flag()
	}
	file = map[string]any{"flags": all, "metadata": map[string]any{"owner": "set", "version": "7"}}
	if g.allowed("$ref") {
		file["$evaluators"] = maps.Clone(evaluators)
	}
	return file, getters
}

var evaluators = map[string]any{
	"first":  op("==", lookup("s1"), "a"),
	"second": op("in", lookup("s2"), []any{"ab", "abc", "red"}),
}
