package hosted

import (
	"maps"
	"reflect"
	"sync"
)

const (
	// everybody is the kind of a slot for what a provider says with an empty context: the value of a weight or a Var, as JSON.
	everybody = reflect.Invalid
	// maxRemembered is the number of values that a memory has at most, without those of weights and Vars.
	maxRemembered = 1000
	// maxMemory is the number of bytes that the values have at most, in all.
	maxMemory = 1 << 20
)

// A slot is the place of a value in a memory: a flag may be a number of both types.
type slot struct {
	key  string
	kind reflect.Kind // of the type of the getter, or everybody
}

// kindNames are the names of the kinds between processes.
var kindNames = map[reflect.Kind]string{
	reflect.Bool: "bool", reflect.String: "string", reflect.Float64: "float", reflect.Int64: "int", reflect.Interface: "object",
	everybody: "everybody",
}

// A memory has the values of flags of a provider that are the same for everybody. The next process gets the values, and serves
// them until the provider is ready there.
type memory struct {
	mu     sync.RWMutex
	values map[slot]remembered
	size   int // of all values
	flags  int // values without those of weights and Vars
}

type remembered struct {
	value     any
	size      int
	inherited bool // from another process, and nobody has asked for it here
}

// get returns a value, which is the caller's, or nil.
func (m *memory) get(s slot) any {
	m.mu.RLock()
	v := m.values[s].value
	m.mu.RUnlock()
	if s.kind == reflect.Interface {
		size := 0
		v, _ = replica(v, &size)
	}
	return v
}

// note keeps a value if it is static, and forgets it otherwise.
func (m *memory) note(s slot, value any, static bool) {
	m.mu.RLock()
	old, known := m.values[s]
	full := m.full(s)
	m.mu.RUnlock()
	switch {
	case !known && (!static || full):
		return
	case !static:
		m.forget(s)
		return
	case known && !old.inherited && equal(old.value, value):
		return
	}
	next := remembered{size: len(s.key)}
	var ok bool
	if next.value, ok = replica(value, &next.size); !ok || value == nil {
		m.forget(s)
		return
	}
	m.put(s, next)
}

// full reports whether there is no slot for a new value. Weights and Vars are as many as the program has.
func (m *memory) full(s slot) bool { return m.flags >= maxRemembered && s.kind != everybody }

func (m *memory) forget(s slot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.remove(s)
}

func (m *memory) remove(s slot) {
	old, known := m.values[s]
	if !known {
		return
	}
	delete(m.values, s)
	m.size -= old.size
	if s.kind != everybody {
		m.flags--
	}
}

// put keeps a value if there is room. Otherwise the memory has none for the slot: an old one would be wrong.
func (m *memory) put(s slot, next remembered) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.values == nil {
		m.values = map[slot]remembered{}
	}
	m.remove(s)
	if m.full(s) || m.size+next.size > maxMemory {
		return
	}
	m.values[s] = next
	m.size += next.size
	if s.kind != everybody {
		m.flags++
	}
}

// all returns the values for another process: texts by the key and the name of the kind. Values of another process for which nobody
// has asked here are among them if they are wanted.
func (m *memory) all(inherited bool) map[string]any {
	m.mu.RLock()
	values := maps.Clone(m.values)
	m.mu.RUnlock()
	all := map[string]any{}
	for s, v := range values {
		text, ok := encode(v.value)
		if !ok || v.inherited && !inherited {
			continue
		}
		kinds, _ := all[s.key].(map[string]any)
		if kinds == nil {
			kinds = map[string]any{}
			all[s.key] = kinds
		}
		kinds[kindNames[s.kind]] = text
	}
	return all
}

// set adds the values that another process has returned from all. Own values stay: they are later. What a later build has added is
// ignored.
func (m *memory) set(all map[string]any) {
	for key, x := range all {
		texts, _ := x.(map[string]any)
		for kind, name := range kindNames {
			text, ok := texts[name].(string)
			value := decode(text, kind)
			if !ok || value == nil || m.get(slot{key, kind}) != nil {
				continue
			}
			next := remembered{size: len(key), inherited: true}
			if next.value, ok = replica(value, &next.size); ok {
				m.put(slot{key, kind}, next)
			}
		}
	}
}
