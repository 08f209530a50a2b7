package flagd

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
)

// ErrChoice is the error of a rule that chooses something other than a variant of its flag.
var ErrChoice = errors.New("the rule chose what is not a variant")

// ErrRule is the error of a rule that cannot be evaluated for its context.
var ErrRule = errors.New("the rule cannot be evaluated")

// A Flag is a compiled flag. Flags never change.
type Flag struct {
	Key      string
	Line     int            // in the file, from 1
	Kind     Kind           // the type of all variants; Null for variants of several types
	Disabled bool           // the caller's default is the value
	Default  *Variant       // nil: the caller's default is the value
	Metadata map[string]any // of the file and the flag; nil if there is none

	variants   []Variant       // by name
	rule       func(Env) value // nil: the flag has no targeting
	loops      bool            // the rule has loops
	definition definition
}

// A definition is a flag as in the file.
type definition struct {
	raw       string // of the flag
	metadata  string // of the file
	fragments string // $evaluators, if the flag uses any
	bucketing bucketing
}

// Targeted reports whether the flag has a rule.
func (f *Flag) Targeted() bool { return f.rule != nil }

// Variant returns the variant with the name, or nil.
func (f *Flag) Variant(name string) *Variant { return find(f.variants, name) }

// Names returns the names of the variants, in order.
func (f *Flag) Names() []string {
	list := make([]string, len(f.variants))
	for i := range f.variants {
		list[i] = f.variants[i].Name
	}
	return list
}

// Target evaluates the rule. Without an error, nil stands for the default variant. The error is ErrChoice or ErrRule.
func (f *Flag) Target(e Env) (*Variant, error) {
	if f.loops {
		steps := maxSteps
		e.scope = &scope{steps: &steps}
	}
	v := f.rule(e)
	switch v.kind {
	case Null:
		return nil, nil
	case failed:
		return nil, fmt.Errorf("%w: %s", ErrRule, v.text())
	}
	if chosen, ok := v.ref.(*Variant); ok {
		return chosen, nil
	}
	name, ok := v.variant()
	if !ok && v.kind == Number {
		return nil, fmt.Errorf("%w: its result is the number %v", ErrRule, v.num)
	}
	if chosen := find(f.variants, name); ok && chosen != nil {
		return chosen, nil
	}
	return nil, fmt.Errorf("%w: %#v", ErrChoice, v)
}

// Same reports whether two flags are defined in the same way.
func (f *Flag) Same(other *Flag) bool {
	a, b := f.definition, other.definition
	return a.bucketing == b.bucketing && sameJSON(a.raw, b.raw) && sameJSON(a.fragments, b.fragments) &&
		maps.Equal(f.Metadata, other.Metadata)
}

// sameJSON reports whether two texts are the same but for spaces and the order of names.
func sameJSON(a, b string) bool {
	if a == b {
		return true
	}
	return reflect.DeepEqual(tree(a), tree(b))
}

// tree decodes JSON, with the numbers as written.
func tree(s string) any {
	dec := json.NewDecoder(strings.NewReader(s))
	dec.UseNumber()
	var x any
	if dec.Decode(&x) != nil {
		return nil
	}
	return x
}

// Definition returns the content of a file with the flag alone.
func (f *Flag) Definition() []byte {
	key, err := json.Marshal(f.Key)
	if err != nil { // cannot happen: keys are strings
		return []byte(`{"flags": {}}`)
	}
	d := f.definition
	var b strings.Builder
	b.WriteString(`{"flags": {` + string(key) + `: ` + d.raw + `}`)
	if d.metadata != "" {
		b.WriteString(`, "metadata": ` + d.metadata)
	}
	if d.fragments != "" {
		b.WriteString(`, "$evaluators": ` + d.fragments)
	}
	b.WriteString("}")
	return []byte(b.String())
}

// flagFields are the names in a flag.
var flagFields = []string{"state", "variants", "defaultVariant", "targeting", "metadata", "key", "source"}

// newFlag compiles a flag.
func newFlag(c *compiler, root *outline, p part) (*Flag, error) {
	if p.kind != Object {
		return nil, errors.New("it must be an object with state, variants and defaultVariant")
	}
	p, err := c.read(p.at, 1, maxValues)
	if err != nil {
		return nil, err
	}
	var fields [7]part
	c.fields(p, "the flag", flagFields, fields[:])
	state, variants, preset, targeting, m := fields[0], fields[1], fields[2], fields[3], fields[4]
	f := &Flag{Key: c.key, Line: c.line(p.at), Metadata: root.metadata}
	if err := readState(c, f, state, p.at); err != nil {
		return nil, err
	}
	if m.kind != Null {
		f.Metadata = maps.Clone(root.metadata)
		if own := readMetadata(c, m); f.Metadata == nil {
			f.Metadata = own
		} else {
			maps.Copy(f.Metadata, own)
		}
	}
	if err := addVariants(c, f, p.at, variants, preset); err != nil {
		return nil, err
	}
	c.variants = f.variants
	f.rule, err = c.targeting(targeting)
	if err != nil && f.Disabled {
		c.warn(p.at, "%v; the flag is disabled", err)
		err = nil
	}
	f.loops = c.loop
	f.definition = definition{raw: p.raw(c.source), metadata: root.rawMetadata, bucketing: c.bucketing}
	if c.refs {
		f.definition.fragments = root.rawParts
	}
	return f, err
}

// readState takes "disabled" in small letters as well. Other states are ENABLED, as in flagd.
func readState(c *compiler, f *Flag, p part, at int) error {
	switch {
	case p.kind != Text && p.kind != Null:
		return &fault{p.at, `state must be "ENABLED" or "DISABLED"`}
	case p.kind == Null:
		c.warn(at, `the flag has no state: it is enabled`)
	case strings.EqualFold(p.text, "DISABLED"):
		f.Disabled = true
		if p.text != "DISABLED" {
			c.warn(p.at, `the state %q should be "DISABLED": for flagd the flag is enabled`, p.text)
		}
	case p.text != "ENABLED":
		c.warn(p.at, `the state %q should be "ENABLED" or "DISABLED": the flag is enabled`, p.text)
	}
	return nil
}

// readMetadata decodes the booleans, strings and numbers of metadata. The rest is left out.
func readMetadata(c *compiler, p part) map[string]any {
	if p.kind != Object {
		if p.kind != Null {
			c.warn(p.at, "metadata is a %v, and should be an object: it is left out", p.kind)
		}
		return nil
	}
	var all map[string]any
	p, err := c.read(p.at, 1, maxValues)
	if err != nil {
		c.warn(p.at, "metadata is left out: %v", err)
	}
	for _, x := range p.items {
		var v any
		if x.kind == Boolean || x.kind == Text || x.kind == Number {
			v = x.data(c.source)
		}
		switch v.(type) {
		case bool, string, float64:
		default:
			c.warn(x.at, "metadata.%s should be a boolean, a string or a number: it is left out", x.name)
			continue
		}
		if all == nil {
			all = map[string]any{}
		}
		all[x.name] = v
	}
	return all
}
