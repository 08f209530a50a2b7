package flagd

import (
	"math"
	"strconv"
	"strings"
)

// spell appends the value as cat writes it; false for what cannot be a part of a text.
func spell(b []byte, v value) ([]byte, bool) {
	switch v.kind {
	case Null:
		return b, true
	case Text:
		return append(b, v.text()...), true
	case Number:
		return strconv.AppendFloat(b, v.num, 'f', -1, 64), true
	}
	return b, false
}

// cat compiles the joining of texts, which allocates. Two or more arguments lose the spaces around the result, as in
// flagd: the result is often the bucket key of a fractional.
func cat(c *call) node {
	if c.bare {
		return eager(c, func(args []value) value {
			var b []byte
			for _, v := range args {
				var ok bool
				if b, ok = spell(b, v); !ok {
					return notText(c.op, v)
				}
			}
			return joined(b, len(args))
		})
	}
	return node{eval: func(e Env) value {
		var few [128]byte
		b := few[:0]
		for _, a := range c.args {
			v := a.eval(e)
			var ok bool
			if b, ok = spell(b, v); !ok {
				return notText(c.op, v)
			}
		}
		return joined(b, len(c.args))
	}}
}

func joined(b []byte, parts int) value {
	if parts > 1 {
		return textual(strings.TrimSpace(string(b)))
	}
	return textual(string(b))
}

func notText(op string, v value) value {
	if v.kind == failed {
		return v
	}
	return failure("%s: cannot make a text of a value of type %v", op, v.kind)
}

// substr compiles the part of a text: from a character, counted from the end if negative, and of a length, which is
// counted from the end as well if negative. Allocates.
func substr(c *call) node {
	return eager(c, func(args []value) value {
		if len(args) < 2 {
			return failure("substr takes 2 or 3 arguments, not %d", len(args))
		}
		b, ok := spell(nil, args[0])
		if !ok {
			return notText(c.op, args[0])
		}
		from, v := calculate(c.op, args[1])
		if v.kind == failed {
			return v
		}
		return cut([]rune(string(b)), clamp(from), args[2:])
	})
}

// clamp takes n to an integer that is far beyond the length of each text, but can be added to another.
func clamp(n float64) int {
	return int(math.Trunc(max(-math.MaxInt32, min(n, math.MaxInt32))))
}

func cut(s []rune, from int, length []value) value {
	if from < 0 {
		from += len(s)
	}
	if from < 0 || from > len(s) {
		return textual(string(s))
	}
	end := len(s)
	if len(length) == 1 {
		n, v := calculate("substr", length[0])
		if v.kind == failed {
			return v
		}
		if end = min(from+clamp(n), len(s)); clamp(n) < 0 {
			end = len(s) + clamp(n)
		}
	}
	if end < from {
		return failure("substr: the end is before the beginning")
	}
	return textual(string(s[from:end]))
}

// An affix is starts_with or ends_with. Arguments that are not two texts give null, as in flagd.
type affix func(s, part string) bool

func (has affix) compile(c *call) node {
	if c.bare {
		return eager(c, func(args []value) value {
			if len(args) != 2 {
				return value{}
			}
			return has.apply(args[0], args[1])
		})
	}
	if len(c.args) != 2 {
		c.warn("%q takes 2 arguments, not %d: it is always null", c.op, len(c.args))
		return fixed(value{})
	}
	a, b := c.args[0].eval, c.args[1].eval
	if l := c.args[1].lit; l != nil && l.kind != Text {
		c.warn("%q is always null: its second argument is no string", c.op)
	}
	return node{eval: func(e Env) value { return has.apply(a(e), b(e)) }}
}

func (has affix) apply(a, b value) value {
	switch {
	case a.kind == failed || b.kind == failed:
		return first(a, b)
	case a.kind != Text || b.kind != Text:
		return value{}
	}
	return truth(has(a.text(), b.text()))
}
