package flagd

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// maxExact is the largest whole number that every reader of JSON has exactly.
const maxExact = 1<<53 - 1

// A Variant is a value that a flag can have. Variants never change.
type Variant struct {
	Name   string
	Index  int // among the variants of the flag, by name
	Kind   Kind
	Bool   bool    // the value of a Boolean
	Exact  bool    // a Number is Whole
	Text   string  // the value of a Text
	Number float64 // the value of a Number
	Whole  int64   // the same as a whole number, if Exact

	raw     string // as in the file
	decoded any    // of an Object or a List
}

// Value returns the value as encoding/json decodes it, in a copy.
func (v *Variant) Value() any {
	switch v.Kind {
	case Boolean:
		return v.Bool
	case Number:
		return v.Number
	case Text:
		return v.Text
	}
	return Plain(v.decoded)
}

// JSON returns the value as in the file.
func (v *Variant) JSON() []byte { return []byte(v.raw) }

// Plain returns x with float64 in place of json.Number, in a copy that the caller may change.
func Plain(x any) any {
	switch x := x.(type) {
	case json.Number:
		n, _ := x.Float64()
		return n
	case map[string]any:
		m := make(map[string]any, len(x))
		for k, v := range x {
			m[k] = Plain(v)
		}
		return m
	case []any:
		l := make([]any, len(x))
		for i, v := range x {
			l[i] = Plain(v)
		}
		return l
	}
	return x
}

// find returns the variant with the name; nil if there is none.
func find(variants []Variant, name string) *Variant {
	i, ok := slices.BinarySearchFunc(variants, name, func(v Variant, name string) int { return strings.Compare(v.Name, name) })
	if !ok {
		return nil
	}
	return &variants[i]
}

func names(variants []Variant) string {
	var b strings.Builder
	for i := range variants {
		if i == 20 {
			fmt.Fprintf(&b, " and %d more", len(variants)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(variants[i].Name)
	}
	return b.String()
}

// addVariants reads the variants of a flag that begins at an offset, and finds the default variant.
func addVariants(c *compiler, f *Flag, at int, p, preset part) error {
	switch {
	case p.kind != Object && p.kind != Null:
		return &fault{p.at, `"variants" must be an object`}
	case p.kind == Object:
		var err error
		if p, err = c.read(p.at, 1, maxValues); err != nil {
			return fmt.Errorf("variants: %w", err)
		}
	}
	if len(p.items) == 0 {
		return &fault{cmp.Or(p.at, at), "variants must hold at least one value"}
	}
	f.variants = make([]Variant, len(p.items))
	f.Kind = p.items[0].kind
	list := make([]string, len(p.items))
	for i, x := range p.items {
		list[i] = x.name
	}
	slices.Sort(list)
	for _, x := range p.items {
		i, _ := slices.BinarySearch(list, x.name)
		f.variants[i].Index = i
		if err := readVariant(c, &f.variants[i], x); err != nil {
			return err
		}
		if f.Kind != Null && f.Kind != x.kind {
			c.warn(x.at, "variant %q is a %v, but the ones before it are a %v: all should be of one type", x.name, x.kind, f.Kind)
			f.Kind = Null
		}
	}
	if preset.kind != Text && preset.kind != Null {
		return &fault{preset.at, `"defaultVariant" must be a string`}
	}
	if preset.text == "" || preset.kind == Null {
		return nil
	}
	if f.Default = find(f.variants, preset.text); f.Default == nil {
		return &fault{preset.at, fmt.Sprintf("defaultVariant %q is not one of the variants %s", preset.text, names(f.variants))}
	}
	return nil
}

// readVariant reads the value of a variant.
func readVariant(c *compiler, v *Variant, p part) (err error) {
	v.Name, v.Kind, v.raw = p.name, p.kind, p.raw(c.source)
	switch p.kind {
	case Boolean:
		v.Bool = p.text == "true"
	case Text:
		v.Text = p.text
	case Number:
		if v.Number, err = strconv.ParseFloat(p.text, 64); err != nil {
			return &fault{p.at, fmt.Sprintf("variant %q: the number %.40s is too large", p.name, p.text)}
		}
		v.Whole, v.Exact = integer(p.text, v.Number)
		if isWhole(v.Number) && math.Abs(v.Number) > maxExact {
			c.warn(p.at, "variant %q: its number is beyond 2^53, where other programs do not have it exactly", p.name)
		}
	case Object, List:
		if err := json.Unmarshal([]byte(v.raw), &v.decoded); err != nil {
			return &fault{p.at, fmt.Sprintf("variant %q: %v", p.name, err)}
		}
	}
	if p.kind == Null || p.kind == List {
		c.warn(p.at, "variant %q is a %v, and should be a boolean, a string, a number or an object", p.name, p.kind)
	}
	return nil
}

// integer returns the number as an int64, and whether it is a whole number in the range of an int64.
func integer(s string, n float64) (int64, bool) {
	if i, err := strconv.ParseInt(s, 10, 64); err == nil {
		return i, true
	}
	if !isWhole(n) || n < math.MinInt64 || n >= math.MaxInt64 {
		return 0, false
	}
	return int64(n), true
}
