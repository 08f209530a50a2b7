package flagd_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/flags/internal/flagd"
	"github.com/open-feature/go-sdk/openfeature"
)

type word string

type celsius float32

type stamp struct{}

func (stamp) MarshalText() ([]byte, error) { return []byte("s"), nil }

type mapped struct{}

func (mapped) MarshalJSON() ([]byte, error) { return []byte(`{"in": "side"}`), nil }

type broken struct{}

func (broken) MarshalJSON() ([]byte, error) { return nil, fmt.Errorf("broken") }

var attributes = attrs{
	"plan": "pro", "age": 30, "score": 2.5, "beta": true, "off": false, "empty": "", "zero": 0, "none": nil, "nan": math.NaN(),
	"list": []any{"x", 2, true, nil}, "words": []string{"x", "y"}, "void": []any{}, "ints": []int{1, 2},
	"user": map[string]any{"name": "jo", "deep": map[string]any{"er": 7}}, "a.b": "dotted", "a": map[string]any{"b": "path"},
	"canary.side": "spoofed", "word": word("pro"), "warm": celsius(30), "u8": uint8(30), "i64": int64(30), "num": "30", "pad": " 30 ",
	"hex": "0x1e", "inf": "inf", "e": "e", "exp": "3e1", "over": "1e999", "bool": json.RawMessage(`true`), "map": mapped{}, "bad": broken{}, "fn": func() {},
	"tagged": map[string]string{"in": "side"}, "stamp": stamp{},
}

// Every operator does what it does in JsonLogic. The answer is the variant that the rule names, or none for null.
func TestOperators(t *testing.T) {
	for _, c := range []struct{ rule, want string }{
		// ==, !=: with JavaScript's conversions
		{`{"==":[1,1]}`, "true"},
		{`{"==":[1,"1"]}`, "true"},
		{`{"==":["a","a"]}`, "true"},
		{`{"==":["a","b"]}`, "false"},
		{`{"==":[true,1]}`, "true"},
		{`{"==":[false,"0"]}`, "true"},
		{`{"==":["",0]}`, "true"},
		{`{"==":["a",0]}`, "false"},
		{`{"==":[null,null]}`, "true"},
		{`{"==":[null,0]}`, "false"},
		{`{"==":[null,false]}`, "false"},
		{`{"==":["1","1.0"]}`, "false"},
		{`{"==":[{"var":"plan"},"pro"]}`, "true"},
		{`{"==":[{"var":"age"},30]}`, "true"},
		{`{"==":[{"var":"missing"},null]}`, "true"},
		{`{"==":[[1],[1]]}`, "false"},
		{`{"==":[{"var":"nan"},{"var":"nan"}]}`, "error"},
		{`{"==":[{"var":"user"},{"var":"user"}]}`, "false"},
		{`{"!=":[1,2]}`, "true"},
		{`{"!=":[1,"1"]}`, "false"},
		{`{"!=":[null,null]}`, "false"},
		// ===, !==: of one type
		{`{"===":[1,1]}`, "true"},
		{`{"===":[1,"1"]}`, "false"},
		{`{"===":["a","a"]}`, "true"},
		{`{"===":[null,null]}`, "true"},
		{`{"===":[true,1]}`, "false"},
		{`{"===":[true,true]}`, "true"},
		{`{"!==":[1,"1"]}`, "true"},
		{`{"!==":[1,1]}`, "false"},
		// order: texts as texts, all else as numbers, null as 0
		{`{"<":[1,2]}`, "true"},
		{`{"<":[2,2]}`, "false"},
		{`{"<=":[2,2]}`, "true"},
		{`{">":[3,2]}`, "true"},
		{`{">":[2,2]}`, "false"},
		{`{">=":[2,2]}`, "true"},
		{`{">=":[1,2]}`, "false"},
		{`{"<":["a","b"]}`, "true"},
		{`{"<":["10","9"]}`, "true"},
		{`{"<":["10",9]}`, "false"},
		{`{"<":[null,1]}`, "true"},
		{`{"<":[{"var":"missing"},18]}`, "true"},
		{`{"<":["x",1]}`, "false"},
		{`{">":["x",1]}`, "false"},
		{`{"<":[{"var":"nan"},1]}`, "error"},
		{`{"<=":[[],1]}`, "false"},
		{`{"<":[1,2,3]}`, "true"},
		{`{"<":[1,3,3]}`, "false"},
		{`{"<":[3,2,9]}`, "false"},
		{`{"<=":[1,1,1]}`, "true"},
		{`{"<=":[18,{"var":"age"},30]}`, "true"},
		// and, or, !, !!: the operand that decides
		{`{"and":[true,"a"]}`, "a"},
		{`{"and":[true,false,"a"]}`, "false"},
		{`{"and":["a","b"]}`, "b"},
		{`{"and":[{"var":"missing"},"b"]}`, "none"},
		{`{"and":[true]}`, "true"},
		{`{"or":[false,"a"]}`, "a"},
		{`{"or":["a","b"]}`, "a"},
		{`{"or":[false,{"var":"missing"}]}`, "none"},
		{`{"or":[{"var":"empty"},{"var":"zero"},"c"]}`, "c"},
		{`{"or":["a"]}`, "a"},
		{`{"!":[true]}`, "false"},
		{`{"!":{"var":"missing"}}`, "true"},
		{`{"!":""}`, "true"},
		{`{"!!":["x"]}`, "true"},
		{`{"!!":[[]]}`, "false"},
		// if: pairs, and an else
		{`{"if":[true,"a","b"]}`, "a"},
		{`{"if":[false,"a","b"]}`, "b"},
		{`{"if":[false,"a"]}`, "none"},
		{`{"if":[false,"a",true,"b","c"]}`, "b"},
		{`{"if":[false,"a",false,"b","c"]}`, "c"},
		{`{"if":[false,"a",false,"b"]}`, "none"},
		{`{"if":[true,null,"b"]}`, "none"},
		{`{"if":[true,1]}`, "1"},
		{`{"if":[true,true]}`, "true"},
		{`{"if":[true,2.0]}`, "2"},
		{`{"if":[{"if":[true,false]},"a",{"if":[true,"b"]}]}`, "b"},
		// in: a part of a text, an element of a list
		{`{"in":["r",{"var":"plan"}]}`, "true"},
		{`{"in":["z",{"var":"plan"}]}`, "false"},
		{`{"in":[1,"1"]}`, "error"},
		{`{"in":["","x"]}`, "true"},
		{`{"in":[{"var":"plan"},["free","pro"]]}`, "true"},
		{`{"in":[{"var":"plan"},[]]}`, "false"},
		{`{"in":["30",[30]]}`, "false"},
		{`{"in":[30,[30]]}`, "true"},
		{`{"in":["x",{"var":"list"}]}`, "true"},
		{`{"in":[2,{"var":"list"}]}`, "true"},
		{`{"in":[null,{"var":"list"}]}`, "true"},
		{`{"in":["2",{"var":"list"}]}`, "false"},
		{`{"in":["y",{"var":"words"}]}`, "true"},
		{`{"in":[1,{"var":"words"}]}`, "false"},
		{`{"in":[2,{"var":"ints"}]}`, "true"},
		{`{"in":["x",{"var":"missing"}]}`, "false"},
		{`{"in":["a",["b",{"var":"e"},"a"]]}`, "true"},
		{`{"in":["e",["b",{"var":"e"}]]}`, "true"},
		{`{"in":["name",{"var":"user"}]}`, "false"},
		// cat
		{`{"cat":["tr","ue"]}`, "true"},
		{`{"cat":[1]}`, "1"},
		{`{"cat":[{"var":"missing"},"a"]}`, "a"},
		{`{"cat":["a",[]]}`, "error"},
		{`{"cat":[true,""]}`, "error"},
		// var: names, paths, defaults, what the evaluation knows
		{`{"var":"off"}`, "false"},
		{`{"var":["off"]}`, "false"},
		{`{"var":["missing","a"]}`, "a"},
		{`{"var":["none","a"]}`, "a"},
		{`{"var":["off","a"]}`, "false"},
		{`{"==":[{"var":"user.name"},"jo"]}`, "true"},
		{`{"==":[{"var":"user.deep.er"},7]}`, "true"},
		{`{"==":[{"var":"user.no.way"},null]}`, "true"},
		{`{"==":[{"var":"plan.no"},null]}`, "true"},
		{`{"==":[{"var":"a.b"},"dotted"]}`, "true"},
		{`{"==":[{"var":"targetingKey"},"u-1"]}`, "true"},
		{`{"==":[{"var":"$flagd.flagKey"},"f"]}`, "true"},
		{`{">":[{"var":"$flagd.timestamp"},1700000000]}`, "true"},
		// types of attributes
		{`{"==":[{"var":"word"},"pro"]}`, "true"},
		{`{"===":[{"var":"warm"},30]}`, "true"},
		{`{"===":[{"var":"u8"},30]}`, "true"},
		{`{"===":[{"var":"i64"},30]}`, "true"},
		{`{"==":[{"var":"num"},30]}`, "true"},
		{`{"==":[{"var":"pad"},30]}`, "false"},
		{`{"==":[{"var":"exp"},30]}`, "true"},
		{`{"==":[{"var":"hex"},30]}`, "false"},
		{`{">":[{"var":"inf"},1]}`, "false"},
		{`{"<":[{"var":"e"},1]}`, "false"},
		{`{">":[{"var":"over"},1]}`, "false"},
		{`{"===":[{"var":"bool"},true]}`, "true"},
		{`{"==":[{"var":"map.in"},"side"]}`, "true"},
		{`{"==":[{"var":"bad"},null]}`, "error"},
		{`{"==":[{"var":"fn"},null]}`, "error"},
		{`{"==":[{"var":"tagged.in"},"side"]}`, "true"},
		{`{"==":[{"var":"stamp"},"s"]}`, "true"},
	} {
		if got := result(t, c.rule, env("u-1", attributes)); got != c.want {
			t.Errorf("%s gives %s, want %s", c.rule, got, c.want)
		}
	}
}

// Everything is true but null, false, 0, the empty text, the empty list and the empty object.
func TestTruthiness(t *testing.T) {
	for name, want := range map[string]string{
		"plan": "a", "age": "a", "score": "a", "beta": "a", "list": "a", "words": "a", "user": "a", "num": "a",
		"off": "b", "empty": "b", "zero": "b", "none": "b", "missing": "b", "nan": "error", "void": "b",
	} {
		mustBe(t, name, result(t, fmt.Sprintf(`{"if":[{"var":%q},"a","b"]}`, name), env("", attributes)), want)
	}
	for literal, want := range map[string]string{`"0"`: "a", `[0]`: "a", `[]`: "b", `""`: "b", `0.0`: "b", `-1`: "a", `[{"var":"x"}]`: "a"} {
		mustBe(t, literal, result(t, `{"if":[`+literal+`,"a","b"]}`, env("", nil)), want)
	}
}

// A part of $evaluators stands for itself wherever it is used, also inside another.
func TestReferencesAreExpanded(t *testing.T) {
	d := parse(t, `{"$evaluators": {"staff": {"in": ["@corp", {"var": "mail"}]}, "pick": {"if": [{"$ref": "staff"}, "a", "b"]}},
		"flags": {"f": {"state": "ENABLED", "variants": {"a": 1, "b": 2}, "targeting": {"$ref": "pick"}}}}`)
	mustBe(t, "staff", choose(served(t, d, "f"), env("", attrs{"mail": "x@corp"})), "a")
	mustBe(t, "others", choose(served(t, d, "f"), env("", attrs{"mail": "x@other"})), "b")
}

// The timestamp is the time of the evaluation, so a rule can switch at a moment.
func TestTimestampIsNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := served(t, parse(t, rule(`{"if":[{">=":[{"var":"$flagd.timestamp"},946684860]},"a","b"]}`)), "f") // a minute into 2000
		mustBe(t, "before", choose(f, env("", nil)), "b")
		time.Sleep(time.Minute)
		mustBe(t, "after", choose(f, env("", nil)), "a")
	})
}

// Evaluations that share a time see the time of the first one, in each way to ask for it.
func TestTimestampOfARequest(t *testing.T) {
	for _, timestamp := range []string{`{"var":"$flagd.timestamp"}`, `{"reduce":[[{"var":"$flagd"}],{"var":"current.timestamp"},0]}`,
		`{"reduce":[[{"var":""}],{"var":"current.$flagd.timestamp"},0]}`} {
		synctest.Test(t, func(t *testing.T) {
			f := served(t, parse(t, rule(`{"if":[{"<":[`+timestamp+`,946684860]},"a","b"]}`)), "f") // a minute into 2000
			request, late := env("", nil), env("", nil)
			request.Second, late.Second = new(atomic.Int64), new(atomic.Int64)
			mustBe(t, "before", choose(f, request), "a")
			time.Sleep(time.Minute)
			mustBe(t, "later in the same request", choose(f, request), "a")
			mustBe(t, "in another request", choose(f, late), "b")
			mustBe(t, "without a request", choose(f, env("", nil)), "b")
		})
	}
}

// What the program knows about a request outranks what callers say, unless it does not know.
func TestAttributesOfTheProgramOutrankCallers(t *testing.T) {
	type side struct{}
	d := parseWith(t, rule(`{"if":[{"==":[{"var":"canary.side"},"canary"]},"a",{"==":[{"var":"canary.side"},"spoofed"]},"b","c"]}`),
		flagd.Options{Attributes: map[string]func(context.Context) string{
			"canary.side": func(ctx context.Context) string { s, _ := ctx.Value(side{}).(string); return s },
		}})
	f, spoofed := served(t, d, "f"), env("", attributes)
	onCanary := context.WithValue(context.Background(), side{}, "canary")
	mustBe(t, "the canary", choose(f, flagd.Env{Ctx: onCanary, EC: spoofed.EC}), "a")
	mustBe(t, "the canary through the SDK", choose(f, flagd.Env{Ctx: onCanary, Flat: openfeature.FlattenedContext(attributes)}), "a")
	mustBe(t, "outside of a request", choose(f, spoofed), "b")
	mustBe(t, "nobody", choose(f, env("", nil)), "c")
}

// A rule that is deep is evaluated; one that is too deep, too large or grows without end is refused in no time.
func TestRulesAreBounded(t *testing.T) {
	nest := func(n int) string { return strings.Repeat(`{"!":[`, n) + "1" + strings.Repeat(`]}`, n) }
	served(t, parse(t, rule(nest(40))), "f")
	mustFail := func(content, part string) {
		t.Helper()
		d := parse(t, content)
		if len(d.Faults) != 1 {
			t.Fatalf("taken: %.80s", content)
		}
		mustHold(t, d.Faults[0].Text, part)
	}
	mustFail(rule(nest(200)), "inside one another")
	mustFail(rule(nest(4000)), "inside one another")
	mustFail(rule(strings.Repeat(`[`, 4000)+strings.Repeat(`]`, 4000)), "inside one another")
	var doubling strings.Builder
	for i := range 40 {
		fmt.Fprintf(&doubling, `"e%d": {"and": [{"$ref": "e%d"}, {"$ref": "e%d"}]},`, i, i+1, i+1)
	}
	mustFail(`{"$evaluators": {`+doubling.String()+`"e40": true}, `+rule(`{"$ref": "e0"}`)[1:], "expressions")
	mustFail(`{"$evaluators": {"x": {"!": {"$ref": "y"}}, "y": {"$ref": "x"}}, `+rule(`{"$ref": "x"}`)[1:], "circle: x → y → x")
}
