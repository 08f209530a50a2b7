package flagd

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/open-feature/go-sdk/openfeature"
)

// Reserved reports whether an attribute has a name which the evaluation itself fills in.
func Reserved(name string) bool {
	return name == openfeature.TargetingKey || name == "$flagd" || strings.HasPrefix(name, "$flagd.")
}

// Literal returns a variant whose value is the text as JSON, or the text itself if that is not JSON.
func Literal(text string) *Variant {
	if v, err := single(text, []byte(text)); err == nil {
		return v
	}
	v, err := Encode(text, text)
	if err != nil { // cannot happen: it is a text
		return &Variant{Name: text, Kind: Text, Text: text}
	}
	return v
}

// Encode returns a variant with the name and the value x, as x is in JSON.
func Encode(name string, x any) (*Variant, error) {
	data, err := json.Marshal(x)
	if err != nil {
		return nil, err
	}
	return single(name, data)
}

// single returns a variant with a value in JSON.
func single(name string, value []byte) (*Variant, error) {
	if !json.Valid(value) {
		return nil, fmt.Errorf("%q is not JSON", value)
	}
	d, err := Parse([]byte(`{"flags": {"f": {"state": "ENABLED", "variants": {"v": `+string(value)+`}, "defaultVariant": "v"}}}`), Options{})
	if err != nil {
		return nil, err
	}
	f := d.Flags["f"]
	switch {
	case f == nil:
		return nil, fmt.Errorf("%s", d.Faults[0].Text)
	case f.Default.Kind == Null || f.Default.Kind == List:
		return nil, fmt.Errorf("a %v is not the value of a flag", f.Default.Kind)
	}
	v := *f.Default
	v.Name = name
	return &v, nil
}
