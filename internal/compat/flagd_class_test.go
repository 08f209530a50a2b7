package compat

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// maxShrunk is how many differences a test shrinks at most; the others are explained as they are.
const maxShrunk = 400

// class names the kind of a difference by the operator, the types of its operands and the two outcomes.
func (d difference) class() string {
	return fmt.Sprintf("%s(%s): ours %s, flagd %s", d.operator(), strings.Join(d.operands(), ","), d.ours.brief(), d.theirs.brief())
}

// operator is the outermost operator of the rule.
func (d difference) operator() string {
	m, ok := d.rule().(map[string]any)
	if !ok || len(m) != 1 {
		return "none"
	}
	for name := range m {
		return name
	}
	return ""
}

// operands are the types of the operands of the outermost operator.
func (d difference) operands() []string {
	m, ok := d.rule().(map[string]any)
	if !ok || len(m) != 1 {
		return []string{d.typeOf(d.rule())}
	}
	var types []string
	for _, arg := range m {
		l, ok := arg.([]any)
		if !ok {
			return []string{"spread " + d.typeOf(arg)}
		}
		for _, x := range l {
			types = append(types, d.typeOf(x))
		}
	}
	return types
}

// typeOf is the type of a literal, of an attribute, or the operator of an expression.
func (d difference) typeOf(x any) string {
	switch x := x.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case []any, []string, []int:
		return "list"
	case map[string]any:
		if name, ok := x["var"].(string); ok && len(x) == 1 && !strings.Contains(name, ".") {
			if v, ok := d.context[name]; ok {
				return d.typeOf(v)
			}
			return "absent"
		}
		if len(x) != 1 {
			return "object"
		}
		for name := range x {
			return "{" + name + "}"
		}
	}
	return "number"
}

// TestMixedRulesDifferAsDocumented compares rules with operands of any type. Each difference has to be of a known class.
func TestMixedRulesDifferAsDocumented(t *testing.T) {
	g := fuzzer(t)
	found := compare(t, g, g.mixedFlag, g.mixedContext)
	counts, unknown := map[string]int{}, map[string]difference{}
	causes := map[string]string{} // the class of a difference, by what can be told before it is shrunk
	for _, d := range found {
		shape := d.shape()
		if _, ok := causes[shape]; !ok {
			if len(causes) < maxShrunk && (size(d.rule()) > 6 || d.explain() == "") {
				d = d.shrink(t)
			}
			if causes[shape] = d.explain(); causes[shape] == "" {
				causes[shape] = d.class()
				unknown[d.class()] = d
			}
		}
		counts[causes[shape]]++
	}
	for _, c := range slices.Sorted(maps.Keys(counts)) {
		t.Logf("%6d %s", counts[c], c)
	}
	for _, c := range slices.Sorted(maps.Keys(unknown)) {
		t.Errorf("not a known class: %s\n%s", c, unknown[c].report())
	}
}

// shape is what differences of one cause have in common before they are shrunk: the operators and the outcomes.
func (d difference) shape() string {
	return fmt.Sprintf("%v %s(%s) %s/%s", operatorsIn(d.rule()), d.operator(), strings.Join(d.operands(), ","), d.ours.kind(), d.theirs.kind())
}

// operatorsIn lists the operators of a rule.
func operatorsIn(x any) []string {
	set := map[string]bool{}
	var walk func(any)
	walk = func(x any) {
		switch x := x.(type) {
		case map[string]any:
			for k, v := range x {
				set[k] = true
				walk(v)
			}
		case []any:
			for _, v := range x {
				walk(v)
			}
		}
	}
	walk(x)
	return slices.Sorted(maps.Keys(set))
}
