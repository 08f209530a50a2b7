package flagd_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/midair-go/midair/flags/internal/flagd"
)

// kinds has a variant of each type.
const kinds = `{"metadata": {"team": "shop", "set": 1}, "flags": {"f": {"state": "ENABLED", "metadata": {"team": "cart"},
	"variants": {"bool": true, "text": "x", "number": 1.5, "whole": 7, "exp": 2e3, "huge": 1e300, "object": {"a": [1, "b", null]}, "list": [1, {}], "null": null},
	"defaultVariant": "whole"}}}`

// Variants have their values, as encoding/json has them, and as they are in the file.
func TestVariantsHaveTheirValues(t *testing.T) {
	f := served(t, parse(t, kinds), "f")
	for name, want := range map[string]struct {
		kind  flagd.Kind
		value any
		raw   string
	}{
		"bool": {flagd.Boolean, true, `true`}, "text": {flagd.Text, "x", `"x"`}, "number": {flagd.Number, 1.5, `1.5`},
		"whole": {flagd.Number, 7.0, `7`}, "exp": {flagd.Number, 2000.0, `2e3`}, "null": {flagd.Null, nil, `null`},
		"object": {flagd.Object, map[string]any{"a": []any{1.0, "b", nil}}, `{"a": [1, "b", null]}`},
		"list":   {flagd.List, []any{1.0, map[string]any{}}, `[1, {}]`},
	} {
		v := f.Variant(name)
		if v == nil {
			t.Fatal(name)
		}
		if v.Kind != want.kind || !reflect.DeepEqual(v.Value(), want.value) || string(v.JSON()) != want.raw {
			t.Errorf("%s: %v %v %s", name, v.Kind, v.Value(), v.JSON())
		}
	}
	mustBe(t, "the kind of all", f.Kind, flagd.Null)
	mustBe(t, "whole", f.Variant("whole").Whole, 7)
	mustBe(t, "exp", f.Variant("exp").Whole, 2000)
	mustBe(t, "a fraction is exact", f.Variant("number").Exact, false)
	mustBe(t, "beyond int64 is exact", f.Variant("huge").Exact, false)
	mustBe(t, "the default", f.Default.Name, "whole")
	mustBe(t, "one that is not there", f.Variant("none"), nil)
	f.Variant("object").Value().(map[string]any)["a"] = 1
	mustBe(t, "the next value", len(f.Variant("object").Value().(map[string]any)["a"].([]any)), 3)
	f.Variant("bool").JSON()[0] = 'x'
	mustBe(t, "the next JSON", string(f.Variant("bool").JSON()), "true")
	if want := map[string]any{"team": "cart", "set": 1.0}; !reflect.DeepEqual(f.Metadata, want) {
		t.Errorf("metadata %v", f.Metadata)
	}
	if d := parse(t, rule(`{}`)); d.Flags["f"].Metadata != nil || d.Bucketing != flagd.FractionalV2 {
		t.Errorf("%v %s", d.Flags["f"].Metadata, d.Bucketing)
	}
}

// The definition of a flag is a file with this flag alone, which is the same flag.
func TestDefinitionIsTheSameFlag(t *testing.T) {
	const content = `{"metadata": {"v": 1}, "$evaluators": {"e": {"==": [{"var": "x"}, 1]}, "other": {"var": "y"}}, "flags": [
		{"key": "a\"b", "state": "ENABLED", "variants": {"on": true, "off": false}, "targeting": {"if": [{"$ref": "e"}, "on", "off"]}},
		{"key": "c", "state": "DISABLED", "variants": {"on": [1]}}]}`
	d := parse(t, content)
	for key, f := range d.Flags {
		again := parse(t, string(f.Definition()))
		if len(again.Flags) != 1 || !again.Flags[key].Same(f) || !f.Same(again.Flags[key]) {
			t.Errorf("%s: %s", key, f.Definition())
		}
	}
	mustBe(t, "fragments that are not used", strings.Contains(string(d.Flags["c"].Definition()), "$evaluators"), false)
	mustBe(t, "another flag", d.Flags["c"].Same(d.Flags[`a"b`]), false)
}

// Spaces and the order of names make no difference, everything else does.
func TestSame(t *testing.T) {
	const file = `{"metadata": {"v": 1}, "$evaluators": {"e": {"var": "x"}}, "flags": {"f": {"state": "ENABLED",
		"variants": {"a": 1, "b": 2}, "defaultVariant": "a", "targeting": {"if": [{"$ref": "e"}, "b"]}}}}`
	f := served(t, parse(t, file), "f")
	var x any
	if err := json.Unmarshal([]byte(file), &x); err != nil {
		t.Fatal(err)
	}
	sorted, _ := json.Marshal(x)
	mustBe(t, "written anew", f.Same(served(t, parse(t, string(sorted)), "f")), true)
	for _, change := range []struct{ from, to string }{
		{`"v": 1`, `"v": 2`}, {`{"var": "x"}`, `{"var": "y"}`}, {`"b": 2`, `"b": 3`}, {`"b": 2`, `"b": 2.0`},
		{`"defaultVariant": "a"`, `"defaultVariant": "b"`}, {`"ENABLED"`, `"DISABLED"`}, {`"v": 1`, `"midair.bucketing": "flagd/fractional-v1"`},
	} {
		other := served(t, parse(t, strings.Replace(file, change.from, change.to, 1)), "f")
		mustBe(t, change.to, f.Same(other), false)
	}
	byOption := served(t, parseWith(t, file, flagd.Options{Bucketing: flagd.FractionalV3}), "f")
	mustBe(t, "another bucketing", f.Same(byOption), false)
}

// The file outranks the program.
func TestBucketingOfFileOutranksOption(t *testing.T) {
	d := parseWith(t, `{"metadata": {"midair.bucketing": "flagd/fractional-v1"}, "flags": {}}`, flagd.Options{Bucketing: flagd.FractionalV3})
	mustBe(t, "the bucketing", d.Bucketing, flagd.FractionalV1)
}

// A flag that is disabled is served as such, whatever is wrong with its rule.
func TestDisabledFlagHasNoFaultInItsRule(t *testing.T) {
	d := parse(t, `{"flags": {"f": {"state": "DISABLED", "variants": {"a": 1}, "targeting": {"nope": 1}}}}`)
	f := served(t, d, "f")
	mustBe(t, "disabled", f.Disabled, true)
	mustBe(t, "targeted", f.Targeted(), false)
	mustBe(t, "the warnings", len(d.Warnings), 1)
}
