package flagd_test

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/midair-go/midair/flags/internal/flagd"
)

// wide writes a text in UTF-16, with the lower byte first.
func wide(s string) string {
	b := []byte{0xff, 0xfe}
	for _, u := range utf16.Encode([]rune(s)) {
		b = append(b, byte(u), byte(u>>8))
	}
	return string(b)
}

// A file of which nothing can be used is refused, with a reason that says what to do.
func TestUselessFilesAreRefused(t *testing.T) {
	for _, c := range []struct{ content, want string }{
		{``, `it is empty: write {"flags": {}}`},
		{" \n\t", `it is empty`},
		{strings.Repeat(" ", 1<<16), `it is empty`},
		{"\ufeff", `it is empty`},
		{`[]`, `must be an object with "flags"`},
		{`"flags"`, `must be an object`},
		{`{}`, `it has no "flags"`},
		{`{"flags": null}`, `it has no "flags"`},
		{`{"flags": 3}`, `"flags" must be an object`},
		{`{"flags": {}} {}`, `something after its end, in line 1`},
		{`{"flags": {}`, `ends in the middle, in line 1`},
		{"{\n\"flags\": {\"a\": {\"state\": \"ENA", `ends in the middle, in line 2`},
		{"{\n\"flags\": {},\n}", `not valid JSON near line 3`},
		{`{"flags": {'a': 1}}`, `not valid JSON near line 1`},
		{strings.Repeat("[", 1_000_000), `too many objects and lists are inside one another`},
		{`{"flags": {}, "x": ` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`, `too many objects and lists`},
		{"flags:\n  cart:\n    state: ENABLED\n", `it is YAML: convert it to JSON, for example with yq`},
		{"# my flags\n\nmetadata:\n  x: 1\nflags:\n  cart:\n", `it is YAML`},
		{"---\n{}\n", `it is YAML`},
		{wide(`{"flags": {}}`), `it is in UTF-16 or UTF-32: save it as UTF-8`},
		{wide(`{"flags": {}}`)[2:], `it is in UTF-16`},
		{"\xfe\xff\x00{", `it is in UTF-16`},
		{`{"flags": {}, "metadata": {"midair.bucketing": "flagd/fractional-v9"}}`,
			`metadata.midair.bucketing: the bucketing "flagd/fractional-v9" is not known; there are flagd/fractional-v1`},
		{`{"flags": {}, "metadata": {"midair.bucketing": 2}}`, `metadata.midair.bucketing: the bucketing "" is not known`},
	} {
		_, err := flagd.Parse([]byte(c.content), flagd.Options{})
		if err == nil {
			t.Errorf("taken: %.120q", c.content)
			continue
		}
		mustHold(t, err.Error(), c.want)
	}
	if _, err := flagd.Parse([]byte(`{"flags": {}}`), flagd.Options{Bucketing: "flagd"}); err == nil {
		t.Error("an unknown bucketing is taken as an option")
	}
}

// one is a file with a good flag, and a bad one in line 3.
func one(def string) string {
	return "{\"flags\": {\n\"good\": {\"state\": \"ENABLED\", \"variants\": {\"x\": 1}, \"defaultVariant\": \"x\"},\n\"bad\": " + def + "}}"
}

// with is a file like that of one, whose bad flag has a targeting.
func with(targeting string) string {
	return one(`{"state": "ENABLED", "variants": {"on": "1", "off": "0"}, "defaultVariant": "off", "targeting": ` + targeting + `}`)
}

// A flag that cannot be served is a fault with its key, line and reason, and the flag beside it is served.
func TestFaultOfOneFlagStaysThere(t *testing.T) {
	deep := strings.Repeat(`[`, 300) + strings.Repeat(`]`, 300)
	for _, c := range []struct{ content, want string }{
		{one(`3`), `it must be an object with state, variants`},
		{one(`{"state": true, "variants": {"x": 1}}`), `state must be "ENABLED" or "DISABLED"`},
		{one(`{"variants": {}}`), `variants must hold at least one`},
		{one(`{"state": "ENABLED"}`), `variants must hold at least one`},
		{one(`{"state": "ENABLED", "variants": []}`), `"variants" must be an object`},
		{one(`{"state": "ENABLED", "variants": {"a": 1e999}}`), `variant "a": the number 1e999 is too large`},
		{one(`{"state": "ENABLED", "variants": {"a": {"b": [1e999]}}}`), `variant "a": `},
		{one(`{"state": "ENABLED", "variants": {"a": 1}, "defaultVariant": "b"}`), `defaultVariant "b" is not one of the variants a`},
		{one(`{"state": "ENABLED", "variants": {"a": 1}, "defaultVariant": 1}`), `"defaultVariant" must be a string`},
		{with(`{"iff": [true, "on"]}`), `targeting.iff: the operator "iff" is not known; there are ! !!`},
		{with(`{"if": [true, {"and": [{"nope": 1}]}]}`), `targeting.if[1].and[0].nope: the operator`},
		{with(`{"if": [{"var": ["a", {"nope": 1}]}, "on"]}`), `targeting.if[0].var[1].nope`},
		{with(`{"fractional": [{"nope": 1}, ["on", 1]]}`), `targeting.fractional[0].nope`},
		{with(`{"fractional": [["on", {"nope": 1}]]}`), `targeting.fractional[0][1].nope`},
		{with(`{"if": [{"<": [{"var": "x"}, 1e999]}, "on"]}`), `targeting.if[0].<[1]: the number 1e999 is too large`},
		{with(`{"if": [{"in": [{"var": "x"}, [1e999]]}, "on"]}`), `the number 1e999 is too large`},
		{with(`{"if": [{"var": true}, "on"]}`), `targeting.if[0].var: the name must be a string, not "true"`},
		{with(`{"if": [{"var": [["a"], 1]}, "on"]}`), `must be a string, not a value of type list`},
		{with(`{"$ref": "x"}`), `$evaluators has no "x"`},
		{with(`{"$ref": ["x", "y"]}`), `the name must be a string`},
		{with(deep), `more than 100 expressions are inside one another`},
		{strings.Replace(with(`{"$ref": "x"}`), `{"flags"`, `{"$evaluators": {"x": {"var": "y", "z": 1, "a": {"b": 1}}, "y": {"n": 1}}, "flags"`, 1), ``},
		{strings.Replace(with(`{"$ref": "x"}`), `{"flags"`, `{"$evaluators": 3, "flags"`, 1), `$evaluators has no "x"`},
		{strings.Replace(with(`{"$ref": "x"}`), `{"flags"`, `{"$evaluators": {"x": {"n": 1}}, "flags"`, 1), `targeting.$ref(x).n: the operator "n"`},
	} {
		d := parse(t, c.content)
		served(t, d, "good")
		if c.want == "" {
			served(t, d, "bad")
			continue
		}
		if len(d.Faults) != 1 || d.Flags["bad"] != nil {
			t.Errorf("taken: %.200s", c.content)
			continue
		}
		n := d.Faults[0]
		mustHold(t, n.Text, c.want)
		mustBe(t, "the key", n.Key, "bad")
		if want := 3; n.Line != want && !strings.Contains(c.content, `{"n": 1}`) {
			t.Errorf("%s: line %d, want %d", n.Text, n.Line, want)
		}
	}
}

// What flagd takes and what is hardly meant is served, with a warning that names flag and line.
func TestOddFlagsAreServedWithWarning(t *testing.T) {
	plain := `"state": "ENABLED", "variants": {"on": "1", "off": "0"}`
	for _, c := range []struct{ content, want string }{
		{one(`{"variants": {"x": 1}}`), `the flag has no state`},
		{one(`{"state": "disabled", "variants": {"x": 1}}`), `the state "disabled" should be "DISABLED"`},
		{one(`{"state": "ON", "variants": {"x": 1}}`), `the state "ON" should be "ENABLED" or`},
		{one(`{"state": "ENABLED", "variants": {"a": 1, "b": "x"}}`), `variant "b" is a string, but the ones before it are a number`},
		{one(`{"state": "ENABLED", "variants": {"a": null}}`), `variant "a" is a null`},
		{one(`{"state": "ENABLED", "variants": {"a": [1]}}`), `variant "a" is a list`},
		{one(`{"state": "ENABLED", "variants": {"a": 9007199254740993}}`), `variant "a": its number is beyond 2^53`},
		{one(`{"state": "ENABLED", "variants": {"a": 1, "a": 2}}`), `the name "a" is used twice`},
		{one(`{` + plain + `, "state": "ENABLED"}`), `the name "state" is used twice`},
		{one(`{` + plain + `, "defaultvariant": "on"}`), `the name "defaultvariant" in the flag should be "defaultVariant"`},
		{one(`{` + plain + `, "weight": 1}`), `the name "weight" in the flag is not known`},
		{one(`{` + plain + `, "metadata": 1}`), `metadata is a number, and should be an object`},
		{one(`{` + plain + `, "metadata": {"x": null}}`), `metadata.x should be`},
		{one(`{` + plain + `, "metadata": {"x": {}}}`), `metadata.x should be`},
		{one(`{` + plain + `, "metadata": {"x": 1e999}}`), `metadata.x should be`},
		{with(`"on"`), `targeting is a string, and should be an object`},
		{with(`{"if": [true, "on"], "or": [true]}`), `targeting: an expression is an object with one operator; with 2 names it is data`},
		{with(`{"if": [{}, "on"]}`), `targeting.if[0]: an expression is an object with one operator; with 0 names`},
		{with(`{"if": [true, "on"], "if": [false, "on"]}`), `the name "if" is used twice`},
		{with(`{"if": [{"==": [1]}, "on"]}`), `targeting.if[0].==: "==" takes 2 arguments, not 1`},
		{with(`{"if": [{"==": [1, 2, 3]}, "on"]}`), `"==" takes 2 arguments, not 3`},
		{with(`{"if": [true]}`), `"if" has no consequence`},
		{with(`{"if": [{"<": [1,2,3,4]}, "on"]}`), `"<" takes 2 arguments or 3, not 4`},
		{with(`{"and": []}`), `"and" has no arguments`},
		{with(`{"if": [{"!": [1,2]}, "on"]}`), `"!" takes 1 argument, not 2`},
		{with(`{"if": [{"in": 3}, "on"]}`), `"in" takes 2 arguments, not 1`},
		{with(`{"if": [{"%": [1]}, "on"]}`), `"%" takes 2 arguments, not 1: each evaluation fails`},
		{with(`{"if": [{"map": {"var": "x"}}, "on"]}`), `"map" takes 2 arguments, not 1: each evaluation fails`},
		{with(`{"if": [{"some": [1, {"var": ""}]}, "on"]}`), `"some" goes through a list, not through "1"`},
		{with(`{"if": [{"var": ["a", 1, 2]}, "on"]}`), `not 3 arguments`},
		{with(`{"if": [{"var": "$flagd.flagkey"}, "on"]}`), `"$flagd.flagkey" is not known`},
		{with(`{"if": [{">": [{"var": "n"}, 9007199254740993]}, "on"]}`), `targeting.if[0].>[1]: the number 9007199254740993 is beyond 2^53`},
		{with(`{"if": [true, "purple"]}`), `targeting chooses "purple", which is not one of the variants off, on`},
		{with(`{"if": [true, "on", true, "off", "purple"]}`), `chooses "purple"`},
		{with(`{"or": [{"var": "x"}, "purple"]}`), `chooses "purple"`},
		{with(`{"or": ["purple", "on"]}`), `chooses "purple"`},
		{with(`{"and": [true, "purple"]}`), `chooses "purple"`},
		{with(`{"var": ["x", "purple"]}`), `chooses "purple"`},
		{with(`{"if": [true, 1]}`), `chooses "1"`},
		{with(`{"if": [true, true]}`), `chooses "true"`},
		{with(`{"if": [true, ["on"]]}`), `chooses a value of type list`},
		{with(`{"fractional": [["on", 1], ["purple", 1]]}`), `chooses "purple"`},
		{with(`{"fractional": [["on", {"var": "w"}], ["purple", 1]]}`), `chooses "purple"`},
		{with(`{"fractional": [[{"if": [true, "purple"]}, 1]]}`), `chooses "purple"`},
		{with(`{"fractional": []}`), `fractional has too few shares`},
		{with(`{"fractional": ["key"]}`), `fractional has too few shares`},
		{with(`{"fractional": [["on", 1], "off"]}`), `a share of fractional is a list of a variant and a weight, not "off"`},
		{with(`{"fractional": ["key", []]}`), `a share of fractional is a list`},
		{with(`{"fractional": [["on", -1], ["off", 1]]}`), `the weight "-1" is negative`},
		{with(`{"fractional": [["on", 1.5]]}`), `the weight "1.5" is no whole number up to 2147483647: the fractional is always null`},
		{with(`{"fractional": [["on", "1"]]}`), `the weight "1" is no whole number`},
		{with(`{"fractional": [["on", true]]}`), `the weight "true" is no whole number`},
		{with(`{"fractional": [["on", 2147483648]]}`), `is no whole number up to`},
		{with(`{"fractional": [["on", 2147483647], ["off", 1]]}`), `the weights are 2147483648 together`},
		{with(`{"fractional": [["on", 0], ["off", 0]]}`), `all weights are 0`},
		{with(`{"if": [{"sem_ver": [{"var": "v"}, "=>", "1.0.0"]}, "on"]}`), `"=>" is none of = !=`},
		{with(`{"if": [{"sem_ver": [{"var": "v"}, "=", "1.0.0.0"]}, "on"]}`), `"1.0.0.0" is no version`},
		{with(`{"if": [{"starts_with": [{"var": "v"}, 1]}, "on"]}`), `its second argument is no string`},
	} {
		d := parse(t, c.content)
		served(t, d, "good")
		served(t, d, "bad")
		found := false
		for _, w := range d.Warnings {
			if strings.Contains(w.Text, c.want) {
				found = true
				mustBe(t, "the key of "+w.Text, w.Key, "bad")
				mustBe(t, "the line of "+w.Text, w.Line, 3)
			}
		}
		if !found {
			t.Errorf("no %q in %v of %s", c.want, d.Warnings, c.content[90:])
		}
	}
}

// Warnings about what is beside the flags have no key.
func TestWarningsOfWholeFile(t *testing.T) {
	for _, c := range []struct{ content, want string }{
		{"\ufeff{\"flags\": {}}", `byte order mark`},
		{`{"flags": {}, "flags": {}}`, `the name "flags" is used twice`},
		{`{"flags": {"a": 1, "a": 2}}`, `the name "a" is used twice`},
		{`{"flags": {}, "unknown": [1]}`, `the name "unknown" in the file is not known`},
		{`{"Flags": {}}`, `the name "Flags" in the file should be "flags"`},
		{`{"flags": {}, "$evaluators": 3}`, `$evaluators is a number, and should be an object`},
		{`{"flags": {}, "$evaluators": {"x": {"var": "y"}}}`, `$evaluators has "x", which no flag uses`},
		{`{"flags": {}, "metadata": {"a": {}}}`, `metadata.a should be`},
		{`{"flags": {}, "metadata": []}`, `metadata is a list`},
	} {
		d := parse(t, c.content)
		if len(d.Warnings) != 1 {
			t.Errorf("%v for %s", d.Warnings, c.content)
			continue
		}
		mustHold(t, d.Warnings[0].Text, c.want)
		mustBe(t, "the key", d.Warnings[0].Key, "")
		mustBe(t, "the line", d.Warnings[0].Line, 1)
	}
}

// What is unusual but right is taken without a word.
func TestUnusualFilesAreTaken(t *testing.T) {
	for _, content := range []string{
		`{"flags": {}}`,
		`{"flags": []}`,
		`{"$schema": "https://flagd.dev/schema/v0/flags.json", "$comment": "x", "flags": {}}`,
		`{"flags": {"": {"state": "ENABLED", "variants": {"": 1}}}}`,
		`{"flags": [{"key": "f", "state": "ENABLED", "variants": {"x": 1}}]}`,
		`{"flags": {"f": {"state": "DISABLED", "variants": {"x": {}}, "defaultVariant": null, "targeting": {}}}}`,
		`{"flags": {"f": {"state": "ENABLED", "variants": {"x": 1, "y": 0.5}, "targeting": null, "metadata": {"owner": "me", "n": 1, "b": true}}}}`,
		`{"flags": {"f": {"state": "ENABLED", "variants": {"x": 1, "y": 9007199254740991}, "defaultVariant": ""}}}`,
		rule(`{"if": [{"and": ["purple", true]}, "a"]}`),
		rule(`{"if": [{"==": [{"var": "x"}, "purple"]}, "a"]}`),
		rule(`{"and": [false, "a"]}`),
		rule(`{"and": ["purple", "a"]}`),
		rule(`{"fractional": [["a", null], ["b", 0]]}`),
		rule(`{"fractional": [["a", 2147483647]]}`),
		rule(`{"var": "x"}`),
		rule(`{"if": [{"!": {"var": "x"}}, "a"]}`),
		rule(`{"if": [{"!!": {"some": [{"var": "x"}, {"==": [{"var": ""}, 1]}]}}, "a"]}`),
	} {
		d := parse(t, content)
		if len(d.Faults)+len(d.Warnings) != 0 {
			t.Errorf("%s: %v %v", content, d.Faults, d.Warnings)
		}
	}
}

// Of two things with one name the last one counts, as in flagd.
func TestLastOfTwoCounts(t *testing.T) {
	flag := func(v string) string {
		return `{"key": "f", "state": "ENABLED", "variants": {"a": 1, "b": 2}, "defaultVariant": "` + v + `"}`
	}
	for _, content := range []string{
		`{"flags": {"f": ` + flag("a") + `, "f": ` + flag("b") + `}}`,
		`{"flags": [` + flag("a") + `, ` + flag("b") + `]}`,
		`{"flags": {"f": ` + flag("a") + `}, "flags": {"f": ` + flag("b") + `}}`,
		`{"flags": {"f": 3, "f": ` + flag("b") + `}}`,
	} {
		d := parse(t, content)
		mustBe(t, content, choose(served(t, d, "f"), env("", nil)), "b")
		if len(d.Warnings) == 0 {
			t.Errorf("no warning for %s", content)
		}
	}
	many := `{"flags": {"f": {"state": "ENABLED", "variants": {`
	for i := range 40 {
		many += fmt.Sprintf(`"v%d": %d, `, i%20, i)
	}
	d := parse(t, many+`"w": 1}}}}`)
	mustBe(t, "the variants", len(served(t, d, "f").Names()), 21)
	mustBe(t, "the seventh", d.Flags["f"].Variant("v7").Number, 27)
	mustBe(t, "the last", d.Flags["f"].Variant("v19").Number, 39)
	mustBe(t, "the warnings", len(d.Warnings), 20)
}

// There are never more than a thousand warnings; the last one counts the rest.
func TestWarningsAreBounded(t *testing.T) {
	var b strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&b, `,"f%d": {"state": "ON", "variants": {"a": 1}}`, i)
	}
	d := parse(t, `{"flags": {`+b.String()[1:]+`}}`)
	mustBe(t, "the warnings", len(d.Warnings), 1000)
	mustBe(t, "the last one", d.Warnings[999].Text, "there are 4001 more warnings")
}

// Lines count from 1, wherever the warning is.
func TestLines(t *testing.T) {
	d := parse(t, "{\n\n\"flags\": {\n\"f\": {\"variants\": {\"a\": 1},\r\n\"state\": \"x\",\n\"more\": 1}}}")
	lines := map[int]bool{}
	for _, w := range d.Warnings {
		lines[w.Line] = true
	}
	if len(d.Warnings) != 2 || !lines[5] || !lines[6] {
		t.Error(d.Warnings)
	}
}

// Faults are in the order of the file.
func TestFaultsAreInTheOrderOfTheFile(t *testing.T) {
	d := parse(t, `{"flags": {"c": 1, "a": 1, "b": 1}}`)
	mustBe(t, "the keys", fmt.Sprint(d.Faults[0].Key, d.Faults[1].Key, d.Faults[2].Key), "cab")
}
