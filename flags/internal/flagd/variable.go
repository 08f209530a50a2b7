package flagd

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/open-feature/go-sdk/openfeature"
)

// own begins the names that the evaluation fills in: $flagd.flagKey and $flagd.timestamp. Callers cannot set $flagd.
const own = "$flagd"

func isOwn(name string) bool { return name == own || strings.HasPrefix(name, own+".") }

// variable compiles var: a look into the evaluation context, or into the element of a loop, with an optional default.
func variable(c *call) node {
	if len(c.args) > 2 {
		c.warn("var takes a name and a default, not %d arguments: there is no default", len(c.args))
	}
	name := fixed(textual(""))
	if len(c.args) > 0 {
		name = c.args[0]
	}
	get := c.place.computed(name.eval)
	if c.bare {
		get = c.place.spread(name.eval)
	}
	switch {
	case name.lit != nil && name.lit.kind == Null:
		get = c.place.nameless
	case name.lit != nil:
		s, ok := path(*name.lit)
		if !ok {
			c.err = fmt.Errorf("the name must be a string, not %#v", *name.lit)
			return node{}
		}
		if isOwn(s) && s != own+".flagKey" && s != own+".timestamp" && s != own {
			c.warn("%q is not known, it is always null; there are $flagd.flagKey and $flagd.timestamp", s)
		}
		get = c.place.getter(s)
	}
	if len(c.args) != 2 {
		return node{eval: get}
	}
	preset := c.args[1]
	return node{outs: preset.outs, eval: func(e Env) value {
		if v := get(e); v.kind != Null {
			return v
		}
		return preset.eval(e)
	}}
}

// path is the name of a variable. A number is the name with its digits.
func path(v value) (string, bool) {
	switch v.kind {
	case Text:
		return v.text(), true
	case Number:
		return strconv.FormatFloat(v.num, 'f', -1, 64), true
	}
	return "", false
}

// computed looks up a name from a rule.
func (p *place) computed(name func(Env) value) func(Env) value {
	return func(e Env) value {
		v := name(e)
		switch v.kind {
		case failed:
			return v
		case Null:
			return p.nameless(e)
		}
		s, ok := path(v)
		if !ok {
			return failure("var: the name is a %v, and must be a string", v.kind)
		}
		return p.lookup(e, s)
	}
}

// nameless is var without a name: a scalar that is the element of a loop, and else null.
func (p *place) nameless(e Env) value {
	if len(p.loops) > 0 && e.scope.element.kind != List && e.scope.element.kind != Object && !e.scope.reduces {
		return e.scope.element
	}
	return value{}
}

// spread is computed for a rule that may give a list of a name and a default.
func (p *place) spread(name func(Env) value) func(Env) value {
	return func(e Env) value {
		v := name(e)
		if v.kind != List {
			return p.computed(func(Env) value { return v })(e)
		}
		if v.len() == 0 {
			return p.lookup(e, "")
		}
		x := p.computed(func(Env) value { return v.element(0) })(e)
		if x.kind == Null && v.len() == 2 {
			return v.element(1)
		}
		return x
	}
}

// getter returns the function that looks a name up. Outside of loops the function allocates nothing.
func (p *place) getter(name string) func(Env) value {
	if len(p.loops) == 0 {
		return p.root(name)
	}
	return func(e Env) value { return p.lookup(e, name) }
}

// lookup looks a name up in the element of the loop, and for the loops that see the outside, there as well.
func (p *place) lookup(e Env, name string) value {
	s := e.scope
	for i := len(p.loops) - 1; i >= 0; i-- {
		v := s.find(name)
		if !s.spend(1 + v.size()) {
			return tooLong("var")
		}
		if v.kind != Null || strings.Trim(name, ".") == "" {
			return v
		}
		if !p.loops[i] && !slices.Contains(p.loops[:i], true) {
			return v
		}
		if !p.loops[i] { // inside of a loop that sees the outside, as in flagd
			break
		}
		s = s.outer
	}
	if len(p.loops) == 0 {
		return p.root(name)(e)
	}
	if isOwn(name) || name == openfeature.TargetingKey || p.attrs[name] != nil {
		return p.root(name)(e)
	}
	v, rest := e.find(name)
	if !s.spend(1 + v.size()) {
		return tooLong("var")
	}
	return descend(v, rest)
}

// find looks an attribute up by the whole name, or else by the name before the first dot.
func (e Env) find(name string) (v value, rest string) {
	if x := e.attribute(name); x != nil {
		return valueOf(x), ""
	}
	head, rest, _ := strings.Cut(strings.TrimLeft(name, "."), ".")
	return valueOf(e.attribute(head)), rest
}

// find looks a name up in the element, or in what the body of a reduce sees.
func (s *scope) find(name string) value {
	if !s.reduces {
		return descend(s.element, name)
	}
	head, rest, _ := strings.Cut(strings.TrimLeft(name, "."), ".")
	switch head {
	case "current":
		return descend(s.element, rest)
	case "accumulator":
		return descend(s.accumulator, rest)
	case "valueType":
		return descend(textual(map[Kind]string{Boolean: "bool", Number: "number", Text: "string"}[s.accumulator.kind]), rest)
	}
	return value{}
}

// descend follows a path. Empty parts are left out.
func descend(v value, path string) value {
	for path != "" && v.kind != Null && v.kind != failed {
		var part string
		if part, path, _ = strings.Cut(path, "."); part != "" {
			v = v.field(part)
		}
	}
	return v
}

// root returns the function that looks a name up in the evaluation context.
func (p *place) root(name string) func(Env) value {
	switch {
	case strings.Trim(name, ".") == "":
		return p.whole
	case name == openfeature.TargetingKey:
		return targetingKey
	case isOwn(name):
		return p.ownGetter(name)
	}
	get := attribute(name)
	hook := p.attrs[name]
	if hook == nil {
		return get
	}
	return func(e Env) value {
		if s := hook(e.Ctx); s != "" {
			return textual(s)
		}
		return get(e)
	}
}

// targetingKey is null if the caller gave none.
func targetingKey(e Env) value {
	if key := e.Key(); key != "" {
		return textual(key)
	}
	if v := valueOf(e.attribute(openfeature.TargetingKey)); v.kind != Text || v.text() != "" {
		return v
	}
	return value{}
}

func (p *place) ownGetter(name string) func(Env) value {
	switch name {
	case own + ".flagKey":
		key := textual(p.key)
		return func(Env) value { return key }
	case own + ".timestamp":
		return Env.timestamp
	case own:
		return func(e Env) value { return value{kind: Object, ref: p.own(e)} }
	}
	return func(Env) value { return value{} }
}

// timestamp returns the time in Unix seconds.
func (e Env) timestamp() value {
	if e.Second == nil {
		return numeric(float64(time.Now().Unix()))
	}
	if e.Second.Load() == 0 {
		e.Second.CompareAndSwap(0, time.Now().Unix())
	}
	return numeric(float64(e.Second.Load()))
}

func (p *place) own(e Env) map[string]any {
	return map[string]any{"flagKey": p.key, "timestamp": e.timestamp().num}
}

// whole is the evaluation context as an object. Allocates.
func (p *place) whole(e Env) value {
	all := map[string]any{}
	if e.Flat != nil {
		for name, x := range e.Flat {
			all[name] = x
		}
	} else {
		all = e.EC.Attributes()
	}
	if key := targetingKey(e); key.kind == Text {
		all[openfeature.TargetingKey] = key.text()
	}
	for name, hook := range p.attrs {
		if s := hook(e.Ctx); s != "" {
			all[name] = s
		}
	}
	all[own] = p.own(e)
	return value{kind: Object, ref: all}
}

// attribute looks up the whole name, and if there is nothing, the path with dots.
func attribute(name string) func(Env) value {
	if !strings.Contains(name, ".") {
		return func(e Env) value { return valueOf(e.attribute(name)) }
	}
	return func(e Env) value {
		v, rest := e.find(name)
		return descend(v, rest)
	}
}

// missing compiles the operator that lists the names without a value. Allocates.
func missing(c *call) node {
	return node{eval: func(e Env) value {
		names, v := c.all(e)
		if v.kind == failed {
			return v
		}
		if len(names) == 1 && names[0].kind == List {
			names = elements(names[0])
		}
		absent, v := c.place.absent(e, names)
		if v.kind == failed {
			return v
		}
		return listed(absent)
	}}
}

// missingSome compiles missing for names of which a number is enough. Allocates.
func missingSome(c *call) node {
	return node{eval: func(e Env) value {
		args, v := c.all(e)
		switch {
		case v.kind == failed:
			return v
		case len(args) < 2 || args[1].kind != List:
			return failure("missing_some takes a number and a list of names")
		}
		enough, v := calculate(c.op, args[0])
		if v.kind == failed {
			return v
		}
		names := elements(args[1])
		absent, v := c.place.absent(e, names)
		switch {
		case v.kind == failed:
			return v
		case len(names)-len(absent) >= clamp(enough):
			return listed(nil)
		}
		return listed(absent)
	}}
}

func elements(list value) []value {
	all := make([]value, list.len())
	for i := range all {
		all[i] = list.element(i)
	}
	return all // an element that failed is no name, and so an error as well
}

// absent returns the names that give null.
func (p *place) absent(e Env, names []value) (absent []value, bad value) {
	for _, v := range names {
		if v.kind == Null {
			absent = append(absent, v)
			continue
		}
		s, ok := path(v)
		if !ok {
			return nil, failure("missing: a name is a %v, and must be a string", v.kind)
		}
		var x value
		if n := len(p.loops); n > 0 {
			x = e.scope.find(s)
			if !e.scope.spend(1 + x.size()) {
				return nil, tooLong("missing")
			}
		} else {
			x = p.root(s)(e)
		}
		if x.kind == failed {
			return nil, x
		}
		if x.kind == Null {
			absent = append(absent, v)
		}
	}
	return absent, value{}
}
