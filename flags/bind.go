package flags

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// A field is a field of a struct with the key of its flag.
type field struct {
	key    string
	index  []int
	name   string
	secret bool
}

// Bind returns a Var of a struct whose fields follow flags, as a whole: a reader never sees the new value of a field
// beside the old value of another field.
//
//	type config struct {
//		MaxUpload int           `flag:"max-upload"`
//		Timeout   time.Duration `flag:"backend-timeout"` // a number of nanoseconds, or a text such as "5s"
//		DSN       string        `flag:"dsn,secret"`      // is not in the log, and not in Status
//	}
//
// The fields of def are the values while there are no such flags. A flag gives the whole value of its field: a map or a struct of
// def is not merged. Fields without the tag stay as they are in def. Structs inside of T may have tags too, but not structs behind
// pointers.
//
// If a value cannot be decoded, or if the struct is not valid, all flags of the struct stay what they were. If Validate refuses a
// struct with secret fields, the log does not tell the reason, because the reason may have a secret in it.
//
// Bind returns an error if T is not a struct, or if a tag is wrong.
func Bind[T any](f *Flags, def T, opts VarOptions[T]) (*Var[T], error) {
	t := reflect.TypeFor[T]()
	fields, err := boundFields(t)
	if err != nil {
		return nil, fmt.Errorf("flags: Bind of %v: %w", t, err)
	}
	v := &Var[T]{s: f.store, def: &def, opts: opts, fields: fields}
	for _, field := range fields {
		v.keys = append(v.keys, field.key)
	}
	v.register()
	return v, nil
}

// boundFields returns the fields of a struct with tags.
func boundFields(t reflect.Type) ([]field, error) {
	if t.Kind() != reflect.Struct {
		return nil, errors.New("it is not a struct")
	}
	fields, err := fieldsOf(t, field{})
	if err != nil {
		return nil, err
	}
	if len(fields) == 0 {
		return nil, errors.New(`no field has a tag such as flag:"key"`)
	}
	seen := map[string]bool{}
	for _, f := range fields {
		if seen[f.key] {
			return nil, fmt.Errorf("two fields have the flag %q", f.key)
		}
		seen[f.key] = true
	}
	return fields, nil
}

// fieldsOf returns the fields with a tag in a struct type, and in its fields of struct types.
func fieldsOf(t reflect.Type, parent field) (all []field, err error) {
	for i := range t.NumField() {
		sf := t.Field(i)
		f := field{name: strings.TrimPrefix(parent.name+"."+sf.Name, "."), index: append(slices.Clone(parent.index), i)}
		inner := []field{f}
		tag, ok := sf.Tag.Lookup("flag")
		if ok {
			inner[0], err = f.tagged(tag)
		} else if inner, err = fieldsInside(sf.Type, f); len(inner) == 0 && err == nil {
			continue
		}
		switch {
		case err != nil:
			return nil, err
		case !sf.IsExported() && (ok || !sf.Anonymous):
			return nil, fmt.Errorf("the field %s has a tag, but %s is not exported", inner[0].name, f.name)
		}
		all = append(all, inner...)
	}
	return all, nil
}

// fieldsInside returns the fields with a tag in a field without a tag.
func fieldsInside(t reflect.Type, f field) ([]field, error) {
	switch {
	case t.Kind() == reflect.Struct:
		return fieldsOf(t, f)
	case t.Kind() != reflect.Pointer || t.Elem().Kind() != reflect.Struct:
		return nil, nil
	}
	for i := range t.Elem().NumField() {
		if inner := t.Elem().Field(i); inner.Tag.Get("flag") != "" {
			return nil, fmt.Errorf("the field %s.%s has a tag, but is behind a pointer: make %s a struct", f.name, inner.Name, f.name)
		}
	}
	return nil, nil
}

// tagged returns the field with what its tag says.
func (f field) tagged(tag string) (field, error) {
	key, option, found := strings.Cut(tag, ",")
	if key == "" {
		return f, fmt.Errorf("the tag of the field %s has no key", f.name)
	}
	if found && option != "secret" {
		return f, fmt.Errorf("the tag of the field %s has the option %q: there is only secret", f.name, option)
	}
	f.key, f.secret = key, found
	return f, nil
}

// decodeFields decodes the flags into the fields. A field gets a new value: maps, slices and pointers of def are shared by all
// values that readers have.
func (v *Var[T]) decodeFields(value *T, get func(key string) *entry) *badValue {
	target := reflect.ValueOf(value).Elem()
	for _, f := range v.fields {
		data, bad := plainValue(f.key, get)
		switch {
		case bad != nil:
			return bad
		case data == nil:
			continue
		}
		place := target.FieldByIndex(f.index)
		fresh := reflect.New(place.Type())
		if err := protect(func() error { return decodeInto(data, fresh.Interface()) }); err != nil {
			return &badValue{key: f.key, value: string(data), err: err, secret: f.secret || v.opts.Secret}
		}
		place.Set(fresh.Elem())
	}
	return nil
}

// logFields logs the changes of the fields.
func (v *Var[T]) logFields(old, value *T) {
	before, after := reflect.ValueOf(old).Elem(), reflect.ValueOf(value).Elem()
	for _, f := range v.fields {
		a, b := before.FieldByIndex(f.index).Interface(), after.FieldByIndex(f.index).Interface()
		if reflect.DeepEqual(a, b) {
			continue
		}
		secret := f.secret || v.opts.Secret
		v.s.logValue(f.key, shown(a, secret), shown(b, secret))
	}
}
