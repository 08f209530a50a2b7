package flags

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"
)

// snapshot is the compiled content of a file. It never changes.
type snapshot struct {
	content   []byte
	sum       [sha256.Size]byte
	flags     map[string]*flag
	fragments any // $evaluators as they are in the file

	from   string    // the file that the content was read from
	loaded time.Time // when
	kept   bool      // by another generation
}

func (s *snapshot) version() string { return hex.EncodeToString(s.sum[:6]) }

// flag is one compiled flag.
type flag struct {
	key      string
	disabled bool
	kind     kind
	variants map[string]*variant
	fallback *variant // the default variant; nil: the caller's default
	rule     func(env) value
	metadata map[string]any

	raw  any  // as it is in the file, to tell what changed
	refs bool // uses $evaluators
}

// variant is one of the values that a flag can have.
type variant struct {
	name  string
	flag  bool
	text  string
	num   float64
	whole int64
	exact bool // whole is the number
	raw   any
}

// compile turns the content of a file into a snapshot, or says what is wrong with it.
func compile(content []byte, path string, attrs map[string]func(context.Context) string) (s *snapshot, failed *Error) {
	defer func() {
		if p := recover(); p != nil {
			s, failed = nil, &Error{Path: path, Reason: fmt.Sprintf("the library failed on it: %v", p)}
		}
	}()
	bad := func(key string, err error) (*snapshot, *Error) {
		return nil, &Error{Path: path, Key: key, Reason: err.Error()}
	}
	root, flags, err := outline(content)
	if err != nil {
		return bad("", err)
	}
	c := &compiler{attrs: attrs, nodes: maxNodes}
	if c.fragments, err = member[map[string]any](root, "$evaluators"); err != nil {
		return bad("", err)
	}
	common, err := scalars(root)
	if err != nil {
		return bad("", err)
	}
	s = &snapshot{content: content, sum: sha256.Sum256(content), flags: make(map[string]*flag, len(flags)), fragments: root["$evaluators"], from: path}
	for _, key := range slices.Sorted(maps.Keys(flags)) {
		fl, err := c.flag(key, flags[key], common)
		if err != nil {
			return bad(key, err)
		}
		s.flags[key] = fl
	}
	return s, nil
}

// outline finds the flags in the content.
func outline(content []byte) (root, flags map[string]any, err error) {
	if len(strings.TrimSpace(string(content[:min(len(content), 4096)]))) == 0 {
		return nil, nil, fmt.Errorf(`it is empty: write {"flags": {}} for no flags`)
	}
	x, err := parse(content)
	if err != nil {
		return nil, nil, err
	}
	root, ok := x.(map[string]any)
	if !ok {
		return nil, nil, fmt.Errorf(`it must be an object with "flags"`)
	}
	if root["flags"] == nil {
		return nil, nil, fmt.Errorf(`it has no "flags"`)
	}
	flags, err = member[map[string]any](root, "flags")
	return root, flags, err
}

// member is the named part of an object, or the zero value if there is none.
func member[T any](of map[string]any, name string) (T, error) {
	x, ok := of[name]
	t, right := x.(T)
	if ok && x != nil && !right {
		return t, fmt.Errorf("%q must be %s", name, jsonName[T]())
	}
	return t, nil
}

func jsonName[T any]() string {
	var t T
	if _, ok := any(t).(string); ok {
		return "a string"
	}
	return "an object"
}

func scalars(of map[string]any) (map[string]any, error) {
	metadata, err := member[map[string]any](of, "metadata")
	if err != nil {
		return nil, err
	}
	for name, x := range metadata {
		switch x.(type) {
		case string, bool, json.Number:
		default:
			return nil, fmt.Errorf("metadata.%s must be a string, a number or a boolean", name)
		}
	}
	m, _ := plain(metadata).(map[string]any)
	return m, nil
}

// flag compiles one flag.
func (c *compiler) flag(key string, raw any, common map[string]any) (*flag, error) {
	def, ok := raw.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("it must be an object with state, variants and defaultVariant")
	}
	fl := &flag{key: key, raw: raw}
	state, err := member[string](def, "state")
	if err != nil || state != "ENABLED" && state != "DISABLED" {
		return nil, fmt.Errorf(`state must be "ENABLED" or "DISABLED"`)
	}
	fl.disabled = state == "DISABLED"
	own, err := scalars(def)
	if err != nil {
		return nil, err
	}
	fl.metadata = maps.Clone(common)
	maps.Copy(fl.metadata, own)
	if err := fl.addVariants(def); err != nil {
		return nil, err
	}
	c.key, c.variants, c.refs = key, fl.variants, false
	fl.rule, err = c.targeting(def)
	fl.refs = c.refs
	return fl, err
}

func (fl *flag) addVariants(def map[string]any) error {
	variants, err := member[map[string]any](def, "variants")
	if err != nil {
		return err
	}
	if len(variants) == 0 {
		return fmt.Errorf("variants must hold at least one value")
	}
	fl.variants = make(map[string]*variant, len(variants))
	for _, name := range slices.Sorted(maps.Keys(variants)) {
		v, kind, err := newVariant(name, variants[name])
		if err != nil {
			return err
		}
		if fl.kind != null && fl.kind != kind {
			return fmt.Errorf("variant %q is a %v, but the ones before it are a %v: all must be of one type", name, kind, fl.kind)
		}
		fl.kind, fl.variants[name] = kind, v
	}
	preset, err := member[string](def, "defaultVariant")
	if err != nil || preset == "" {
		return err
	}
	if fl.fallback = fl.variants[preset]; fl.fallback == nil {
		return fmt.Errorf("defaultVariant %q is not one of the variants %s", preset, names(fl.variants))
	}
	return nil
}

func names(variants map[string]*variant) string {
	return strings.Join(slices.Sorted(maps.Keys(variants)), ", ")
}

func newVariant(name string, x any) (*variant, kind, error) {
	v := &variant{name: name, raw: x}
	switch x := x.(type) {
	case bool:
		v.flag = x
		return v, boolean, nil
	case string:
		v.text = x
		return v, text, nil
	case json.Number:
		v.num, _ = x.Float64()
		v.whole, v.exact = integer(x, v.num)
		return v, number, nil
	case map[string]any:
		return v, object, nil
	}
	return nil, null, fmt.Errorf("variant %q must be a boolean, a string, a number or an object", name)
}

// integer gives the number as an int64, if it is one.
func integer(x json.Number, n float64) (int64, bool) {
	if i, err := x.Int64(); err == nil {
		return i, true
	}
	if n != math.Trunc(n) || n < math.MinInt64 || n >= math.MaxInt64 {
		return 0, false
	}
	return int64(n), true
}

// changed lists the flags that are not the same in the two.
func changed(before, after *snapshot) []string {
	var keys []string
	if before == nil {
		return slices.Sorted(maps.Keys(after.flags))
	}
	common := reflect.DeepEqual(before.fragments, after.fragments)
	for key, fl := range after.flags {
		old := before.flags[key]
		if old == nil || !reflect.DeepEqual(old.raw, fl.raw) || !common && fl.refs || !maps.Equal(old.metadata, fl.metadata) {
			keys = append(keys, key)
		}
	}
	for key := range before.flags {
		if after.flags[key] == nil {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}
