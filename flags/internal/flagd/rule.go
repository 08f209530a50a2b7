package flagd

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Limits of the rules of a file. The limits bound the time, the memory and the stack for a broken or hostile file.
const (
	maxDepth = 100     // expressions inside one another, expanded references included
	maxNodes = 1 << 20 // expressions of a file, expanded references included, and another for each 8 bytes
)

// compiler turns targeting rules into closures.
type compiler struct {
	source
	attrs     hooks
	bucketing bucketing
	fragments map[string]part
	used      map[string]bool // fragments
	nodes     int             // how many more expressions the file may have
	warnings  warnings

	// of the flag that is compiled
	key      string
	variants []Variant
	refs     bool   // uses fragments
	loop     bool   // has a loop
	path     []step // to the expression that is compiled
	loops    []bool // around the expression; see place
	open     []string
}

// step is the name of an operator, or the index of an argument.
type step struct {
	name  string
	index int
}

// where writes the path to the expression that is compiled.
func (c *compiler) where() string {
	var b strings.Builder
	b.WriteString("targeting")
	for _, s := range c.path {
		if s.name == "" {
			b.WriteString("[" + strconv.Itoa(s.index) + "]")
			continue
		}
		b.WriteString("." + s.name)
	}
	return b.String()
}

// fault is an error of a flag at a place in the file.
type fault struct {
	at   int
	text string
}

func (f *fault) Error() string { return f.text }

func (c *compiler) fault(at int, format string, args ...any) error {
	return &fault{at, c.where() + ": " + fmt.Sprintf(format, args...)}
}

func (c *compiler) warn(at int, format string, args ...any) {
	c.warnings.add(c.key, at, format, args...)
}

// warnHere is warn with the path to the expression that is compiled.
func (c *compiler) warnHere(at int, format string, args ...any) {
	if c.warnings.room() {
		format, args = "%s: "+format, append([]any{c.where()}, args...)
	}
	c.warnings.add(c.key, at, format, args...)
}

// targeting compiles the rule of a flag; nil without a rule.
func (c *compiler) targeting(rule part) (func(Env) value, error) {
	c.refs, c.loop, c.path, c.loops, c.open = false, false, c.path[:0], nil, c.open[:0]
	if rule.kind == Null {
		return nil, nil
	}
	if rule.kind == Object || rule.kind == List {
		var err error
		if rule, err = c.read(rule.at, 2*maxDepth+2, maxValues); err != nil {
			return nil, fmt.Errorf("targeting: %w", err)
		}
	}
	if rule.kind == Object && len(rule.items) == 0 {
		return nil, nil
	}
	if rule.kind != Object {
		c.warn(rule.at, "targeting is a %v, and should be an object with one operator", rule.kind)
	}
	n, err := c.expression(rule)
	if err != nil {
		return nil, err
	}
	c.lint(n)
	return n.eval, nil
}

// lint warns of results that are not a variant.
func (c *compiler) lint(n node) {
	for i, o := range n.outs {
		name, ok := o.value.variant()
		if o.value.kind == Null || ok && find(c.variants, name) != nil {
			continue
		}
		if !slices.ContainsFunc(n.outs[:i], func(p out) bool { return p.value.kind == o.value.kind && equal(p.value, o.value) }) {
			c.warn(o.at, "targeting chooses %#v, which is not one of the variants %s", o.value, names(c.variants))
		}
	}
}

// expression compiles x.
func (c *compiler) expression(x part) (node, error) {
	if err := c.count(x); err != nil {
		return node{}, err
	}
	if len(c.path) > 2*maxDepth {
		return node{}, c.fault(x.at, "more than %d expressions are inside one another", maxDepth)
	}
	switch x.kind {
	case Object:
		return c.operation(x)
	case List:
		n, err := c.list(x.items)
		if n.lit != nil {
			n.outs = []out{{*n.lit, x.at}}
		}
		return n, err
	}
	v, err := c.scalar(x)
	n := fixed(v)
	n.outs = []out{{v, x.at}}
	return n, err
}

// count takes an expression off what the file may have. A long text counts as several.
func (c *compiler) count(x part) error {
	if c.nodes -= 1 + len(x.text)/64; c.nodes < 0 {
		return c.fault(x.at, "the file has more expressions than %d and one for each 8 bytes", maxNodes)
	}
	return nil
}

// scalar is the value of a JSON text, number, boolean or null. A text that names a variant leads to the variant at once.
func (c *compiler) scalar(x part) (value, error) {
	v := value{kind: x.kind}
	switch x.kind {
	case Boolean:
		v = truth(x.text == "true")
	case Text:
		v = textual(x.text)
	case Number:
		n, err := strconv.ParseFloat(x.text, 64)
		if err != nil {
			return v, c.fault(x.at, "the number %.40s is too large", x.text)
		}
		if isWhole(n) && math.Abs(n) > maxExact {
			c.warnHere(x.at, "the number %s is beyond 2^53, where numbers are not exact", x.text)
		}
		v = numeric(n)
	}
	if v.kind == Text || v.kind == Boolean {
		if variant := find(c.variants, x.text); variant != nil {
			v.ref = variant
		}
	}
	return v, nil
}

func (c *compiler) list(items []part) (node, error) {
	values := make([]value, len(items))
	for i, x := range items {
		if x.kind == Object || x.kind == List {
			return c.mixedList(items)
		}
		if err := c.count(x); err != nil {
			return node{}, err
		}
		v, err := c.scalar(x)
		if err != nil {
			return node{}, err
		}
		values[i] = v
	}
	return fixed(listed(values)), nil
}

func (c *compiler) mixedList(items []part) (node, error) {
	nodes, err := c.all(items)
	if err != nil {
		return node{}, err
	}
	n := node{items: nodes, eval: func(e Env) value { return evalList(nodes, e) }}
	values := make([]value, len(nodes))
	for i, x := range nodes {
		if x.lit == nil {
			return n, nil
		}
		values[i] = *x.lit
	}
	whole := fixed(listed(values))
	whole.items = nodes
	return whole, nil
}

func evalList(nodes []node, e Env) value {
	values := make([]value, len(nodes))
	for i, n := range nodes {
		if values[i] = n.eval(e); values[i].kind == failed {
			return values[i]
		}
	}
	return listed(values)
}

func (c *compiler) all(items []part) ([]node, error) {
	nodes := make([]node, len(items))
	for i, item := range items {
		var err error
		if nodes[i], err = c.argument(i, item); err != nil {
			return nil, err
		}
	}
	return nodes, nil
}

func (c *compiler) argument(i int, x part) (node, error) {
	c.path = append(c.path, step{index: i})
	n, err := c.expression(x)
	c.path = c.path[:len(c.path)-1]
	return n, err
}

// operation compiles an object. An object with more or fewer names than an operator is data.
func (c *compiler) operation(x part) (node, error) {
	if len(x.items) != 1 {
		c.warnHere(x.at, "an expression is an object with one operator; with %d names it is data", len(x.items))
		v := value{kind: Object, ref: x.data(c.source)}
		n := fixed(v)
		n.outs = []out{{v, x.at}}
		return n, nil
	}
	arg := x.items[0]
	c.path = append(c.path, step{name: arg.name})
	defer func() { c.path = c.path[:len(c.path)-1] }()
	if arg.name == "$ref" {
		return c.reference(arg)
	}
	o, ok := operators[arg.name]
	if !ok {
		return node{}, c.fault(x.at, "the operator %q is not known; there are %s", arg.name, known())
	}
	args := []part{arg}
	if arg.kind == List {
		args = arg.items
	}
	if len(args) < o.least && (o.loop || arg.kind != Object) {
		text := fmt.Sprintf("%q takes %d arguments, not %d", arg.name, o.least, len(args))
		c.warnHere(x.at, "%s: each evaluation fails", text)
		return node{eval: func(Env) value { return failure("%s", text) }}, nil
	}
	return c.call(x.at, o, arg.name, args, arg.kind == Object)
}

// call compiles the arguments and then the operator.
func (c *compiler) call(at int, o operator, name string, args []part, bare bool) (node, error) {
	var nodes []node
	var err error
	weight := 0
	if o.loop {
		nodes, weight, err = c.loopArguments(o, args)
	} else {
		nodes, err = c.all(args)
	}
	if err != nil {
		return node{}, err
	}
	k := &call{
		op: name, at: at, args: nodes, bare: bare,
		place: &place{c.key, c.attrs, c.loops, c.bucketing, weight},
		warn:  func(format string, args ...any) { c.warnHere(at, format, args...) },
	}
	n := o.build(k)
	if k.err != nil {
		return node{}, c.fault(at, "%s", k.err)
	}
	return n, nil
}

// loopArguments compiles the second argument as the body of a loop, and counts its expressions.
func (c *compiler) loopArguments(o operator, args []part) (nodes []node, weight int, err error) {
	c.loop = true
	around := c.loops
	nodes = make([]node, len(args))
	for i, x := range args {
		before := c.nodes
		if i == 1 {
			c.loops = append(around[:len(around):len(around)], o.looks)
		}
		nodes[i], err = c.argument(i, x)
		c.loops = around
		if err != nil {
			return nil, 0, err
		}
		if i == 1 {
			weight = before - c.nodes
		}
	}
	return nodes, weight, nil
}

// reference compiles a part of $evaluators in the place of the reference.
func (c *compiler) reference(arg part) (node, error) {
	name := arg.text
	if arg.kind == List && len(arg.items) == 1 {
		name = arg.items[0].text
	}
	if arg.kind != Text && name == "" {
		return node{}, c.fault(arg.at, "the name must be a string")
	}
	fragment, ok := c.fragments[name]
	if !ok {
		return node{}, c.fault(arg.at, "$evaluators has no %q", name)
	}
	if slices.Contains(c.open, name) {
		return node{}, c.fault(arg.at, "$evaluators goes round in a circle: %s", strings.Join(append(c.open, name), " → "))
	}
	c.refs, c.used[name] = true, true
	c.open = append(c.open, name)
	c.path[len(c.path)-1].name = "$ref(" + name + ")"
	n, err := c.expression(fragment)
	c.open = c.open[:len(c.open)-1]
	return n, err
}
