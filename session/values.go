package session

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// Values are the values of a session, during [Update] or in an [Info]. In Update they must not be used after the function has
// returned, nor from several goroutines.
type Values struct {
	m       members
	changed bool
}

// Get decodes the value of key into dst, a pointer, and reports whether there is a value. A value that does not fit is an
// error, and does not affect other keys.
func (v *Values) Get(key string, dst any) (bool, error) {
	raw, ok := v.m[key]
	if !ok {
		return false, nil
	}
	if err := json.Unmarshal(raw, dst); err != nil {
		return false, fmt.Errorf("session: value %q: %w", key, err)
	}
	return true, nil
}

// Put sets key to value, which is encoded by encoding/json. Where a struct replaces an object, members unknown to the struct
// are kept: another version of the program may have written such members. To drop unknown members, Delete the key first.
func (v *Values) Put(key string, value any) error {
	raw, err := encodeJSON(value)
	if err != nil {
		return fmt.Errorf("session: value %q: %w", key, err)
	}
	if old, ok := v.m[key]; ok {
		raw = carry(old, raw, reflect.TypeOf(value))
	}
	v.set(key, raw)
	return nil
}

func (v *Values) set(key string, raw json.RawMessage) {
	if old, ok := v.m[key]; ok && string(old) == string(raw) {
		return
	}
	v.m[key] = raw
	v.changed = true
}

// Delete removes key. A missing key is no error.
func (v *Values) Delete(key string) {
	if _, ok := v.m[key]; ok {
		delete(v.m, key)
		v.changed = true
	}
}

// Keys returns the keys of all values, sorted.
func (v *Values) Keys() []string { return slices.Sorted(maps.Keys(v.m)) }

// Clear removes all values.
func (v *Values) Clear() {
	for key := range v.m {
		v.Delete(key)
	}
}
