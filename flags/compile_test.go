package flags_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/midair-go/midair/flags"
)

// A file in which anything cannot be right is refused as a whole, with an error that names the flag, the place and the
// reason.
func TestBadFilesAreRefusedByName(t *testing.T) {
	one := func(def string) string {
		return `{"flags": {"good": {"state": "ENABLED", "variants": {"x": 1}}, "bad": ` + def + `}}`
	}
	with := func(targeting string) string {
		return one(`{"state": "ENABLED", "variants": {"on": "1", "off": "0"}, "defaultVariant": "off", "targeting": ` + targeting + `}`)
	}
	for _, c := range []struct{ content, want string }{
		// the file
		{``, `it is empty`},
		{`[]`, `must be an object with "flags"`},
		{`{}`, `it has no "flags"`},
		{`{"flags": null}`, `it has no "flags"`},
		{`{"flags": []}`, `"flags" must be an object`},
		{`{"flags": {}} {}`, `something after its end`},
		{`{"flags": {}`, `ends in the middle, in line 1`},
		{"{\n\"flags\": {},\n}", `not valid JSON near line 3`},
		{`{"flags": {}, "flags": {}}`, `"flags" is used twice`},
		{`{"flags": {"a": {}, "a": {}}}`, `"a" is used twice`},
		{`{"flags": {}, "$evaluators": 3}`, `"$evaluators" must be an object`},
		{`{"flags": {}, "metadata": {"a": {}}}`, `metadata.a must be`},
		{`{"flags": {}, "x": 1e999}`, `1e999 is too large`},
		{`{"flags": {"a": ` + strings.Repeat("[", 300) + strings.Repeat("]", 300) + `}}`, `inside one another`},
		// a flag
		{one(`3`), `flag bad: it must be an object`},
		{one(`{"variants": {"x": 1}}`), `flag bad: state must be`},
		{one(`{"state": "enabled", "variants": {"x": 1}}`), `state must be`},
		{one(`{"state": true, "variants": {"x": 1}}`), `state must be`},
		{one(`{"state": "ENABLED"}`), `variants must hold at least one`},
		{one(`{"state": "ENABLED", "variants": []}`), `"variants" must be an object`},
		{one(`{"state": "ENABLED", "variants": {"a": 1, "b": "x"}}`), `flag bad: variant "b" is a string, but the ones before it are a number`},
		{one(`{"state": "ENABLED", "variants": {"a": {}, "b": true}}`), `variant "b" is a boolean`},
		{one(`{"state": "ENABLED", "variants": {"a": null}}`), `variant "a" must be`},
		{one(`{"state": "ENABLED", "variants": {"a": [1]}}`), `variant "a" must be`},
		{one(`{"state": "ENABLED", "variants": {"a": 1}, "defaultVariant": "b"}`), `defaultVariant "b" is not one of the variants a`},
		{one(`{"state": "ENABLED", "variants": {"a": 1}, "defaultVariant": 1}`), `"defaultVariant" must be a string`},
		{one(`{"state": "ENABLED", "variants": {"a": 1}, "metadata": 1}`), `"metadata" must be an object`},
		{one(`{"state": "ENABLED", "variants": {"a": 1}, "metadata": {"x": null}}`), `metadata.x must be`},
		// targeting
		{with(`"on"`), `"targeting" must be an object`},
		{with(`{"iff": [true, "on"]}`), `flag bad: targeting.iff: the operator "iff" is not known; there are ! !!`},
		{with(`{"if": [true, "on"], "or": [true]}`), `one operator, not with 2 names`},
		{with(`{"if": [{}, "on"]}`), `targeting.if[0]: an expression is an object with one operator, not with 0 names`},
		{with(`{"if": [{"==": [1]}, "on"]}`), `targeting.if[0].==: "==" takes 2 arguments, not 1`},
		{with(`{"if": [true]}`), `"if" takes at least 2 arguments, not 1`},
		{with(`{"if": [{"<": [1,2,3,4]}, "on"]}`), `"<" takes 2 or 3 arguments, not 4`},
		{with(`{"and": []}`), `"and" takes at least 1`},
		{with(`{"if": [{"!": [1,2]}, "on"]}`), `"!" takes 1 arguments`},
		{with(`{"if": [{"in": 3}, "on"]}`), `"in" takes 2`},
		{with(`{"if": [{"var": []}, "on"]}`), `var: takes a name`},
		{with(`{"if": [{"var": ["a", 1, 2]}, "on"]}`), `not 3 arguments`},
		{with(`{"if": [{"var": ""}, "on"]}`), `must be a string that is not empty`},
		{with(`{"if": [{"var": 1}, "on"]}`), `must be a string`},
		{with(`{"if": [{"var": {"var": "x"}}, "on"]}`), `must be a string`},
		{with(`{"if": [{"var": "$flagd.flagkey"}, "on"]}`), `"$flagd.flagkey" is not known`},
		{with(`{"$ref": "x"}`), `$evaluators has no "x"`},
		{with(`{"$ref": ["x", "y"]}`), `the name must be a string`},
		// variants that do not exist, wherever the rule would choose them
		{with(`{"if": [true, "purple"]}`), `flag bad: targeting chooses "purple", which is not one of the variants off, on`},
		{with(`{"if": [true, "on", true, "off", "purple"]}`), `chooses "purple"`},
		{with(`{"or": [{"var": "x"}, "purple"]}`), `chooses "purple"`},
		{with(`{"or": ["purple", "on"]}`), `chooses "purple"`},
		{with(`{"and": [true, "purple"]}`), `chooses "purple"`},
		{with(`{"var": ["x", "purple"]}`), `chooses "purple"`},
		{with(`{"if": [true, 1]}`), `chooses "1"`},
		{with(`{"if": [true, true]}`), `chooses "true"`},
		{with(`{"if": [true, ["on"]]}`), `chooses a value of type list`},
		{with(`{"fractional": [["on", 1], ["purple", 1]]}`), `chooses "purple"`},
		{with(`{"fractional": [[{"if": [true, "purple"]}, 1]]}`), `chooses "purple"`},
		// weights
		{with(`{"fractional": []}`), `at least one share`},
		{with(`{"fractional": ["key"]}`), `at least one share`},
		{with(`{"fractional": [["on", 1], "off"]}`), `fractional[1]: a share is a list`},
		{with(`{"fractional": ["key", []]}`), `fractional[1]: a share is a list`},
		{with(`{"fractional": [["on", 1, 2]]}`), `a share is a list`},
		{with(`{"fractional": [["on", -1]]}`), `fractional[0]: the weight must be a whole number from 0 to 2147483647`},
		{with(`{"fractional": [["on", 1.5]]}`), `must be a whole number`},
		{with(`{"fractional": [["on", "1"]]}`), `must be a whole number`},
		{with(`{"fractional": [["on", true]]}`), `must be a whole number`},
		{with(`{"fractional": [["on", 2147483648]]}`), `must be a whole number`},
		{with(`{"fractional": [["on", 2147483647], ["off", 1]]}`), `the weights are 2147483648 together`},
		{with(`{"fractional": [["on", 0], ["off", 0]]}`), `all weights are 0`},
		{with(`{"fractional": [{"nope": 1}, ["on", 1]]}`), `fractional[0].nope`},
		{with(`{"fractional": [["on", {"nope": 1}]]}`), `fractional[0][1].nope`},
	} {
		err := flags.Compile([]byte(c.content))
		if err == nil {
			t.Errorf("taken: %.120s", c.content)
			continue
		}
		mustHold(t, err.Error(), "flags: file: ", c.want)
	}
}

// What is unusual but right is taken.
func TestUnusualFilesAreTaken(t *testing.T) {
	for _, content := range []string{
		`{"flags": {}}`,
		`{"$schema": "https://flagd.dev/schema/v0/flags.json", "flags": {}, "unknown": [1]}`,
		`{"flags": {"": {"state": "ENABLED", "variants": {"": 1}}}}`,
		`{"flags": {"f": {"state": "DISABLED", "variants": {"x": {}}, "defaultVariant": null, "targeting": {}, "extra": 1}}}`,
		`{"flags": {"f": {"state": "ENABLED", "variants": {"x": 1, "y": 0.5}, "targeting": null, "metadata": {"owner": "me", "n": 1, "b": true}}}}`,
		rule(`{"if": [{"and": ["purple", true]}, "a"]}`),
		rule(`{"if": [{"==": [{"var": "x"}, "purple"]}, "a"]}`),
		rule(`{"and": [false, "a"]}`),
		rule(`{"and": ["purple", "a"]}`),
		rule(`{"fractional": [["a", null], ["b", 0]]}`),
		rule(`{"fractional": [["a", 2147483647]]}`),
		rule(`{"var": "x"}`),
	} {
		if err := flags.Compile([]byte(content)); err != nil {
			t.Errorf("%s: %v", content, err)
		}
	}
}

// A file with thousands of flags is taken as a whole.
func TestLargeFile(t *testing.T) {
	var b strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&b, `,"f%d": {"state": "ENABLED", "variants": {"a": %d, "b": 0}, "defaultVariant": "a", "targeting": {"fractional": [["a", 1], ["b", 1]]}}`, i, i)
	}
	f := serve(t, `{"flags": {`+b.String()[1:]+`}}`)
	mustBe(t, "flags", f.Status().Flags, 5000)
	mustBe(t, "one of them", f.Int(t.Context(), "f4321", 0), 4321)
}
