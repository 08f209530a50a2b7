package session

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"
)

var (
	jsonMarshaler = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
)

// carry returns fresh, the encoding of a value of type t, with the members of old unknown to t. Objects inside of structs and
// of maps are treated alike; elements of arrays are not, since nothing tells which was which.
func carry(old, fresh json.RawMessage, t reflect.Type) json.RawMessage {
	for t != nil && t.Kind() == reflect.Pointer && !encodesItself(t) {
		t = t.Elem()
	}
	if t == nil || encodesItself(t) || t.Kind() != reflect.Struct && t.Kind() != reflect.Map {
		return fresh
	}
	from, to := object(old), object(fresh)
	if from == nil || to == nil {
		return fresh
	}
	var changed bool
	if t.Kind() == reflect.Map {
		changed = carryElems(from, to, t.Elem())
	} else {
		changed = carryFields(from, to, jsonFields(t, map[string]reflect.Type{}))
	}
	if !changed {
		return fresh
	}
	raw, err := encodeJSON(to)
	if err != nil {
		return fresh
	}
	return raw
}

func carryFields(from, to members, fields map[string]reflect.Type) (changed bool) {
	for name, old := range from {
		t, known := fields[strings.ToLower(name)]
		fresh, present := to[name]
		switch {
		case known && present:
			to[name] = carry(old, fresh, t)
			changed = changed || string(to[name]) != string(fresh)
		case !known && !present:
			to[name] = old
			changed = true
		}
	}
	return changed
}

func carryElems(from, to members, t reflect.Type) (changed bool) {
	for name, fresh := range to {
		if old, ok := from[name]; ok {
			to[name] = carry(old, fresh, t)
			changed = changed || string(to[name]) != string(fresh)
		}
	}
	return changed
}

func encodesItself(t reflect.Type) bool {
	return t.Implements(jsonMarshaler) || t.Implements(textMarshaler) ||
		reflect.PointerTo(t).Implements(jsonMarshaler) || reflect.PointerTo(t).Implements(textMarshaler)
}

func object(raw json.RawMessage) members {
	var m members
	if json.Unmarshal(raw, &m) != nil {
		return nil
	}
	return m
}

// jsonFields adds to found the members known to encoding/json for the struct t. The names are in lower case, because
// encoding/json decodes without regard to case.
func jsonFields(t reflect.Type, found map[string]reflect.Type) map[string]reflect.Type {
	for f := range t.Fields() {
		tag, hasTag := f.Tag.Lookup("json")
		name, _, _ := strings.Cut(tag, ",")
		switch {
		case hasTag && tag == "-":
		case f.Anonymous && name == "" && elem(f.Type).Kind() == reflect.Struct:
			if elem(f.Type) != t {
				jsonFields(elem(f.Type), found)
			}
		case !f.IsExported():
		case name != "":
			found[strings.ToLower(name)] = f.Type
		default:
			found[strings.ToLower(f.Name)] = f.Type
		}
	}
	return found
}

func elem(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}
