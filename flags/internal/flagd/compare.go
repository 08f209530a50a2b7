package flagd

import (
	"math"
	"strings"
)

// number is the value as == and < calculate with it; NaN for all that is no number.
func (v value) number() float64 {
	switch v.kind {
	case Null:
		return 0
	case Boolean, Number:
		return v.num
	case Text:
		if n, ok := decimal(v.text()); ok && !math.IsInf(n, 0) {
			return n
		}
		if strings.TrimSpace(v.text()) == "" {
			return 0
		}
	}
	return math.NaN()
}

// equal is ==: null equals null alone, two texts are compared as such, all else as numbers.
func equal(a, b value) bool {
	switch {
	case a.kind == Null || b.kind == Null:
		return a.kind == b.kind
	case a.kind == Text && b.kind == Text:
		return a.text() == b.text()
	}
	return a.number() == b.number()
}

func unequal(a, b value) bool { return !equal(a, b) }

// same is ===: equal, and of the same type.
func same(a, b value) bool { return a.kind == b.kind && equal(a, b) }

func different(a, b value) bool { return !same(a, b) }

// less is <: two texts are compared as such, byte by byte, all else as numbers.
func less(a, b value) bool {
	if a.kind == Text && b.kind == Text {
		return a.text() < b.text()
	}
	return a.number() < b.number()
}

func more(a, b value) bool { return less(b, a) }

func atMost(a, b value) bool { return less(a, b) || equal(a, b) }

func atLeast(a, b value) bool { return less(b, a) || equal(a, b) }

// dual compiles an operator of two arguments. Further ones are ignored.
func dual(holds func(a, b value) bool) func(*call) node {
	return func(c *call) node { return relate(c, holds, 2) }
}

// ordered compiles an operator of two arguments, or of three in a row: {"<": [1, {"var": "x"}, 5]}.
func ordered(holds func(a, b value) bool) func(*call) node {
	return func(c *call) node { return relate(c, holds, 3) }
}

func relate(c *call, holds func(a, b value) bool, most int) node {
	if c.bare {
		return eager(c, func(args []value) value { return row(args, c.op, holds, most) })
	}
	if n := len(c.args); n < 2 || n > most {
		c.warn("%q takes 2 arguments%s, not %d", c.op, map[int]string{3: " or 3"}[most], n)
	}
	if len(c.args) < 2 {
		return fixed(row(nil, c.op, holds, most))
	}
	x, y := c.args[0].eval, c.args[1].eval
	if most == 2 || len(c.args) != 3 {
		return node{eval: func(e Env) value {
			a, b := x(e), y(e)
			if a.kind == failed || b.kind == failed {
				return first(a, b)
			}
			return truth(holds(a, b))
		}}
	}
	z := c.args[2].eval
	return node{eval: func(e Env) value {
		a, b, c := x(e), y(e), z(e)
		if a.kind == failed || b.kind == failed || c.kind == failed {
			return first(first(a, b), c)
		}
		return truth(holds(a, b) && holds(b, c))
	}}
}

// row compares values whose number is known only now.
func row(args []value, op string, holds func(a, b value) bool, most int) value {
	switch {
	case len(args) < 2:
		return truth(op == "!=" || op == "!==")
	case len(args) == 3 && most == 3:
		return truth(holds(args[0], args[1]) && holds(args[1], args[2]))
	}
	return truth(holds(args[0], args[1]))
}

// first is the value that failed.
func first(a, b value) value {
	if a.kind == failed {
		return a
	}
	return b
}
