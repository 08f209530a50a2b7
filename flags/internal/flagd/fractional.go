package flagd

import "slices"

// share is a part of a fractional: a result and its weight.
type share struct {
	what   node
	weight node
}

// fractional is the operator that gives each key one of its shares, by a hash of the key.
type fractional struct {
	by     bucketing
	prefix murmur // of the flag's key, which stands before the targeting key
	key    node   // what is kept together; without eval: the flag's key and the targeting key
	shares []share
	plain  bool  // the results of all shares are literals that a fractional can give
	args   *call // as in the file
}

// split compiles fractional. Without anything that depends on the context but its key, the weights are added up once.
func split(c *call) node {
	f := &fractional{by: c.place.bucketing, prefix: c.place.bucketing.prefix(c.place.key), args: c}
	if c.bare {
		return node{eval: f.computed}
	}
	rest := c.args
	if len(rest) > 0 && !rest[0].isList() {
		f.key, rest = rest[0], rest[1:]
	}
	if len(rest) == 0 || f.by == V1 && len(c.args) < 2 {
		c.warn("fractional has too few shares, [variant, weight]: it is always null")
	}
	n := node{eval: f.computed}
	for _, a := range rest {
		parts := a.parts()
		if len(parts) == 0 {
			if a.lit != nil {
				c.warn("a share of fractional is a list of a variant and a weight, not %#v: it is always null", *a.lit)
			}
			return n
		}
		s := share{what: parts[0], weight: fixed(numeric(1))}
		if len(parts) > 1 {
			s.weight = parts[1]
		}
		f.shares, n.outs = append(f.shares, s), append(n.outs, s.what.results(c.at)...)
	}
	f.plain = !slices.ContainsFunc(f.shares, func(s share) bool { return s.what.lit == nil || !f.by.gives(*s.what.lit) })
	n.eval = f.weighed
	if weights, fixed := f.fixedWeights(); fixed {
		f.lint(weights)
		total, ok := f.by.total(weights)
		n.eval = func(e Env) value { return f.pick(e, weights, total, ok) }
		if f.key.eval == nil && f.plain {
			n.eval = f.lean(weights, total, ok && (f.by != V1 || len(c.args) > 1))
		}
	}
	return n
}

// fixedWeights are the weights, if all weights are in the file.
func (f *fractional) fixedWeights() ([]int64, bool) {
	weights := make([]int64, len(f.shares))
	for i, s := range f.shares {
		if s.weight.lit == nil {
			return nil, false
		}
		var ok bool
		if weights[i], ok = f.by.weight(*s.weight.lit); !ok {
			weights[i] = -1
		}
	}
	return weights, true
}

func (f *fractional) lint(weights []int64) {
	var sum int64
	for i, w := range weights {
		x := f.shares[i].weight.lit
		switch {
		case w < 0 && f.by != V1:
			f.args.warn("the weight %#v is no whole number up to %d: the fractional is always null", *x, maxWeight)
			return
		case x.kind == Number && x.num < 0:
			f.args.warn("the weight %#v is negative", *x)
		}
		sum += max(w, 0)
	}
	switch {
	case sum == 0 && len(weights) > 0:
		f.args.warn("all weights are 0: the fractional is always null")
	case sum > maxWeight:
		f.args.warn("the weights are %d together, more than %d: the fractional is always null", sum, maxWeight)
	}
}

// weighed evaluates weights from the context.
func (f *fractional) weighed(e Env) value {
	var few [16]int64
	weights := few[:0]
	for _, s := range f.shares {
		v := s.weight.eval(e)
		if v.kind == failed {
			return v
		}
		w, ok := f.by.weight(v)
		if !ok {
			w = -1
		}
		weights = append(weights, w)
	}
	total, ok := f.by.total(weights)
	return f.pick(e, weights, total, ok)
}

// pick gives the share of the key. Weights that make no sense give null, and so does a context without a key.
func (f *fractional) pick(e Env, weights []int64, total int64, ok bool) value {
	hash, known := f.implicit(e)
	if f.key.eval != nil {
		v := f.key.eval(e)
		switch {
		case v.kind == failed:
			return v
		case v.kind == List:
			return f.computed(e)
		case v.kind != Null || f.by == V3:
			hash, known = f.by.hash(v)
		}
	}
	ok = ok && known && (f.by != V1 || len(f.args.args) > 1)
	i := -1
	if ok {
		i = f.by.share(hash, weights, total)
	}
	switch {
	case !f.plain:
		return f.among(e, i, ok)
	case !ok:
		return value{}
	case i < 0:
		return f.by.nobody()
	}
	return *f.shares[i].what.lit
}

// among evaluates all shares: a result that cannot be given makes the fractional null, also for keys in another share.
func (f *fractional) among(e Env, chosen int, ok bool) value {
	result := f.by.nobody()
	for i, s := range f.shares {
		v := s.what.eval(e)
		if v.kind == failed {
			return v
		}
		ok = ok && f.by.gives(v)
		if i == chosen {
			result = v
		}
	}
	if !ok {
		return value{}
	}
	return result
}

// lean is pick for the usual case: everything but the targeting key is in the file. The closure keeps little in memory.
func (f *fractional) lean(weights []int64, total int64, ok bool) func(Env) value {
	if !ok {
		return func(Env) value { return value{} }
	}
	results := make([]value, len(f.shares))
	for i, s := range f.shares {
		results[i] = *s.what.lit
	}
	by, prefix := f.by, f.prefix
	return func(e Env) value {
		key := e.Key()
		if key == "" {
			return value{}
		}
		if i := by.share(by.text(prefix, key).sum(), weights, total); i >= 0 {
			return results[i]
		}
		return by.nobody()
	}
}

// implicit is the hash of the flag's key and the targeting key; false without a targeting key.
func (f *fractional) implicit(e Env) (uint32, bool) {
	key := e.Key()
	if key == "" {
		return 0, false
	}
	return f.by.text(f.prefix, key).sum(), true
}

// computed is for shares that rules give as lists. Allocates.
func (f *fractional) computed(e Env) value {
	args, v := f.args.all(e)
	if v.kind == failed {
		return v
	}
	count := len(args)
	hash, known := f.implicit(e)
	if count > 0 && args[0].kind != List {
		if args[0].kind != Null || f.by == V3 {
			hash, known = f.by.hash(args[0])
		}
		args = args[1:]
	}
	weights := make([]int64, len(args))
	for i, a := range args {
		if a.kind != List || a.len() == 0 {
			return value{}
		}
		w := numeric(1)
		if a.len() > 1 {
			w = a.element(1)
		}
		var ok bool
		if weights[i], ok = f.by.weight(w); !ok || !f.by.gives(a.element(0)) {
			return value{}
		}
	}
	total, ok := f.by.total(weights)
	if !known || !ok || f.by == V1 && count < 2 {
		return value{}
	}
	if i := f.by.share(hash, weights, total); i >= 0 {
		return args[i].element(0)
	}
	return f.by.nobody()
}
