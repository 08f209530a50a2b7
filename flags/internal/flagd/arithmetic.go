package flagd

import "math"

// calculable is the value as arithmetic calculates with it: a number, or a text, which is 0 if it spells no number.
func (v value) calculable() (float64, bool) {
	if v.kind == Text {
		n, _ := decimal(v.text())
		return n, true
	}
	return v.num, v.kind == Number
}

// A series is an operator that goes through its arguments from left to right.
type series struct {
	none value                          // the result without arguments
	one  func(a float64) float64        // of a single argument; nil: the argument
	step func(sofar, b float64) float64 // of what there is so far, and the next argument
}

var (
	sum      = series{none: numeric(0), step: func(a, b float64) float64 { return a + b }}
	minus    = series{none: numeric(0), one: func(a float64) float64 { return -a }, step: func(a, b float64) float64 { return a - b }}
	product  = series{none: numeric(1), step: func(a, b float64) float64 { return a * b }}
	quotient = series{none: numeric(0), step: func(a, b float64) float64 { return a / b }}
	greatest = series{step: func(a, b float64) float64 {
		if b > a {
			return b
		}
		return a
	}}
	smallest = series{step: func(a, b float64) float64 {
		if a > b {
			return b
		}
		return a
	}}
)

func (s series) compile(c *call) node {
	if len(c.args) == 0 {
		c.warn("%q has no arguments", c.op)
		return fixed(s.none)
	}
	if c.bare {
		return eager(c, func(args []value) value { return s.apply(c.op, args) })
	}
	return node{eval: func(e Env) value {
		var sofar float64
		for i, a := range c.args {
			n, v := calculate(c.op, a.eval(e))
			if v.kind == failed {
				return v
			}
			sofar = s.next(i, sofar, n)
		}
		return s.result(len(c.args), sofar)
	}}
}

func (s series) apply(op string, args []value) value {
	if len(args) == 0 {
		return s.none
	}
	var sofar float64
	for i, a := range args {
		n, v := calculate(op, a)
		if v.kind == failed {
			return v
		}
		sofar = s.next(i, sofar, n)
	}
	return s.result(len(args), sofar)
}

func (s series) next(i int, sofar, n float64) float64 {
	if i == 0 {
		return n
	}
	return s.step(sofar, n)
}

func (s series) result(args int, n float64) value {
	if args == 1 && s.one != nil {
		n = s.one(n)
	}
	return numeric(n)
}

func calculate(op string, v value) (float64, value) {
	n, ok := v.calculable()
	if !ok && v.kind != failed {
		v = failure("%s: cannot calculate with a value of type %v", op, v.kind)
	}
	return n, v
}

// remainder compiles %. The sign is that of the dividend.
func remainder(c *call) node {
	apply := func(a, b value) value {
		x, a := calculate(c.op, a)
		y, b := calculate(c.op, b)
		if a.kind == failed || b.kind == failed {
			return first(a, b)
		}
		return numeric(math.Mod(x, y))
	}
	if c.bare {
		return eager(c, func(args []value) value {
			if len(args) < 2 {
				return failure("%% takes 2 arguments, not %d", len(args))
			}
			return apply(args[0], args[1])
		})
	}
	x, y := c.args[0].eval, c.args[1].eval
	return node{eval: func(e Env) value { return apply(x(e), y(e)) }}
}
