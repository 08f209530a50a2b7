package flagd

// maxSteps is how much work the loops of an evaluation may be together: the expressions of the body for each element,
// and the size of the values that are read. The limit keeps lists in lists, and texts that double, from taking seconds.
const maxSteps = 1 << 18

// A loop goes through the elements of a list.
type loop struct {
	op     string
	over   func(Env) value // null: there is nothing to go through
	body   func(Env) value
	weight int
}

func newLoop(c *call) loop {
	over := c.args[0]
	if l := over.lit; l != nil && l.kind != List {
		c.warn("%q goes through a list, not through %#v: it is taken as empty", c.op, *l)
		over = fixed(value{})
	}
	return loop{op: c.op, over: over.eval, body: c.args[1].eval, weight: c.place.weight}
}

// check refuses what a loop cannot go through.
func (l loop) check(v value) value {
	if v.kind == List || v.kind == Null || v.kind == failed {
		return v
	}
	return failure("%s: goes through a list, not through a value of type %v", l.op, v.kind)
}

// run evaluates the body for each element of the list until do returns false. The result is the value that failed, if any.
func (l loop) run(e Env, list value, s *scope, do func(element, result value) bool) value {
	s.outer, s.steps = e.scope, e.scope.steps
	e.scope = s
	for i := range list.len() {
		s.element = list.element(i)
		if !s.spend(1 + l.weight + s.element.size()) {
			return tooLong(l.op)
		}
		if s.element.kind == failed {
			return s.element
		}
		if s.reduces && s.element.kind == Null {
			continue
		}
		v := l.body(e)
		if v.kind == failed {
			return v
		}
		if !do(s.element, v) {
			break
		}
	}
	return value{}
}

func tooLong(op string) value {
	return failure("%s: the loops take more than %d steps", op, maxSteps)
}

// transform compiles map: a list of the results.
func transform(c *call) node { return collect(c, false) }

// filter compiles the operator that gives the elements whose result is true.
func filter(c *call) node { return collect(c, true) }

func collect(c *call, filters bool) node {
	l := newLoop(c)
	return node{eval: func(e Env) value {
		list := l.check(l.over(e))
		if list.kind == failed {
			return list
		}
		var to []value
		v := l.run(e, list, &scope{}, func(element, result value) bool {
			switch {
			case !filters:
				to = append(to, result)
			case result.truthy():
				to = append(to, element)
			}
			return true
		})
		if v.kind == failed {
			return v
		}
		return listed(to)
	}}
}

// A search is all, none or some: the loop ends at the first element whose result is as wanted.
type search struct {
	until bool // the result that ends the loop
	found bool // what the operator gives then
	empty bool // what the operator gives for an empty list
}

func (s search) compile(c *call) node {
	l := newLoop(c)
	return node{eval: func(e Env) value {
		list := l.over(e)
		if list.kind != failed && !list.truthy() {
			return truth(s.empty)
		}
		if list = l.check(list); list.kind == failed {
			return list
		}
		result := !s.found
		v := l.run(e, list, &scope{}, func(_, v value) bool {
			if v.truthy() == s.until {
				result = s.found
				return false
			}
			return true
		})
		if v.kind == failed {
			return v
		}
		return truth(result)
	}}
}

// reduce compiles the operator that makes a single value of a list. The type of the initial value stays. Where there is no
// list the result is 0, as in flagd.
func reduce(c *call) node {
	l, initial := newLoop(c), c.args[2].eval
	return node{eval: func(e Env) value {
		list, start := l.check(l.over(e)), initial(e)
		if list.kind == failed || start.kind == failed {
			return first(list, start)
		}
		kind := start.kind
		if kind != Boolean && kind != Number && kind != Text {
			return failure("reduce: the initial value is a %v, and must be a boolean, a number or a string", kind)
		}
		if list.kind == Null {
			return numeric(0)
		}
		s := &scope{accumulator: start, reduces: true}
		var bad value
		v := l.run(e, list, s, func(_, result value) bool {
			s.accumulator = convert(result, kind)
			bad = s.accumulator
			return bad.kind != failed
		})
		if v.kind == failed || bad.kind == failed {
			return first(v, bad)
		}
		return s.accumulator
	}}
}

// convert takes a result to the type of the initial value.
func convert(v value, kind Kind) value {
	switch kind {
	case Boolean:
		return truth(v.truthy())
	case Number:
		n, v := calculate("reduce", v)
		if v.kind == failed {
			return v
		}
		return numeric(n)
	}
	b, ok := spell(nil, v)
	if !ok {
		return notText("reduce", v)
	}
	return textual(string(b))
}

// merge compiles the operator that joins lists and single values to a list. Allocates.
func merge(c *call) node {
	return eager(c, func(args []value) value {
		var all []value
		for _, v := range args {
			if v.kind != List {
				all = append(all, v)
				continue
			}
			for i := range v.len() {
				all = append(all, v.element(i))
			}
		}
		return listed(all)
	})
}
