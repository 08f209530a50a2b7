package flags

import (
	"fmt"
	"strings"
)

// operator is one that has no rules of its own for what its arguments look like.
type operator struct {
	min, max int // number of arguments; max 0: any
	build    func(args []node) node
}

func (o operator) arity() string {
	switch {
	case o.max == 0:
		return fmt.Sprintf("at least %d", o.min)
	case o.min == o.max:
		return fmt.Sprint(o.min)
	}
	return fmt.Sprintf("%d or %d", o.min, o.max)
}

var operators = map[string]operator{
	"if":  {2, 0, choose},
	"and": {1, 0, and},
	"or":  {1, 0, or},
	"!":   {1, 1, unary(func(v value) bool { return !v.truthy() })},
	"!!":  {1, 1, unary(value.truthy)},
	"==":  {2, 2, dual(equal)},
	"!=":  {2, 2, dual(func(a, b value) bool { return !equal(a, b) })},
	"===": {2, 2, dual(same)},
	"!==": {2, 2, dual(func(a, b value) bool { return !same(a, b) })},
	"cat": {1, 0, join},
	"in":  {2, 2, dual(func(a, b value) bool { return contains(b, a) })},
	"<":   {2, 3, ordered(func(c int) bool { return c < 0 })},
	"<=":  {2, 3, ordered(func(c int) bool { return c <= 0 })},
	">":   {2, 2, ordered(func(c int) bool { return c > 0 })},
	">=":  {2, 2, ordered(func(c int) bool { return c >= 0 })},
}

func unary(fn func(value) bool) func([]node) node {
	return func(args []node) node {
		a := args[0].eval
		return node{eval: func(e env) value { return truth(fn(a(e))) }}
	}
}

func dual(fn func(a, b value) bool) func([]node) node {
	return func(args []node) node {
		a, b := args[0].eval, args[1].eval
		return node{eval: func(e env) value { return truth(fn(a(e), b(e))) }}
	}
}

// join makes one text of its arguments. It is the one operator that allocates.
func join(args []node) node {
	return node{eval: func(e env) value {
		var b strings.Builder
		for _, a := range args {
			s, _ := a.eval(e).name()
			b.WriteString(s)
		}
		return textual(b.String())
	}}
}

// ordered compares two, or three in a row: {"<": [1, {"var": "x"}, 5]}.
func ordered(fn func(int) bool) func([]node) node {
	holds := func(a, b value) bool {
		c, ok := compare(a, b)
		return ok && fn(c)
	}
	return func(args []node) node {
		if len(args) == 2 {
			return dual(holds)(args)
		}
		a, b, c := args[0].eval, args[1].eval, args[2].eval
		return node{eval: func(e env) value {
			middle := b(e)
			return truth(holds(a(e), middle) && holds(middle, c(e)))
		}}
	}
}

// choose is if, then, else if, then, …, else. Without an else the rest is null.
func choose(args []node) node {
	n := node{}
	for i := 1; i < len(args); i += 2 {
		n.outs = append(n.outs, args[i].outs...)
	}
	last := literal(value{})
	if len(args)%2 == 1 {
		last = args[len(args)-1]
		args = args[:len(args)-1]
	}
	n.outs = append(n.outs, last.outs...)
	n.eval = func(e env) value {
		for i := 0; i < len(args); i += 2 {
			if args[i].eval(e).truthy() {
				return args[i+1].eval(e)
			}
		}
		return last.eval(e)
	}
	return n
}

// and gives its first argument that is not true, or else its last.
func and(args []node) node {
	return decide(args, false)
}

// or gives its first argument that is true, or else its last.
func or(args []node) node {
	return decide(args, true)
}

func decide(args []node, stop bool) node {
	last := args[len(args)-1]
	n := node{outs: last.outs}
	for _, a := range args[:len(args)-1] {
		if a.lit != nil && a.lit.truthy() == stop {
			n.outs = append(n.outs[:len(n.outs):len(n.outs)], *a.lit)
		}
	}
	n.eval = func(e env) value {
		for _, a := range args[:len(args)-1] {
			if v := a.eval(e); v.truthy() == stop {
				return v
			}
		}
		return last.eval(e)
	}
	return n
}
