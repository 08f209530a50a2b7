package flagd

import "strings"

// manyTexts is how long a list of texts in a file has to be to become a set.
const manyTexts = 8

// within compiles in: a part of a text, or an element of a list.
func within(c *call) node {
	if c.bare {
		return eager(c, func(args []value) value {
			if len(args) < 1 {
				return failure("in takes 2 arguments, not 0")
			}
			return contains(append(args, value{})[1], args[0])
		})
	}
	if len(c.args) != 2 {
		c.warn("%q takes 2 arguments, not %d", c.op, len(c.args))
	}
	if len(c.args) < 2 {
		return fixed(truth(false))
	}
	x, y := c.args[0].eval, c.args[1].eval
	set := setOf(c.args[1])
	return node{eval: func(e Env) value {
		what, in := x(e), y(e)
		switch {
		case what.kind == failed || in.kind == failed:
			return first(what, in)
		case set != nil && what.kind == Text:
			return truth(set[what.text()])
		}
		return contains(in, what)
	}}
}

// setOf is the content of a long list of texts; nil for all else.
func setOf(n node) map[string]bool {
	if n.lit == nil || n.lit.kind != List || n.lit.len() < manyTexts {
		return nil
	}
	set := make(map[string]bool, n.lit.len())
	for i := range n.lit.len() {
		v := n.lit.element(i)
		if v.kind != Text {
			return nil
		}
		set[v.text()] = true
	}
	return set
}

func contains(in, what value) value {
	switch {
	case in.kind == Text && what.kind == Text:
		return truth(strings.Contains(in.text(), what.text()))
	case in.kind == Text:
		return failure("in: looks for a %v in a string", what.kind)
	case in.kind != List:
		return truth(false)
	}
	if l, ok := in.ref.([]string); ok {
		return truth(containsText(l, what))
	}
	for i := range in.len() {
		e := in.element(i)
		if e.kind == failed {
			return e
		}
		if matches(e, what) {
			return truth(true)
		}
	}
	return truth(false)
}

func containsText(list []string, what value) bool {
	for _, s := range list {
		if matches(textual(s), what) {
			return true
		}
	}
	return false
}

// matches reports whether an element of a list is meant by what. A number is also found in a text that spells the number, and
// in a list of a lowest and a highest value.
func matches(element, what value) bool {
	switch {
	case what.kind != Number:
		return what.kind != List && what.kind != Object && same(element, what)
	case element.kind == Text:
		n, ok := decimal(element.text())
		return ok && n == what.num
	case element.kind == List && element.len() >= 2:
		low, high := element.element(0), element.element(1)
		return low.kind == Number && high.kind == Number && low.num <= what.num && what.num <= high.num
	}
	return element.kind == Number && element.num == what.num
}
