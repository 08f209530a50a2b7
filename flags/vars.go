package flags

import (
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/midair-go/midair/flags/internal/flagd"
)

// Vars are the values that the program follows. They belong to the goroutine that holds the lock of the store.
type vars struct {
	current *current
	guards  *guards
	name    string // of the Flags
	list    []value
	heirs   map[string]*flagd.Flag // of another generation: for flags that a Var refuses
}

// add adds a Var. It returns the present view with the value of the Var, or nil if the Var refuses what is there.
func (vs *vars) add(v value, now *view) (next *view) {
	v.place(len(vs.list))
	vs.list = append(vs.list, v)
	if now == nil {
		return nil
	}
	defer vs.watch()()
	plain, err := v.decode(vs.current.lookup(now.base))
	if err != nil {
		return nil
	}
	if same(v.parts(), now.base, now.entries) {
		return now.withVar(plain, plain)
	}
	value, err := v.decode(vs.current.lookup(now.entries))
	if err != nil {
		return nil
	}
	return now.withVar(value, plain)
}

// slowDecode is how long the functions of the Vars may take until the log says so.
const slowDecode = 10 * time.Second

// mostRounds is how often all Vars are asked again because the refusal of a Var has put back a flag of another Var.
const mostRounds = 16

// admit gives all Vars the values that the sources say. Flags with a value that a Var refuses stay what they were, or become what
// another generation has served. The lock is held.
func (vs *vars) admit(before, next *view) {
	next.sources, next.base = next.entries, next.entries
	if len(vs.list) == 0 {
		return
	}
	defer vs.watch()()
	next.base = maps.Clone(next.sources)
	next.plain = make([]any, len(vs.list))
	for range mostRounds {
		again := false
		for i, v := range vs.list {
			again = vs.admitOne(i, v, before, next) || again
		}
		if !again {
			break
		}
	}
	for _, i := range slices.Sorted(maps.Keys(next.refused)) {
		next.refuses(vs.list[i], next.refused[i])
	}
}

// decode gives all Vars their values with the overrides, and takes back an override that a Var refuses. The lock is held.
func (vs *vars) decode(before, next *view) {
	if len(vs.list) == 0 {
		return
	}
	defer vs.watch()()
	for range mostRounds {
		if !slices.ContainsFunc(vs.list, func(v value) bool { return vs.drop(v, next) }) {
			break
		}
	}
	next.values = slices.Clone(next.plain)
	for i, v := range vs.list {
		if same(v.parts(), next.base, next.entries) {
			continue
		}
		value, _ := v.decode(vs.current.lookup(next.entries))
		next.values[i] = v.keep(before.values, value)
	}
}

// defaults returns the values without overrides in a view that may be older than some of the Vars.
func (vs *vars) defaults(now *view) []any {
	all := slices.Clone(now.plain)
	for _, v := range vs.list[len(all):] {
		value, _ := v.decode(vs.current.lookup(now.base))
		all = append(all, v.keep(nil, value))
	}
	return all
}

// drop takes back the overrides of a Var that refuses them. It reports whether there was one.
func (vs *vars) drop(v value, next *view) (dropped bool) {
	if same(v.parts(), next.base, next.entries) {
		return false
	}
	if _, err := v.decode(vs.current.lookup(next.entries)); err == nil {
		return false
	}
	trial := maps.Clone(next.base)
	for _, key := range v.parts() {
		forced := next.entries[key]
		if forced == next.base[key] {
			continue
		}
		trial[key] = forced
		_, err := v.decode(vs.current.lookup(trial))
		if err == nil {
			continue
		}
		put(trial, key, next.base[key])
		put(next.entries, key, next.base[key])
		next.warn(forced, "its override has no effect: "+err.Error())
		dropped = true
	}
	return dropped
}

// put sets an entry, or removes the entry of the key.
func put(entries map[string]*entry, key string, e *entry) {
	if e == nil {
		delete(entries, key)
		return
	}
	entries[key] = e
}

// accept returns why a Var refuses an entry, beside the present ones, or nil.
func (vs *vars) accept(now *view, e *entry) error {
	get := vs.current.lookup(now.entries)
	for _, v := range vs.list {
		if !slices.Contains(v.parts(), e.key) {
			continue
		}
		_, err := v.decode(func(key string) *entry {
			if key == e.key {
				return e
			}
			return get(key)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// refuses adds a remark about a flag whose value a Var refuses.
func (v *view) refuses(of value, refused error) {
	e := &entry{key: of.parts()[0]}
	if bad := (*badValue)(nil); errors.As(refused, &bad) {
		e.key = bad.key
	}
	if now := v.base[e.key]; now != nil {
		e.path = now.path
	}
	v.warn(e, refused.Error())
}

// watch logs an error if the returned function is not called for a long time: a function of a Var that waits for the Flags waits
// for ever, because the lock is held.
func (vs *vars) watch() (done func()) {
	slow := time.AfterFunc(slowDecode, func() {
		vs.current.log.Error("flags: Decode or Validate of a Var has not returned: until it does, all values stay as they are",
			slog.String("name", vs.name), slog.Duration("after", slowDecode))
	})
	return func() { slow.Stop() }
}

// admitOne gives a Var its value without overrides. If the Var refuses the value, the flags of the Var are put back. It reports
// whether an entry has changed, because other Vars may read the entry too.
func (vs *vars) admitOne(i int, v value, before, next *view) (again bool) {
	known := i < len(before.plain) && vs.current.provider == nil && before.refused[i] == nil
	if known && same(v.parts(), before.base, next.base) {
		next.plain[i] = before.plain[i]
		return false
	}
	value, refused := v.decode(vs.current.lookup(next.base))
	next.plain[i] = v.keep(before.plain, value)
	if refused == nil {
		return false
	}
	if next.refused[i] == nil {
		next.refused[i] = refused
	}
	return vs.putBack(i, v, before, next)
}

// same reports whether flags are the same in both views.
func same(keys []string, before, next map[string]*entry) bool {
	return !slices.ContainsFunc(keys, func(key string) bool { return before[key] != next[key] })
}

// putBack serves earlier flags in place of the flags of a Var, if the Var takes the earlier flags. It reports whether an entry
// has changed.
func (vs *vars) putBack(i int, v value, before, next *view) (changed bool) {
	var earlier map[string]*entry
	known := func(key string) bool { return before.base[key] != nil }
	if (i < len(before.plain) || slices.ContainsFunc(v.parts(), known)) && vs.takes(v, before.base) {
		earlier = before.base
	} else if earlier = vs.inherited(v.parts(), next.base); len(earlier) == 0 || !vs.takes(v, earlier) {
		return false
	}
	changed = !same(v.parts(), earlier, next.base)
	for _, key := range v.parts() {
		next.stale[key] = true
		put(next.base, key, earlier[key])
	}
	return changed
}

func (vs *vars) takes(v value, entries map[string]*entry) bool {
	_, err := v.decode(vs.current.lookup(entries))
	return err == nil
}

// inherited returns the entries of another generation.
func (vs *vars) inherited(keys []string, now map[string]*entry) map[string]*entry {
	all := map[string]*entry{}
	for _, key := range keys {
		fl := vs.heirs[key]
		if fl == nil {
			continue
		}
		e := &entry{key: key, flag: fl, metadata: fl.Metadata}
		var before *tally
		if was := now[key]; was != nil {
			e.path, before = was.path, was.tally
		}
		e.tally = newTally(fl, before)
		e.guard, _ = vs.guards.find(key, fl)
		all[key] = e
	}
	return all
}
