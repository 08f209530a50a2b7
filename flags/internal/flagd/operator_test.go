package flagd_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/midair-go/midair/flags/internal/flagd"
)

var nan = math.NaN()

// data is what the rules below look at.
var data = attrs{
	"n": 2, "z": 0, "half": 0.5, "s": "abc", "e": "", "t": true, "words": []string{"x", "y"}, "nums": []any{1, 2, 3},
	"mixed": []any{1, "b", nil, true}, "void": []any{}, "ints": []int{4, 5}, "empty": attrs{}, "o": attrs{"k": "v", "": "nameless"},
	"items": []any{attrs{"name": "p", "qty": 1, "tags": []any{"u"}}, attrs{"name": "q", "qty": 2, "n": 9}}, "owner": "q", "ver": "1.2.3", "dots..d": 1,
	"pair": []any{1, 2}, "path": "o.k", "where": []any{"nowhere", "b"}, "num": "30", "deep": []any{[]any{"in"}},
}

// is is a rule that gives true if the expression gives the value.
func is(expression, value string) string {
	return `{"if":[{"===":[` + expression + `,` + value + `]},"true","false"]}`
}

// Each operator gives what it gives in flagd.
func TestResultsOfOperators(t *testing.T) {
	for _, c := range []struct{ expression, value string }{
		// arithmetic
		{`{"+":[1,2,3]}`, `6`},
		{`{"+":["3","1.5"]}`, `4.5`},
		{`{"+":["x",1]}`, `1`},
		{`{"+":"3"}`, `3`},
		{`{"+":[]}`, `0`},
		{`{"+":{"var":"nums"}}`, `6`},
		{`{"-":[5]}`, `-5`},
		{`{"-":[5,2,1]}`, `2`},
		{`{"-":[]}`, `0`},
		{`{"*":[2,3,4]}`, `24`},
		{`{"*":[]}`, `1`},
		{`{"/":[8,2,2]}`, `2`},
		{`{"/":[8]}`, `8`},
		{`{"%":[7,3]}`, `1`},
		{`{"%":[-7,3]}`, `-1`},
		{`{"%":[7.5,2]}`, `1.5`},
		{`{"%":{"var":"pair"}}`, `1`},
		{`{"max":[1,{"var":"n"},-3]}`, `2`},
		{`{"min":[1,{"var":"n"},"-3"]}`, `-3`},
		{`{"max":{"var":"nums"}}`, `3`},
		{`{"max":[]}`, `null`},
		{`{"<":[{"/":[1,0]},1]}`, `false`},
		{`{"!!":[{"%":[1,0]}]}`, `true`},
		// texts
		{`{"cat":["a",1,null,2.5]}`, `"a12.5"`},
		{`{"cat":[" a ","b "]}`, `"a b"`},
		{`{"cat":[" a "]}`, `" a "`},
		{`{"cat":" a "}`, `" a "`},
		{`{"cat":[]}`, `""`},
		{`{"cat":{"var":"words"}}`, `"xy"`},
		{`{"cat":[1e21,0.0000001]}`, `"10000000000000000000000.0000001"`},
		{`{"substr":["jsonlogic",4]}`, `"logic"`},
		{`{"substr":["jsonlogic",-5]}`, `"logic"`},
		{`{"substr":["jsonlogic",1,3]}`, `"son"`},
		{`{"substr":["jsonlogic",4,-2]}`, `"log"`},
		{`{"substr":["jsonlogic",-5,-2]}`, `"log"`},
		{`{"substr":["abc",3]}`, `""`},
		{`{"substr":["abc",4]}`, `"abc"`},
		{`{"substr":["abc",-4]}`, `"abc"`},
		{`{"substr":["abc",1.9,1e300]}`, `"bc"`},
		{`{"substr":["äöü",1,1]}`, `"ö"`},
		{`{"substr":[123,1]}`, `"23"`},
		{`{"substr":[null,0]}`, `""`},
		{`{"starts_with":[{"var":"s"},"ab"]}`, `true`},
		{`{"starts_with":[{"var":"s"},"b"]}`, `false`},
		{`{"starts_with":{"var":"words"}}`, `false`},
		{`{"ends_with":[{"var":"s"},""]}`, `true`},
		{`{"ends_with":["x",1]}`, `null`},
		{`{"starts_with":{"var":"s"}}`, `null`},
		// comparisons
		{`{"<=":[null,0]}`, `false`},
		{`{"<=":[null,null]}`, `true`},
		{`{">=":[null,0]}`, `false`},
		{`{">":[3,2,1]}`, `true`},
		{`{">=":[3,3,4]}`, `false`},
		{`{"<":[1,2,3,0]}`, `true`},
		{`{"<":[1]}`, `false`},
		{`{"!=":[1]}`, `true`},
		{`{"!==":[]}`, `true`},
		{`{"==":{"var":"pair"}}`, `false`},
		{`{"<":{"var":"nums"}}`, `true`},
		{`{"==":["1_0",10]}`, `false`},
		{`{"==":["+1.",1]}`, `true`},
		{`{"==":[".5e1",5]}`, `true`},
		{`{"==":["1e",1]}`, `false`},
		{`{"==":[".",0]}`, `false`},
		// in
		{`{"in":[2,{"var":"nums"}]}`, `true`},
		{`{"in":[5,[[1,3],[4,6]]]}`, `true`},
		{`{"in":[7,[[1,3],[4,6]]]}`, `false`},
		{`{"in":[0,["a","b"]]}`, `false`},
		{`{"in":[1,["1"]]}`, `true`},
		{`{"in":["1",[1]]}`, `false`},
		{`{"in":[3,[null,true]]}`, `false`},
		{`{"in":[true,{"var":"mixed"}]}`, `true`},
		{`{"in":["i",["a","b","c","d","e","f","g","h","i"]]}`, `true`},
		{`{"in":["z",["a","b","c","d","e","f","g","h","i"]]}`, `false`},
		{`{"in":[1,["a","b","c","d","e","f","g","h","1"]]}`, `true`},
		{`{"in":[null,["a","b","c","d","e","f","g","h","1"]]}`, `false`},
		{`{"in":[[1],[[1]]]}`, `false`},
		{`{"in":{"var":"words"}}`, `false`},
		{`{"in":["a"]}`, `false`},
		{`{"in":["a",{"var":"o"}]}`, `false`},
		// truth
		{`{"!!":[{"var":"empty"}]}`, `false`},
		{`{"!":{"var":"void"}}`, `true`},
		{`{"!":{"var":"words"}}`, `false`},
		{`{"!":[]}`, `true`},
		{`{"!!":[]}`, `false`},
		{`{"if":["x"]}`, `"x"`},
		{`{"and":[]}`, `null`},
		{`{"or":true}`, `true`},
		// var, missing
		{`{"var":"nums.1"}`, `2`},
		{`{"var":"ints.0"}`, `4`},
		{`{"var":"words.1"}`, `"y"`},
		{`{"var":"items.1.name"}`, `"q"`},
		{`{"var":"deep.0.0"}`, `"in"`},
		{`{"var":"items..1...name."}`, `"q"`},
		{`{"var":".s"}`, `"abc"`},
		{`{"var":"nums.3"}`, `null`},
		{`{"var":"nums.-1"}`, `null`},
		{`{"var":"nums.x"}`, `null`},
		{`{"var":"nums.99999999999999999999"}`, `null`},
		{`{"var":["nums.7","b"]}`, `"b"`},
		{`{"var":"dots..d"}`, `1`},
		{`{"var":{"var":"path"}}`, `"v"`},
		{`{"var":[{"cat":["o",".k"]},1]}`, `"v"`},
		{`{"var":{"var":"where"}}`, `"b"`},
		{`{"var":{"var":"missing"}}`, `{"var":"nothing"}`},
		{`{"!!":[{"var":""}]}`, `true`},
		{`{"!!":[{"var":[]}]}`, `true`},
		{`{"var":"$flagd.flagKey"}`, `"f"`},
		{`{"var":"$flagd.other"}`, `null`},
		{`{"!!":[{"var":"$flagd"}]}`, `true`},
		{`{"cat":[{"missing":["s","q","o.k","o.q",1]}]}`, `""`},
		{`{"cat":{"missing":["s","q","o.k","o.q"]}}`, `"qo.q"`},
		{`{"cat":{"missing":"q"}}`, `"q"`},
		{`{"cat":{"missing":[{"merge":["q","s","r"]}]}}`, `"qr"`},
		{`{"cat":{"missing_some":[1,["q","s","r"]]}}`, `""`},
		{`{"cat":{"missing_some":[2,["q","s","r"]]}}`, `"qr"`},
		{`{"!!":[{"missing":["e","z"]}]}`, `false`},
		// lists
		{`{"cat":{"merge":["a",["b","c"],null,[["d"]]]}}`, `""`},
		{`{"cat":{"merge":["a",["b","c"],null]}}`, `"abc"`},
		{`{"cat":{"merge":"a"}}`, `"a"`},
		{`{"cat":{"map":[{"var":"nums"},{"*":[{"var":""},2]}]}}`, `"246"`},
		{`{"cat":{"map":[{"var":"items"},{"var":"name"}]}}`, `"pq"`},
		{`{"cat":{"map":[{"var":"missing"},1]}}`, `""`},
		{`{"cat":{"map":[[{"var":"n"},3],{"var":""}]}}`, `"23"`},
		{`{"cat":{"map":[{"var":"items"},{"var":["owner","none"]}]}}`, `"nonenone"`},
		{`{"cat":{"filter":[{"var":"nums"},{">":[{"var":""},1]}]}}`, `"23"`},
		{`{"cat":{"map":[{"filter":[{"var":"items"},{"==":[{"var":"name"},{"var":"owner"}]}]},{"var":"qty"}]}}`, `"2"`},
		{`{"cat":{"filter":[{"var":"mixed"},{"!":[{"!":[{"var":""}]}]}]}}`, `""`},
		{`{"all":[{"var":"nums"},{">":[{"var":""},0]}]}`, `true`},
		{`{"all":[{"var":"nums"},{">":[{"var":""},1]}]}`, `false`},
		{`{"all":[{"var":"void"},true]}`, `false`},
		{`{"all":[{"var":"missing"},true]}`, `false`},
		{`{"all":[{"var":"items"},{"==":[{"var":"owner"},"q"]}]}`, `false`},
		{`{"none":[{"var":"nums"},{">":[{"var":""},3]}]}`, `true`},
		{`{"none":[{"var":"nums"},{">":[{"var":""},2]}]}`, `false`},
		{`{"none":[{"var":"void"},true]}`, `true`},
		{`{"none":[{"var":"e"},true]}`, `true`},
		{`{"some":[{"var":"nums"},{">":[{"var":""},2]}]}`, `true`},
		{`{"some":[{"var":"void"},true]}`, `false`},
		{`{"some":[{"var":"items"},{"in":["u",{"var":"tags"}]}]}`, `true`},
		{`{"some":[{"var":"items"},{"some":[{"var":"tags"},{"==":[{"var":""},"u"]}]}]}`, `true`},
		{`{"some":[{"var":"items"},{"some":[{"var":"tags"},{"==":[{"var":"name"},"p"]}]}]}`, `true`},
		{`{"some":[{"var":"items"},{"==":[{"var":"n"},2]}]}`, `true`},
		{`{"some":[{"var":"items"},{"==":[{"var":"n"},9]}]}`, `true`},
		{`{"some":[{"var":"items"},{"missing":["owner"]}]}`, `true`},
		{`{"some":["x",true]}`, `false`},
		{`{"reduce":[{"var":"nums"},{"+":[{"var":"current"},{"var":"accumulator"}]},10]}`, `16`},
		{`{"reduce":[{"var":"items"},{"+":[{"var":"current.qty"},{"var":"accumulator"}]},0]}`, `3`},
		{`{"reduce":[{"var":"words"},{"cat":[{"var":"accumulator"},{"var":"current"}]},"-"]}`, `"-xy"`},
		{`{"reduce":[{"var":"mixed"},{"+":[{"var":"accumulator"},1]},0]}`, `3`},
		{`{"reduce":[{"var":"nums"},{"==":[{"var":"current"},3]},false]}`, `true`},
		{`{"reduce":[{"var":"missing"},1,7]}`, `0`},
		{`{"reduce":[{"var":"void"},1,7]}`, `7`},
		{`{"reduce":[{"var":"nums"},{"cat":[{"var":"valueType"},{"var":""},{"var":"n"}]},"x"]}`, `"string"`},
		{`{"map":[{"var":"nums"},1],"x":1}`, `0`},
	} {
		want := "true"
		if c.value == "0" && strings.Contains(c.expression, `"x":1`) || strings.Contains(c.expression, `[["d"]]`) {
			want = "false"
		}
		if strings.HasPrefix(c.expression, `{"cat":[{"missing"`) || strings.Contains(c.expression, `[["d"]]`) || strings.Contains(c.expression, `"filter":[{"var":"mixed"}`) {
			want = "error"
		}
		mustBe(t, c.expression, result(t, is(c.expression, c.value), env("u", data)), want)
	}
}

// An evaluation that cannot go on is an error that says what is in the way, wherever it happens.
func TestEvaluationsThatFail(t *testing.T) {
	for _, c := range []struct{ expression, want string }{
		{`{"+":[1,null]}`, `+: cannot calculate with a value of type null`},
		{`{"-":[{"var":"t"}]}`, `-: cannot calculate with a value of type boolean`},
		{`{"%":[1,{"var":"nums"}]}`, `%: cannot calculate with a value of type list`},
		{`{"%":[1]}`, `"%" takes 2 arguments, not 1`},
		{`{"%":{"var":"void"}}`, `% takes 2 arguments, not 0`},
		{`{"max":[{"var":"nums"}]}`, `max: cannot calculate with a value of type list`},
		{`{"cat":["a",true]}`, `cat: cannot make a text of a value of type boolean`},
		{`{"substr":[true,1]}`, `substr: cannot make a text of a value of type boolean`},
		{`{"substr":["abc",null]}`, `substr: cannot calculate with a value of type null`},
		{`{"substr":["abc",1,null]}`, `substr: cannot calculate`},
		{`{"substr":["abc",2,-2]}`, `the end is before the beginning`},
		{`{"substr":{"var":"void"}}`, `substr takes 2 or 3 arguments, not 0`},
		{`{"in":[1,"abc"]}`, `in: looks for a number in a string`},
		{`{"in":{"var":"void"}}`, `in takes 2 arguments`},
		{`{"map":[{"var":"s"},1]}`, `map: goes through a list, not through a value of type string`},
		{`{"some":[{"var":"n"},1]}`, `some: goes through a list`},
		{`{"reduce":[{"var":"nums"},1,null]}`, `the initial value is a null`},
		{`{"reduce":[{"var":"nums"},{"var":"t"},0]}`, `reduce: cannot calculate with a value of type null`},
		{`{"reduce":[{"var":"nums"},true,"x"]}`, `reduce: cannot make a text`},
		{`{"filter":[{"var":"nums"},{"+":[{"var":""},null]}]}`, `+: cannot`},
		{`{"missing":[true]}`, `missing: a name is a boolean`},
		{`{"missing_some":[1,"s"]}`, `missing_some takes a number and a list`},
		{`{"missing_some":[null,["s"]]}`, `missing_some: cannot calculate`},
		{`{"var":{"var":"t"}}`, `var: the name is a boolean`},
		{`{"var":"nan"}`, `an attribute is NaN`},
		{`{"var":"fn"}`, `an attribute cannot be written as JSON`},
		{`{"var":"fns.0"}`, `an attribute cannot be written as JSON`},
	} {
		a := attrs{"nan": nan, "fn": func() {}, "fns": []any{func() {}}}
		for k, v := range data {
			a[k] = v
		}
		for _, around := range []string{`%s`, `{"if":[%s,"a"]}`, `{"or":[%s,"a"]}`, `{"==":[1,%s]}`, `{"<":[1,2,%s]}`, `{"!":[%s]}`, `{"cat":["a",%s]}`, `{"in":["a",[%s]]}`,
			`{"starts_with":["a",%s]}`, `{"sem_ver":[%s,"=","1"]}`, `{"sem_ver":["1",{"var":"s"},%s]}`, `{"fractional":[%s,["a",1]]}`, `{"fractional":[["a",%s]]}`,
			`{"fractional":[["a",1],[%s,1]]}`, `{"var":[%s,1]}`, `{"var":["missing",%s]}`, `{"merge":[%s]}`, `{"max":[1,%s]}`, `{"map":[%s,1]}`, `{"reduce":[{"var":"nums"},1,%s]}`,
			`{"all":[[1],{"!!":[%s]}]}`, `{"fractional":{"merge":[%s]}}`, `{"missing":[%s]}`} {
			if strings.Contains(around, "all") && strings.Contains(c.expression, "var") {
				continue // names mean something else in the body
			}
			r := fmt.Sprintf(around, c.expression)
			_, err := served(t, parse(t, rule(r)), "f").Target(env("u", a))
			if !errors.Is(err, flagd.ErrRule) {
				t.Errorf("%s: %v", r, err)
				continue
			}
			mustHold(t, err.Error(), c.want)
		}
	}
}

// A result that is no variant, and one that is no number, are errors of two kinds.
func TestResultsThatAreNoVariant(t *testing.T) {
	for r, want := range map[string]error{
		`{"cat":["x","y"]}`: flagd.ErrChoice, `{"merge":["a"]}`: flagd.ErrChoice, `{"var":"o"}`: flagd.ErrChoice,
		`{"+":[1,2]}`: flagd.ErrChoice, `{"/":[1,0]}`: flagd.ErrRule, `{"%":[1,0]}`: flagd.ErrRule, `{"+":[1,1]}`: nil, `["a"]`: flagd.ErrChoice,
	} {
		_, err := served(t, parse(t, rule(r)), "f").Target(env("u", data))
		if !errors.Is(err, want) {
			t.Errorf("%s: %v", r, err)
		}
	}
}

// Numbers name variants as encoding/json writes them.
func TestNumbersNameVariants(t *testing.T) {
	const file = `{"flags": {"f": {"state": "ENABLED", "variants": {"0.0000012": 1, "1e-7": 2, "1e+21": 3, "-1.5": 4, "<a&b>\\": 5}, "targeting": {"var": "x"}}}}`
	f := served(t, parse(t, file), "f")
	for name, x := range map[string]any{"0.0000012": 1.2e-6, "1e-7": 1e-7, "1e+21": 1e21, "-1.5": -1.5, `<a&b>\`: `<a&b>\`} {
		mustBe(t, name, choose(f, env("", attrs{"x": x})), name)
	}
}

// Inside of a loop that sees the outside, every loop does, as in flagd: in filter, none and some. A loop that does not, alone, sees
// its elements only.
func TestNamesInLoopsInLoops(t *testing.T) {
	for rule, want := range map[string]string{
		`{"filter":[{"var":"items"},{"all":[{"var":"tags"},{"var":"owner"}]}]}`: "on",
		`{"some":[{"var":"items"},{"all":[{"var":"tags"},{"var":"owner"}]}]}`:   "on",
		`{"some":[{"var":"items"},{"all":[{"var":"tags"},{"var":"qty"}]}]}`:     "off", // not those of the element of the outer loop
		`{"all":[{"var":"items"},{"var":"owner"}]}`:                             "off",
	} {
		d, err := flagd.Parse([]byte(`{"flags": {"f": {"state": "ENABLED", "variants": {"on": 1, "off": 2}, "defaultVariant": "off",
			"targeting": {"if": [`+rule+`, "on", "off"]}}}}`), flagd.Options{})
		if err != nil {
			t.Fatal(err)
		}
		v, err := d.Flags["f"].Target(flagd.Env{Flat: map[string]any{"owner": "ann",
			"items": []any{map[string]any{"qty": 1, "tags": []any{"x"}}}}})
		if err != nil || v == nil || v.Name != want {
			t.Errorf("%s: %v, %v, want %s", rule, v, err, want)
		}
	}
}
