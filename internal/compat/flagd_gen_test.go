package compat

import (
	"math/rand/v2"
	"slices"
)

// gen makes random flags, rules and contexts. A rule is a tree of what JSON has: map[string]any, []any, string, float64, bool
// and nil.
type gen struct {
	*rand.Rand
	ops []string // the operators that rules may have; nil for all
}

func newGen(seed uint64, ops []string) *gen {
	return &gen{Rand: rand.New(rand.NewPCG(seed, 18)), ops: ops}
}

// allowed reports whether rules may have all of these operators.
func (g *gen) allowed(ops ...string) bool {
	for _, op := range ops {
		if g.ops != nil && !slices.Contains(g.ops, op) {
			return false
		}
	}
	return true
}

// chance is true in one of n cases.
func (g *gen) chance(n int) bool { return g.IntN(n) == 0 }

func pick[T any](g *gen, from ...T) T { return from[g.IntN(len(from))] }

// recipe is one way to make an expression. It takes part if its operators are allowed.
type recipe struct {
	ops  []string
	make func() any
}

// choose makes one of the recipes, or the leaf if none is allowed.
func (g *gen) choose(leaf func() any, forms ...recipe) any {
	var may []recipe
	for _, f := range forms {
		if g.allowed(f.ops...) {
			may = append(may, f)
		}
	}
	if len(may) == 0 {
		return leaf()
	}
	return may[g.IntN(len(may))].make()
}

func op(name string, args ...any) any { return map[string]any{name: args} }
func lookup(path string) any          { return map[string]any{"var": path} }

// times makes n expressions, n from lo to hi.
func (g *gen) times(lo, hi int, make func() any) []any {
	l := []any{}
	for range lo + g.IntN(hi-lo+1) {
		l = append(l, make())
	}
	return l
}

// Words for attributes and literals. The same words stand in both, so that comparisons hold now and then.
var (
	words    = []string{"", "a", "ab", "abc", "b", "on", "off", "red", "Red", "10", "9", "1.5", "héllo", "a b", " a", "b ", "jo@x.org", "ann@y.com", "日本"}
	versions = []string{"1.0.0", "1.2.3", "v1.2.3", "V2.0.0", "1.2", "2", "1.2.3-alpha", "1.2.3-alpha.10", "1.2.3-alpha.9", "1.2.3+build", "2.0.0-rc.1", "10.0.0", "0.9.9", "1.10.0"}
	numbers  = []float64{-2, -1, 0, 1, 2, 3, 5, 9, 10, 18, 42, 100, 0.5, 1.5, -0.25, 1000}
	plans    = []string{"one", "two", "three"} // names of variants
)

// context makes the attributes of somebody. The typed rules know their types:
//
//	s1 s2 s3 user.name strings; n1 n2 n3 user.age numbers; b1 b2 booleans; ls lists of strings; ln of numbers; lo of objects with
//	p (number), q (string) and t (list of strings); ver a version; plan the name of a variant; gone, gone2 are absent.
func (g *gen) context() map[string]any {
	ec := map[string]any{
		"s1": pick(g, words...), "s2": pick(g, words...), "s3": pick(g, words...),
		"n1": g.goNumber(), "n2": g.goNumber(), "n3": g.goNumber(),
		"b1": g.chance(2), "b2": g.chance(2),
		"ln": g.times(0, 4, func() any { return pick(g, numbers...) }),
		"ls": g.goStrings(),
		"lo": g.times(0, 3, func() any {
			return map[string]any{"p": pick(g, numbers...), "q": pick(g, words...), "t": g.times(0, 3, func() any { return pick(g, words...) })}
		}),
		"ver": pick(g, versions...), "plan": pick(g, plans...),
		"user": map[string]any{"name": pick(g, words...), "age": g.goNumber(), "tags": g.times(1, 3, func() any { return pick(g, words...) })},
	}
	if !g.chance(12) { // the SDK leaves an empty targeting key out
		ec["targetingKey"] = pick(g, words...) + string(rune('a'+g.IntN(26))) + string(rune('a'+g.IntN(26)))
	}
	return ec
}

// goNumber is a number in one of the types of Go that callers have.
func (g *gen) goNumber() any {
	n := pick(g, numbers...)
	if n != float64(int(n)) {
		return n
	}
	switch g.IntN(4) {
	case 0:
		return int(n)
	case 1:
		return int64(n)
	case 2:
		return float32(n)
	}
	return n
}

// goStrings is a list of strings, as []string or []any.
func (g *gen) goStrings() any {
	l := g.times(0, 4, func() any { return pick(g, words...) })
	if g.chance(2) {
		return l
	}
	s := []string{}
	for _, x := range l {
		s = append(s, x.(string))
	}
	return s
}
