package flags

import (
	"fmt"
	"math"
)

// maxWeight is the most that the weights of a fractional may be together.
const maxWeight = math.MaxInt32

// share is one part of a fractional: what it gives, and how much of the whole it is.
type share struct {
	what   node
	weight node
}

// fractional compiles version 2 of flagd's operator: the hash of the flag's key and the targeting key, scaled to the
// sum of the weights, falls into one of the shares. It is the contract that keeps people where they are across
// processes, hosts and versions; it must never change.
func (c *compiler) fractional(args []any, at string, depth int) (node, error) {
	unit := defaultUnit(c.key)
	rest := args
	if len(args) > 0 {
		if _, isShare := args[0].([]any); !isShare {
			n, err := c.expression(args[0], at+"[0]", depth+1)
			if err != nil {
				return node{}, err
			}
			unit, rest = explicitUnit(n, unit), args[1:]
		}
	}
	if len(rest) == 0 {
		return node{}, fmt.Errorf("%s: takes at least one share, [variant, weight]", at)
	}
	shares := make([]share, len(rest))
	n := node{}
	for i, x := range rest {
		s, err := c.share(x, fmt.Sprintf("%s[%d]", at, i+len(args)-len(rest)), depth+1)
		if err != nil {
			return node{}, err
		}
		shares[i], n.outs = s, append(n.outs, s.what.outs...)
	}
	ends, fixed, err := addUp(shares, at)
	if err != nil {
		return node{}, err
	}
	n.eval = func(e env) value { return splitComputed(e, unit, shares) }
	if fixed {
		n.eval = func(e env) value { return split(e, unit, shares, ends) }
	}
	return n, nil
}

func (c *compiler) share(x any, at string, depth int) (share, error) {
	pair, ok := x.([]any)
	if !ok || len(pair) < 1 || len(pair) > 2 {
		return share{}, fmt.Errorf("%s: a share is a list of a variant and a weight", at)
	}
	nodes, err := c.all(pair, at, depth)
	if err != nil {
		return share{}, err
	}
	s := share{what: nodes[0], weight: literal(numeric(1))}
	if len(nodes) == 2 {
		s.weight = nodes[1]
	}
	if l := s.weight.lit; l != nil {
		if w, ok := weightOf(*l); !ok || w < 0 {
			return share{}, fmt.Errorf("%s: the weight must be a whole number from 0 to %d", at, maxWeight)
		}
	}
	return s, nil
}

// weightOf is a weight as computed; null is 1, as if none were given. Negative ones are left to the caller.
func weightOf(v value) (int64, bool) {
	if v.kind == null {
		return 1, true
	}
	if v.kind != number || v.num != math.Trunc(v.num) || math.Abs(v.num) > maxWeight {
		return 0, false
	}
	return int64(v.num), true
}

// addUp gives the end of each share in the sum of all, if all weights are literals.
func addUp(shares []share, at string) (ends []uint64, fixed bool, err error) {
	var total uint64
	for _, s := range shares {
		if s.weight.lit == nil {
			return nil, false, nil
		}
		w, _ := weightOf(*s.weight.lit)
		total += uint64(w)
		ends = append(ends, total)
	}
	if total > maxWeight {
		return nil, false, fmt.Errorf("%s: the weights are %d together, more than %d", at, total, maxWeight)
	}
	if total == 0 {
		return nil, false, fmt.Errorf("%s: all weights are 0", at)
	}
	return ends, true, nil
}

// unit gives the hash of what is to be kept together; false if the context does not say what that is.
type unit func(env) (uint32, bool)

func defaultUnit(flagKey string) unit {
	prefix := murmur{}.add(flagKey)
	return func(e env) (uint32, bool) {
		key := e.key()
		return prefix.add(key).sum(), key != ""
	}
}

func explicitUnit(n node, fallback unit) unit {
	return func(e env) (uint32, bool) {
		v := n.eval(e)
		if v.kind == null {
			return fallback(e)
		}
		return murmur{}.add(v.str).sum(), v.kind == text
	}
}

func split(e env, by unit, shares []share, ends []uint64) value {
	hash, ok := by(e)
	if !ok {
		return value{}
	}
	bucket := uint64(hash) * ends[len(ends)-1] >> 32
	for i, end := range ends {
		if bucket < end {
			return shares[i].what.eval(e)
		}
	}
	return value{}
}

// splitComputed is split for weights that depend on the context. One that is negative is 0; one that is no weight at
// all, or too much together, makes the result null.
func splitComputed(e env, by unit, shares []share) value {
	var few [16]uint64
	ends := few[:0]
	var total uint64
	for _, s := range shares {
		w, ok := weightOf(s.weight.eval(e))
		if !ok {
			return value{}
		}
		total += uint64(max(w, 0))
		ends = append(ends, total)
	}
	if total == 0 || total > maxWeight {
		return value{}
	}
	return split(e, by, shares, ends)
}
