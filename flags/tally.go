package flags

import (
	"slices"
	"sync/atomic"

	"github.com/midair-go/midair/flags/internal/flagd"
)

// maxTallies is the number of flags whose counts are in Status. All others count together.
const maxTallies = 1000

// A tally counts the evaluations of a flag by variant.
type tally struct {
	variants []*atomic.Uint64 // by Variant.Index
	names    []string
	fallback *atomic.Uint64 // the default of the caller
}

// newTally returns the tally of a flag which goes on with the counts of the tally before.
func newTally(fl *flagd.Flag, before *tally) *tally {
	t := &tally{fallback: new(atomic.Uint64)}
	if before != nil {
		t.fallback = before.fallback
	}
	if fl == nil {
		return t
	}
	t.names = fl.Names()
	if before != nil && slices.Equal(t.names, before.names) {
		return before
	}
	for _, name := range t.names {
		count := new(atomic.Uint64)
		if before != nil {
			if i := slices.Index(before.names, name); i >= 0 {
				count = before.variants[i]
			}
		}
		t.variants = append(t.variants, count)
	}
	return t
}

// add counts an evaluation.
func (t *tally) add(v *flagd.Variant) {
	if v != nil && v.Index < len(t.variants) {
		t.variants[v.Index].Add(1)
		return
	}
	t.fallback.Add(1)
}

// used reports whether there was an evaluation.
func (t *tally) used() bool {
	used := func(n *atomic.Uint64) bool { return n.Load() > 0 }
	return used(t.fallback) || slices.ContainsFunc(t.variants, used)
}

// counts returns how often each variant was the answer. The default of the caller has the name "".
func (t *tally) counts() map[string]uint64 {
	all := map[string]uint64{}
	if n := t.fallback.Load(); n > 0 {
		all[""] = n
	}
	for i, name := range t.names {
		if n := t.variants[i].Load(); n > 0 {
			all[name] = n
		}
	}
	return all
}
