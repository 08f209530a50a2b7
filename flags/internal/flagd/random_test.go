package flagd_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

var rules = flag.Int("midair.rules", 3000, "how many random rules are compared with an interpreter")

// random writes rules whose types are right, but for one in mix arguments.
type random struct {
	*rand.Rand
	mix int // 0: never
}

// maker writes an expression of a type, with some levels inside.
type maker func(levels int) string

func (r random) of(from ...string) string { return from[r.IntN(len(from))] }

func (r random) one(from ...maker) maker { return from[r.IntN(len(from))] }

func (r random) args(levels, least, most int, m maker) string {
	args := make([]string, least+r.IntN(most-least+1))
	for i := range args {
		args[i] = r.arg(levels, m)
	}
	return strings.Join(args, ",")
}

func (r random) arg(levels int, m maker) string {
	if r.mix > 0 && r.IntN(r.mix) == 0 {
		m = r.one(r.number, r.text, r.truth, r.numbers, r.texts, r.null, r.choice)
	}
	return m(levels - 1)
}

func (r random) call(op, args string) string { return `{"` + op + `":[` + args + `]}` }

func (r random) null(int) string { return r.of(`null`, `{"var":"missing"}`, `{"var":"o.x"}`) }

func (r random) number(levels int) string {
	if levels <= 0 || r.IntN(3) == 0 {
		return r.of(`0`, `1`, `2`, `-1.5`, `100`, `{"var":"n"}`, `{"var":"o.n"}`, `{"var":["missing",3]}`, `{"var":"ns.1"}`, `{"var":"items.0.qty"}`)
	}
	switch r.IntN(7) {
	case 0:
		return r.call("%", r.args(levels, 2, 2, r.number))
	case 1:
		return r.call(r.of("max", "min"), r.args(levels, 1, 3, r.number))
	case 2:
		body := r.call(r.of("+", "*", "-", "max"), `{"var":"current"},{"var":"accumulator"}`)
		return r.call("reduce", r.arg(levels, r.numbers)+","+body+","+r.number(0))
	case 3:
		return r.call("if", r.arg(levels, r.truth)+","+r.args(levels, 2, 2, r.number))
	}
	return r.call(r.of("+", "-", "*", "/"), r.args(levels, 1, 3, r.number))
}

func (r random) text(levels int) string {
	if levels <= 0 || r.IntN(3) == 0 {
		return r.of(`""`, `"a"`, `"abc"`, `" x "`, `"12"`, `"é"`, `{"var":"s"}`, `{"var":"o.s"}`, `{"var":"ss.0"}`, `{"var":["missing","a"]}`, `{"var":"items.1.name"}`)
	}
	switch r.IntN(4) {
	case 0:
		return r.call("cat", r.args(levels, 1, 3, r.one(r.text, r.number)))
	case 1:
		return r.call("substr", r.arg(levels, r.text)+","+r.of(`0`, `1`, `-2`, `5`, `1,2`, `0,-1`, `-3,2`, `1.7,1`))
	case 2:
		return r.call("if", r.arg(levels, r.truth)+","+r.args(levels, 2, 2, r.text))
	}
	return r.call("reduce", r.arg(levels, r.texts)+`,{"cat":[{"var":"accumulator"},{"var":"current"}]},`+r.text(0))
}

func (r random) numbers(levels int) string {
	if levels <= 0 || r.IntN(2) == 0 {
		return r.of(`{"var":"ns"}`, `[1,2,3]`, `[]`, `{"map":[{"var":"items"},{"var":"qty"}]}`)
	}
	switch r.IntN(3) {
	case 0:
		return r.call("map", r.arg(levels, r.numbers)+","+r.call(r.of("+", "*"), `{"var":""},`+r.of(`1`, `2`)))
	case 1:
		return r.call("filter", r.arg(levels, r.numbers)+","+r.call(r.of("<", ">", "=="), `{"var":""},`+r.of(`1`, `2`, `{"var":"n"}`)))
	}
	return r.call("merge", r.arg(levels, r.numbers)+","+r.arg(levels, r.number))
}

func (r random) texts(levels int) string {
	if levels <= 0 || r.IntN(2) == 0 {
		return r.of(`{"var":"ss"}`, `["a","b"]`, `["a","b","c","d","e","f","g","h","abc"]`, `{"map":[{"var":"items"},{"var":"name"}]}`)
	}
	switch r.IntN(3) {
	case 0:
		return r.call("missing", r.of(`"s"`, `"x"`)+","+r.of(`"o.s"`, `"o.x"`, `"ns.9"`))
	case 1:
		return r.call("missing_some", r.of(`0`, `1`, `2`)+","+r.of(`["s","x","o.x"]`, `["n","s"]`))
	}
	return r.call("merge", r.arg(levels, r.texts)+","+r.arg(levels, r.text))
}

func (r random) truth(levels int) string {
	if levels <= 0 || r.IntN(5) == 0 {
		return r.of(`true`, `false`, `{"var":"b"}`)
	}
	switch r.IntN(10) {
	case 0:
		return r.call(r.of("==", "!=", "===", "!=="), r.args(levels, 2, 2, r.one(r.number, r.text, r.truth)))
	case 1:
		return r.call(r.of("<", "<=", ">", ">="), r.args(levels, 2, 3, r.one(r.number, r.text)))
	case 2:
		return r.call("in", r.arg(levels, r.text)+","+r.arg(levels, r.one(r.text, r.texts)))
	case 3:
		return r.call("in", r.arg(levels, r.number)+","+r.arg(levels, r.numbers))
	case 4:
		return r.call(r.of("!", "!!"), r.arg(levels, r.one(r.truth, r.number, r.text, r.texts)))
	case 5:
		return r.call(r.of("and", "or"), r.args(levels, 1, 3, r.truth))
	case 6:
		return r.call(r.of("starts_with", "ends_with"), r.args(levels, 2, 2, r.text))
	case 7:
		return r.call("sem_ver", r.of(`{"var":"v"}`, `"1.2.3"`, `1.2`, r.arg(levels, r.text))+","+r.of(`"="`, `"!="`, `"<"`, `"<="`, `">"`, `">="`, `"^"`, `"~"`)+
			","+r.of(`"1.2.3"`, `"v1"`, `"1.2.4-a"`, `"2.0.0+b"`, `{"var":"v"}`))
	case 8:
		return r.call(r.of("all", "none", "some"), r.arg(levels, r.numbers)+","+r.call(r.of("<", ">", "==="), `{"var":""},`+r.of(`1`, `2`, `3`)))
	}
	body := r.of(`{">":[{"var":"qty"},1]}`, `{"==":[{"var":"name"},{"var":"s"}]}`, `{"some":[{"var":"tags"},{"==":[{"var":""},{"var":"name"}]}]}`, `{"in":["p",{"var":"tags"}]}`)
	return r.call(r.of("all", "none", "some"), `{"var":"items"},`+body)
}

func (r random) choice(levels int) string {
	if levels <= 0 || r.IntN(4) == 0 {
		return r.of(`"a"`, `"b"`, `"c"`, `true`, `false`, `null`, `1`, `2`)
	}
	switch r.IntN(6) {
	case 0:
		return r.call(r.of("and", "or"), r.args(levels, 1, 3, r.one(r.truth, r.choice)))
	case 1:
		return r.truth(levels)
	case 2, 3:
		return r.call("fractional", r.of("", r.arg(levels, r.text)+",", "null,", `{"var":"missing"},`)+r.shares(levels))
	}
	return r.call("if", r.arg(levels, r.truth)+","+r.args(levels, 2, 2, r.choice))
}

func (r random) shares(levels int) string {
	shares := make([]string, 1+r.IntN(3))
	for i := range shares {
		weight := r.of(``, `,1`, `,50`, `,0`, `,-3`, `,1.5`, `,2147483000`, `,null`, ","+r.arg(levels-1, r.number))
		shares[i] = "[" + r.arg(1, r.choice) + weight + "]"
	}
	return strings.Join(shares, ",")
}

// caller writes the attributes of a caller.
func (r random) caller() attrs {
	a := attrs{
		"n": []any{0.0, 1.0, 10.5}[r.IntN(3)], "s": r.of("a", "abc", "", " x "), "b": r.IntN(2) == 0, "ns": []any{1.0, 2.0, 3.0}, "ss": []any{"a", "b"},
		"o": map[string]any{"n": 2.0, "s": "b"}, "v": r.of("1.2.3", "1.2.3-a", "2.0.0", "none"),
		"items": []any{map[string]any{"name": "p", "qty": 1.0, "tags": []any{"p"}}, map[string]any{"name": "a", "qty": 2.0, "tags": []any{}}},
	}
	return a
}

// Compiled rules give what interpreting them gives, for rules and contexts of all kinds.
func TestCompiledAgreesWithInterpreted(t *testing.T) {
	for name, mix := range map[string]int{"proper": 0, "mixed": 8} {
		t.Run(name, func(t *testing.T) {
			r, outcomes := random{rand.New(rand.NewPCG(3, 5)), mix}, map[string]int{}
			for range *rules {
				targeting := r.choice(5)
				var parsed any
				if err := json.Unmarshal([]byte(targeting), &parsed); err != nil {
					t.Fatalf("%s: %v", targeting, err)
				}
				f := served(t, parse(t, rule(targeting)), "f")
				if !f.Targeted() {
					continue
				}
				for range 3 {
					key, a := r.of("", "u1", "u2", "someone@example.org"), r.caller()
					want := oracle{flag: "f", key: key, data: map[string]any(a)}.ask(parsed, "|a|b|c|true|false|1|2|none|")
					if got := choose(f, env(key, a)); got != want {
						t.Fatalf("%s\nfor %q %v: %s, want %s", targeting, key, a, got, want)
					}
					outcomes[want]++
				}
			}
			t.Log(outcomes)
			for _, variant := range []string{"a", "b", "c", "none", "true", "false", "error"} {
				if outcomes[variant] < *rules/200 && (variant != "error" || mix > 0) {
					t.Errorf("too few of %s: %v", variant, outcomes)
				}
			}
		})
	}
}

// A share gets its part of the users, within what chance allows.
func TestFractionalSharesHaveTheirSize(t *testing.T) {
	const users = 20_000
	f := served(t, parse(t, split("f", `[["a",1],["b",9],["c",40],["d",50]]`, "a", "b", "c", "d")), "f")
	counts := map[string]float64{}
	for i := range users {
		counts[choose(f, keyed(fmt.Sprint("visitor-", i)))]++
	}
	for variant, share := range map[string]float64{"a": .01, "b": .09, "c": .4, "d": .5} {
		if off := counts[variant]/users - share; off*off > 16*share*(1-share)/users { // four standard deviations
			t.Errorf("%s has %v of %d users", variant, counts[variant], users)
		}
	}
}

// Two flags cut the same users independently of one another: the flag's key is part of the hash.
func TestFlagsSplitIndependently(t *testing.T) {
	const users = 20_000
	one := served(t, parse(t, split("one", `[["a",1],["b",1]]`, "a", "b")), "one")
	two := served(t, parse(t, split("two", `[["a",1],["b",1]]`, "a", "b")), "two")
	both := 0.0
	for i := range users {
		if e := keyed(fmt.Sprint(i)); choose(one, e) == "a" && choose(two, e) == "a" {
			both++
		}
	}
	if part := both / users; part < .235 || part > .265 {
		t.Errorf("%v of the users are in both halves", part)
	}
}
