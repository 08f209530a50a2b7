package flags

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/open-feature/go-sdk/openfeature"
)

// env is what an evaluation knows. It is passed by value, in registers.
type env struct {
	ctx  context.Context
	ec   openfeature.EvaluationContext // from ctx, where there is no flat
	flat openfeature.FlattenedContext  // from a client of the SDK, which has merged all contexts into it
}

// keyAttribute is the name of the text that percentages go by.
const keyAttribute = openfeature.TargetingKey

func (e env) attribute(name string) any {
	if e.flat != nil {
		return e.flat[name]
	}
	return e.ec.Attribute(name)
}

func (e env) key() string {
	if e.flat == nil && e.ec.TargetingKey() != "" {
		return e.ec.TargetingKey()
	}
	key, _ := e.attribute(keyAttribute).(string)
	return key
}

// node is a compiled expression.
type node struct {
	eval func(env) value
	lit  *value  // what it always gives, if that is known
	outs []value // literals that it may give as the result of a rule
}

func literal(v value) node {
	return node{eval: func(env) value { return v }, lit: &v, outs: []value{v}}
}

// compiler turns targeting rules into closures.
type compiler struct {
	attrs     map[string]func(context.Context) string
	fragments map[string]any
	nodes     int // how many more expressions the file may have

	key      string
	variants map[string]*variant
	refs     bool
	open     []string // the references that are being expanded
}

// targeting compiles the rule of a flag; nil if it has none.
func (c *compiler) targeting(def map[string]any) (func(env) value, error) {
	rule, err := member[map[string]any](def, "targeting")
	if err != nil || len(rule) == 0 {
		return nil, err
	}
	n, err := c.expression(rule, "targeting", 0)
	if err != nil {
		return nil, err
	}
	for _, out := range n.outs {
		if out.kind == null {
			continue
		}
		if name, ok := out.name(); !ok || c.variants[name] == nil {
			return nil, fmt.Errorf("targeting chooses %#v, which is not one of the variants %s", out, names(c.variants))
		}
	}
	return n.eval, nil
}

// expression compiles x, which stands at the place at, depth levels deep.
func (c *compiler) expression(x any, at string, depth int) (node, error) {
	if c.nodes--; c.nodes < 0 {
		return node{}, fmt.Errorf("%s: the file has more than %d expressions", at, maxNodes)
	}
	if depth > maxDepth {
		return node{}, fmt.Errorf("%s: more than %d expressions are inside one another", at, maxDepth)
	}
	switch x := x.(type) {
	case map[string]any:
		return c.operation(x, at, depth)
	case []any:
		return c.list(x, at, depth)
	}
	return literal(c.scalar(x)), nil
}

// scalar is the value of a JSON text, number, boolean or null. One that names a variant leads to it at once.
func (c *compiler) scalar(x any) value {
	if n, ok := x.(json.Number); ok {
		x, _ = n.Float64()
	}
	v := valueOf(x)
	if name, ok := v.name(); ok && c.variants[name] != nil {
		v.ref = c.variants[name]
	}
	return v
}

func (c *compiler) list(items []any, at string, depth int) (node, error) {
	nodes, err := c.all(items, at, depth)
	if err != nil {
		return node{}, err
	}
	fixed := make([]value, len(nodes))
	for i, n := range nodes {
		if n.lit == nil {
			return node{eval: func(e env) value { return evalList(nodes, e) }}, nil
		}
		fixed[i] = *n.lit
	}
	return literal(value{kind: list, ref: fixed}), nil
}

func evalList(nodes []node, e env) value {
	values := make([]value, len(nodes))
	for i, n := range nodes {
		values[i] = n.eval(e)
	}
	return value{kind: list, ref: values}
}

func (c *compiler) all(items []any, at string, depth int) ([]node, error) {
	nodes := make([]node, len(items))
	for i, item := range items {
		n, err := c.expression(item, fmt.Sprintf("%s[%d]", at, i), depth+1)
		if err != nil {
			return nil, err
		}
		nodes[i] = n
	}
	return nodes, nil
}

// operation compiles an object, which has to have the operator as its only name.
func (c *compiler) operation(x map[string]any, at string, depth int) (node, error) {
	if len(x) != 1 {
		return node{}, fmt.Errorf("%s: an expression is an object with one operator, not with %d names", at, len(x))
	}
	var op string
	var arg any
	for op, arg = range x {
		at += "." + op
	}
	args, ok := arg.([]any)
	if !ok {
		args = []any{arg}
	}
	switch op {
	case "$ref":
		return c.reference(args, at, depth)
	case "var":
		return c.variable(args, at, depth)
	case "fractional":
		return c.fractional(args, at, depth)
	}
	o, ok := operators[op]
	if !ok {
		return node{}, fmt.Errorf("%s: the operator %q is not known; there are %s", at, op, known())
	}
	if len(args) < o.min || o.max > 0 && len(args) > o.max {
		return node{}, fmt.Errorf("%s: %q takes %s arguments, not %d", at, op, o.arity(), len(args))
	}
	nodes, err := c.all(args, at, depth)
	if err != nil {
		return node{}, err
	}
	return o.build(nodes), nil
}

// reference compiles a part of $evaluators in the place where it is used.
func (c *compiler) reference(args []any, at string, depth int) (node, error) {
	name, ok := single(args)
	if !ok {
		return node{}, fmt.Errorf("%s: the name must be a string", at)
	}
	fragment, ok := c.fragments[name]
	if !ok {
		return node{}, fmt.Errorf("%s: $evaluators has no %q", at, name)
	}
	if slices.Contains(c.open, name) {
		return node{}, fmt.Errorf("%s: $evaluators goes round in a circle: %s", at, strings.Join(append(c.open, name), " → "))
	}
	c.refs = true
	c.open = append(c.open, name)
	n, err := c.expression(fragment, at+"("+name+")", depth+1)
	c.open = c.open[:len(c.open)-1]
	return n, err
}

func single(args []any) (string, bool) {
	if len(args) != 1 {
		return "", false
	}
	s, ok := args[0].(string)
	return s, ok && s != ""
}

// variable compiles a look into the evaluation context, with an optional default.
func (c *compiler) variable(args []any, at string, depth int) (node, error) {
	if len(args) < 1 || len(args) > 2 {
		return node{}, fmt.Errorf("%s: takes a name and at most one default, not %d arguments", at, len(args))
	}
	name, ok := single(args[:1])
	if !ok {
		return node{}, fmt.Errorf("%s: the name must be a string that is not empty", at)
	}
	get, err := c.getter(name, at)
	if err != nil || len(args) == 1 {
		return node{eval: get}, err
	}
	preset, err := c.expression(args[1], at+"[1]", depth+1)
	return node{outs: preset.outs, eval: func(e env) value {
		if v := get(e); v.kind != null {
			return v
		}
		return preset.eval(e)
	}}, err
}

// isOwn tells whether the name is one that the evaluation itself fills in.
func isOwn(name string) bool { return name == "$flagd" || strings.HasPrefix(name, "$flagd.") }

func (c *compiler) getter(name, at string) (func(env) value, error) {
	switch {
	case name == keyAttribute:
		return func(e env) value { return orNull(e.key()) }, nil
	case name == "$flagd.flagKey":
		return literal(textual(c.key)).eval, nil
	case name == "$flagd.timestamp":
		return func(env) value { return numeric(float64(time.Now().Unix())) }, nil
	case isOwn(name):
		return nil, fmt.Errorf("%s: %q is not known; there are $flagd.flagKey and $flagd.timestamp", at, name)
	}
	get := attribute(name)
	hook := c.attrs[name]
	if hook == nil {
		return get, nil
	}
	return func(e env) value {
		if s := hook(e.ctx); s != "" {
			return textual(s)
		}
		return get(e)
	}, nil
}

// attribute looks the name up as it is, and if there is nothing as a path with dots.
func attribute(name string) func(env) value {
	if !strings.Contains(name, ".") {
		return func(e env) value { return valueOf(e.attribute(name)) }
	}
	path := strings.Split(name, ".")
	return func(e env) value {
		if x := e.attribute(name); x != nil {
			return valueOf(x)
		}
		v := valueOf(e.attribute(path[0]))
		for _, part := range path[1:] {
			m, _ := v.ref.(map[string]any)
			v = valueOf(m[part])
		}
		return v
	}
}

func orNull(s string) value {
	if s == "" {
		return value{}
	}
	return textual(s)
}

// known lists the operators for messages.
func known() string {
	return strings.Join(append(slices.Sorted(maps.Keys(operators)), "fractional", "var"), " ")
}
