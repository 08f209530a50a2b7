package compat

import (
	"maps"
	"slices"
	"testing"
)

// difference is a pair for which the two evaluators disagree.
type difference struct {
	flag         map[string]any
	key, getter  string
	context      map[string]any
	ours, theirs outcome
}

func (d difference) rule() any { return d.flag["targeting"] }

func (d difference) withRule(rule any) difference {
	d.flag = maps.Clone(d.flag)
	d.flag["targeting"] = rule
	return d
}

// size counts the nodes of a tree.
func size(x any) int {
	n := 1
	switch x := x.(type) {
	case map[string]any:
		for _, v := range x {
			n += size(v)
		}
	case []any:
		for _, v := range x {
			n += size(v)
		}
	case nil:
		return 0
	}
	return n
}

// smaller lists trees that are smaller than x in one place: a part in the place of the whole, or a part less.
func smaller(x any) []any {
	var out []any
	switch x := x.(type) {
	case map[string]any:
		for k, v := range x {
			if args, ok := v.([]any); ok {
				out = append(out, args...)
			} else {
				out = append(out, v)
			}
			for _, s := range smaller(v) {
				m := maps.Clone(x)
				m[k] = s
				out = append(out, m)
			}
		}
	case []any:
		for i, v := range x {
			out = append(out, append(append([]any{}, x[:i]...), x[i+1:]...))
			for _, s := range smaller(v) {
				l := slices.Clone(x)
				l[i] = s
				out = append(out, l)
			}
		}
	case string:
		if x != "" && x != "a" {
			out = append(out, "a", "")
		}
	case float64:
		if x != 0 && x != 1 {
			out = append(out, 0.0, 1.0)
		}
	}
	return out
}

// shrink makes the rule and the context of a difference as small as it can without losing the difference.
func (d difference) shrink(t testing.TB) difference {
	for range 40 {
		next, ok := d.shrinkRule(t)
		if !ok {
			break
		}
		d = next
	}
	return d.shrinkContext(t)
}

// shrinkRule tries all smaller rules at once, as the flags of one file.
func (d difference) shrinkRule(t testing.TB) (difference, bool) {
	rules := smaller(d.rule())
	slices.SortStableFunc(rules, func(a, b any) int { return size(a) - size(b) })
	rules = rules[:min(len(rules), 80)]
	all := map[string]any{}
	for i, r := range rules {
		all[flagName(i)] = d.withRule(r).flag
	}
	s, err := openBoth(t, map[string]any{"flags": all, "$evaluators": evaluators})
	if err != nil {
		return d, false
	}
	defer s.close()
	for i, r := range rules {
		next := d.withRule(r)
		next.key = flagName(i)
		if next.ours, next.theirs = s.ask(next); next.like(d) && size(r) < size(d.rule()) {
			return next, true
		}
	}
	return d, false
}

// shrinkContext drops what the rule does not need.
func (d difference) shrinkContext(t testing.TB) difference {
	s, err := openBoth(t, map[string]any{"flags": map[string]any{d.key: d.flag}, "$evaluators": evaluators})
	if err != nil {
		return d
	}
	defer s.close()
	for _, k := range slices.Sorted(maps.Keys(d.context)) {
		next := d
		next.context = maps.Clone(d.context)
		delete(next.context, k)
		if next.ours, next.theirs = s.ask(next); next.like(d) {
			d = next
		}
	}
	return d
}

// ask evaluates with both.
func (s both) ask(d difference) (ours, theirs outcome) {
	return evaluate(s.ours, d.getter, d.key, d.context), evaluate(s.theirs, d.getter, d.key, d.context)
}

// like reports whether d is a difference of the same outcomes as other.
func (d difference) like(other difference) bool {
	return !d.ours.same(d.theirs) && d.ours.kind() == other.ours.kind() && d.theirs.kind() == other.theirs.kind()
}
