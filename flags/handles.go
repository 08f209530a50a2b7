package flags

import (
	"math"
	"slices"
)

// Handles are the keys that the program has asked for with handles and weights. A view has an entry and a weight for each.
type handles struct {
	current *current
	keys    []string
	indexes map[string]int  // of a key in keys
	weights map[string]bool // the keys of weights
}

// add adds a key. It reports whether a view that has not been filled since lacks the key or the weight.
func (h *handles) add(key string, weight bool) (index int, lacking bool) {
	index, known := h.indexes[key]
	if !known {
		index = len(h.keys)
		h.keys = append(h.keys, key)
		h.indexes[key] = index
	}
	lacking = !known
	if weight && !h.weights[key] {
		h.weights[key], lacking = true, true
	}
	return index, lacking
}

// fill gives a new view what handles and weights read.
func (h *handles) fill(next *view) {
	next.handles = make([]*entry, len(h.keys))
	next.weights = make([]float64, len(h.keys))
	for i, key := range h.keys {
		next.handles[i] = next.entries[key]
		next.weights[i] = h.weight(next, i)
	}
}

// extend returns a view with a further key of handles, or a further weight. Older views share the slices, but not the elements
// after the ends of theirs.
func (h *handles) extend(now *view, i int) *view {
	next := *now
	if i == len(now.handles) {
		next.handles = append(now.handles, now.entries[h.keys[i]])
		next.weights = append(now.weights, math.NaN())
	}
	if h.weights[h.keys[i]] {
		next.weights = slices.Clone(next.weights)
		next.weights[i] = h.weight(&next, i)
	}
	return &next
}

func (h *handles) weight(v *view, i int) float64 {
	key := h.keys[i]
	if !h.weights[key] {
		return math.NaN()
	}
	e := h.current.lookup(v.entries)(key)
	w, warning := e.share()
	if warning != "" {
		v.warn(e, warning)
	}
	return w
}
