package flagd

import (
	"context"
	"sync/atomic"

	"github.com/open-feature/go-sdk/openfeature"
)

// Env is what an evaluation knows: passed by value, in registers.
type Env struct {
	Ctx  context.Context
	EC   openfeature.EvaluationContext // the attributes, if Flat is nil
	Flat openfeature.FlattenedContext  // the attributes, from a client of the SDK

	// Second is the time that all evaluations of a request see, in Unix seconds. The first evaluation that asks for the time sets it;
	// before, it is 0. With nil, each evaluation sees its own time.
	Second *atomic.Int64

	scope *scope // of the loop around the expression; nil for a flag without loops
}

func (e Env) attribute(name string) any {
	if e.Flat != nil {
		return e.Flat[name]
	}
	return e.EC.Attribute(name)
}

// Key returns the targeting key, or "" without one.
func (e Env) Key() string {
	if e.Flat == nil && e.EC.TargetingKey() != "" {
		return e.EC.TargetingKey()
	}
	key, _ := e.attribute(openfeature.TargetingKey).(string)
	return key
}

// scope is what the body of a loop sees.
type scope struct {
	outer       *scope // nil outside of all loops
	element     value
	accumulator value
	reduces     bool
	steps       *int // how many are left for the evaluation
}

// spend takes steps off what is left.
func (s *scope) spend(n int) bool {
	*s.steps -= n
	return *s.steps >= 0
}

// node is a compiled expression.
type node struct {
	eval  func(Env) value
	lit   *value // the constant result, if known
	items []node // of a list in the file
	outs  []out  // literals that may be the result of a rule
}

// out is a literal and its place in the file.
type out struct {
	value value
	at    int
}

// isList reports whether the expression is a list in the file.
func (n node) isList() bool { return n.items != nil || n.lit != nil && n.lit.kind == List }

// parts are the elements of a list in the file.
func (n node) parts() []node {
	if n.items != nil || !n.isList() {
		return n.items
	}
	parts := make([]node, n.lit.len())
	for i := range parts {
		parts[i] = fixed(n.lit.element(i))
	}
	return parts
}

// results are the literals that the expression may give, in the place at for a part of a list.
func (n node) results(at int) []out {
	if n.outs == nil && n.lit != nil {
		return []out{{*n.lit, at}}
	}
	return n.outs
}

func fixed(v value) node { return node{eval: func(Env) value { return v }, lit: &v} }

// A call is an operator with its arguments, as the functions that compile operators see it.
type call struct {
	op    string
	at    int // the place in the file
	args  []node
	bare  bool // the argument is a rule instead of a list
	place *place
	warn  func(format string, args ...any)
	err   error // why the call cannot be compiled
}

// place is what an expression has to know about the rule around it.
type place struct {
	key       string // of the flag
	attrs     map[string]func(context.Context) string
	loops     []bool // the loops around, outermost first; true: names that an element lacks are looked up outside
	bucketing bucketing
	weight    int // of the body of a loop, in expressions
}

// all evaluates the arguments into values. Allocates.
func (c *call) all(e Env) ([]value, value) {
	if c.bare {
		v := c.args[0].eval(e)
		if v.kind != List {
			return []value{v}, v
		}
		values := make([]value, v.len())
		for i := range values {
			if values[i] = v.element(i); values[i].kind == failed {
				return nil, values[i]
			}
		}
		return values, value{}
	}
	values := make([]value, len(c.args))
	for i, a := range c.args {
		if values[i] = a.eval(e); values[i].kind == failed {
			return nil, values[i]
		}
	}
	return values, value{}
}

// eager compiles an operator that takes all arguments as values. Allocates.
func eager(c *call, apply func([]value) value) node {
	return node{eval: func(e Env) value {
		values, v := c.all(e)
		if v.kind == failed {
			return v
		}
		return apply(values)
	}}
}
