package flagd

// choose compiles if: if, then, else if, then, …, else. Without an else the rest is null.
func choose(c *call) node {
	args, last := c.args, fixed(value{})
	if len(args) < 2 {
		c.warn("%q has no consequence", c.op)
	}
	n := node{}
	for i := 1; i < len(args); i += 2 {
		n.outs = append(n.outs, args[i].outs...)
	}
	if len(args)%2 == 1 {
		last = args[len(args)-1]
		args = args[:len(args)-1]
	}
	n.outs = append(n.outs, last.outs...)
	n.eval = func(e Env) value {
		for i := 0; i < len(args); i += 2 {
			v := args[i].eval(e)
			if v.kind == failed {
				return v
			}
			if v.truthy() {
				return args[i+1].eval(e)
			}
		}
		return last.eval(e)
	}
	return n
}

// and gives the first argument that is not true, or else the last.
func and(c *call) node { return decide(c, false) }

// or gives the first argument that is true, or else the last.
func or(c *call) node { return decide(c, true) }

func decide(c *call, stop bool) node {
	if len(c.args) == 0 {
		c.warn("%q has no arguments, it is always null", c.op)
		return fixed(value{})
	}
	args, last := c.args, c.args[len(c.args)-1]
	n := node{outs: last.outs}
	for _, a := range args[:len(args)-1] {
		if a.lit != nil && a.lit.truthy() == stop {
			n.outs = append(n.outs[:len(n.outs):len(n.outs)], a.outs...)
		}
	}
	n.eval = func(e Env) value {
		for _, a := range args[:len(args)-1] {
			if v := a.eval(e); v.kind == failed || v.truthy() == stop {
				return v
			}
		}
		return last.eval(e)
	}
	return n
}

// not is !, and yes is !!.
func not(c *call) node { return opposite(c, false) }

func yes(c *call) node { return opposite(c, true) }

func opposite(c *call, same bool) node {
	if len(c.args) != 1 {
		c.warn("%q takes 1 argument, not %d", c.op, len(c.args))
	}
	if len(c.args) == 0 {
		return fixed(truth(!same))
	}
	a := c.args[0].eval
	return node{eval: func(e Env) value {
		v := a(e)
		if v.kind == failed {
			return v
		}
		return truth(v.truthy() == same)
	}}
}
