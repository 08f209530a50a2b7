package flags

import (
	"maps"
	"slices"
)

// A view is all that evaluations read. It never changes; a change of a file, an override or a value makes another view.
type view struct {
	entries map[string]*entry
	handles []*entry          // by the index of the handle's key; a handle that is younger than the view is not in it
	values  []any             // by the index of the Var: the *T that it has
	sources map[string]*entry // what the sources say, with guards
	base    map[string]*entry // sources, with earlier flags in place of those that a Var refuses; entries are base with overrides
	plain   []any             // the values of Vars without overrides
	refused map[int]error     // by the index of the Var: why the Var refuses what the sources say
	stale   map[string]bool   // the keys of the flags that are refused as they are in the files: an earlier definition is served
	weights []float64
	version string

	warnings []Warning // remarks that come with the view, besides those about the contents of files
}

func newView(version string) *view {
	return &view{entries: map[string]*entry{}, refused: map[int]error{}, stale: map[string]bool{}, version: version}
}

// find returns the entry of a key, or why there is none.
func (v *view) find(key string) (*entry, error) {
	if v == nil {
		return nil, errNotReady
	}
	if e := v.entries[key]; e != nil {
		return e, nil
	}
	return nil, errNotFound
}

// add puts the flags of a source over those of weaker sources. A refused flag without an earlier definition leaves the flag of
// a weaker source in place, also that of a provider.
func (v *view) add(src *source) {
	for key, fl := range src.flags {
		v.entries[key] = &entry{key: key, path: src.path, flag: fl, metadata: fl.Metadata, weak: src.weak}
		delete(v.stale, key)
		if src.faults[key] != nil {
			v.stale[key] = true
		}
	}
	for key, fault := range src.faults {
		if v.entries[key] == nil {
			v.entries[key] = &entry{key: key, path: src.path, fault: fault, weak: true}
		}
	}
}

// reuse keeps the entries of sources that have not changed, so that a difference between two views is a difference of pointers.
func (v *view) reuse(before *view) {
	for key, e := range v.entries {
		old := before.sources[key]
		if old == nil {
			e.tally = newTally(e.flag, nil)
			continue
		}
		if old.same(e) {
			v.entries[key] = old
			continue
		}
		e.tally = newTally(e.flag, old.tally)
	}
}

// guard gives the flags their guards.
func (v *view) guard(gs *guards) {
	for i := range gs.list {
		key := gs.list[i].Key
		e := v.entries[key]
		if e == nil {
			v.warn(&entry{key: key}, "its guard has no effect, because the flag is in no file and not in Options.Defaults")
			continue
		}
		if e.flag == nil {
			continue
		}
		var warning string
		if e.guard, warning = gs.find(e.key, e.flag); warning != "" {
			v.warn(e, warning)
		}
	}
}

// withVar returns a view with the values of a further Var.
func (v *view) withVar(value, plain any) *view {
	next := *v
	next.values, next.plain = append(v.values, value), append(v.plain, plain)
	return &next
}

// warn adds a remark about the flag of an entry.
func (v *view) warn(e *entry, text string) {
	w := Warning{Path: e.path, Key: e.key, Text: text}
	if e.flag != nil {
		w.Line = e.flag.Line
	}
	v.warnings = append(v.warnings, w)
}

// changed returns the keys of the flags that are not the same in both views, in order.
func changed(before, after *view) (keys []string) {
	if before == nil {
		return slices.Sorted(maps.Keys(after.entries))
	}
	for key, e := range after.entries {
		if before.entries[key] != e {
			keys = append(keys, key)
		}
	}
	for key := range before.entries {
		if after.entries[key] == nil {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// evaluations returns the counts of at most maxTallies flags that were evaluated.
func (v *view) evaluations() map[string]map[string]uint64 {
	all := map[string]map[string]uint64{}
	if v == nil {
		return all
	}
	var used []string
	for key, e := range v.entries {
		if e.tally.used() {
			used = append(used, key)
		}
	}
	slices.Sort(used)
	for i, key := range used {
		counts := v.entries[key].tally.counts()
		if i < maxTallies {
			all[key] = counts
			continue
		}
		rest := all[""]
		if rest == nil {
			rest = map[string]uint64{}
			all[""] = rest
		}
		for _, n := range counts {
			rest[""] += n
		}
	}
	return all
}
