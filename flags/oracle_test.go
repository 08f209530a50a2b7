package flags_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/midair-go/midair/flags"
)

// oracle interprets a rule from its JSON, as the text of JsonLogic says it, with nothing compiled. It shares no code
// with the package.
type oracle struct {
	key   string
	attrs map[string]any
}

func (o oracle) eval(x any) any {
	switch x := x.(type) {
	case []any:
		list := make([]any, len(x))
		for i := range x {
			list[i] = o.eval(x[i])
		}
		return list
	case map[string]any:
		for op, arg := range x {
			args, ok := arg.([]any)
			if !ok {
				args = []any{arg}
			}
			return o.apply(op, args)
		}
	}
	return x
}

func (o oracle) apply(op string, args []any) any {
	arg := func(i int) any { return o.eval(args[i]) }
	switch op {
	case "var":
		return o.variable(args)
	case "if":
		for i := 0; i+1 < len(args); i += 2 {
			if yes(arg(i)) {
				return arg(i + 1)
			}
		}
		if len(args)%2 == 1 {
			return arg(len(args) - 1)
		}
		return nil
	case "and", "or":
		for i := range args[1:] {
			if x := arg(i); yes(x) == (op == "or") {
				return x
			}
		}
		return arg(len(args) - 1)
	case "!":
		return !yes(arg(0))
	case "!!":
		return yes(arg(0))
	case "cat":
		var all string
		for i := range args {
			all += spell(arg(i))
		}
		return all
	case "fractional":
		return o.split(args)
	}
	return relate(op, arg(0), arg(1))
}

func (o oracle) variable(args []any) any {
	var found any
	switch name := args[0].(string); {
	case name == "targetingKey":
		if o.key != "" {
			found = o.key
		}
	case strings.Contains(name, "."):
		head, tail, _ := strings.Cut(name, ".")
		m, _ := o.attrs[head].(map[string]any)
		found = m[tail]
	default:
		found = o.attrs[name]
	}
	if found == nil && len(args) == 2 {
		return o.eval(args[1])
	}
	return found
}

// split goes through the shares from the end, with the hash of the whole text.
func (o oracle) split(shares []any) any {
	if o.key == "" {
		return nil
	}
	var total uint64
	for _, s := range shares {
		total += uint64(s.([]any)[1].(float64))
	}
	point := uint64(flags.Murmur("f"+o.key)) * total / (1 << 32)
	for i := len(shares) - 1; ; i-- {
		total -= uint64(shares[i].([]any)[1].(float64))
		if point >= total {
			return o.eval(shares[i].([]any)[0])
		}
	}
}

func relate(op string, a, b any) any {
	x, y := calc(a), calc(b)
	s, isText := a.(string)
	t, areTexts := b.(string)
	areTexts = areTexts && isText
	equal := x == y
	if areTexts {
		equal = s == t
	}
	if a == nil || b == nil {
		equal = a == nil && b == nil
	}
	sameType := fmt.Sprintf("%T", normal(a)) == fmt.Sprintf("%T", normal(b))
	switch op {
	case "==":
		return equal
	case "!=":
		return !equal
	case "===":
		return equal && sameType
	case "!==":
		return !(equal && sameType)
	case "in":
		if list, ok := b.([]any); ok {
			for _, e := range list {
				if relate("===", e, a).(bool) {
					return true
				}
			}
			return false
		}
		return areTexts && strings.Contains(t, s)
	}
	if areTexts {
		x, y = float64(strings.Compare(s, t)), 0
	}
	return map[string]bool{"<": x < y, "<=": x <= y, ">": x > y, ">=": x >= y}[op]
}

// normal makes all numbers float64.
func normal(x any) any {
	switch n := x.(type) {
	case int:
		return float64(n)
	case uint8:
		return float64(n)
	}
	return x
}

func yes(x any) bool {
	switch x := normal(x).(type) {
	case nil:
		return false
	case bool:
		return x
	case float64:
		return x != 0
	case string:
		return x != ""
	case []any:
		return len(x) > 0
	}
	return true
}

func calc(x any) float64 {
	switch x := normal(x).(type) {
	case nil:
		return 0
	case float64:
		return x
	case bool:
		return map[bool]float64{true: 1}[x]
	case string:
		if strings.TrimSpace(x) == "" {
			return 0
		}
		if n, err := strconv.ParseFloat(x, 64); err == nil {
			return n
		}
	}
	return math.NaN()
}

func spell(x any) string {
	switch x := normal(x).(type) {
	case string:
		return x
	case bool, float64:
		return fmt.Sprint(x)
	}
	return ""
}

// variant is what the oracle's answer means for the flag of rule, and "default" if it means nothing.
func (o oracle) variant(x any) string {
	name := spell(x)
	if x == nil {
		return "none"
	}
	if _, isList := x.([]any); isList || !strings.Contains(" a b c true false 1 2 none ", " "+name+" ") {
		return "default"
	}
	return name
}

// Compiled rules give what interpreting them gives, for rules and contexts of all kinds.
func TestCompiledAgreesWithInterpreted(t *testing.T) {
	r := random{rand.New(rand.NewPCG(3, 5))}
	f, path := served(t, rule(`{}`), flags.Options{})
	outcomes := map[string]int{}
	for range 1500 {
		targeting := r.result(3)
		if r.IntN(3) == 0 {
			targeting = fmt.Sprintf(`{"cat":[%s]}`, r.expression(4))
		}
		var parsed any
		check(t, json.Unmarshal([]byte(targeting), &parsed))
		if _, ok := parsed.(map[string]any); !ok {
			continue
		}
		write(t, path, rule(targeting))
		f.Check()
		if s := f.Status(); s.Error != "" {
			t.Fatalf("%s: %s", targeting, s.Error)
		}
		for range 4 {
			key, attrs := r.context()
			if words, ok := attrs["l"].([]string); ok {
				attrs["l"] = []any{words[0]}
			}
			o := oracle{key, attrs}
			want := o.variant(o.eval(parsed))
			got := f.String(flags.With(t.Context(), key, attrs), "f", "default")
			if got != want {
				t.Fatalf("%s\nfor %q %v: %s, want %s", targeting, key, attrs, got, want)
			}
			outcomes[want]++
		}
	}
	for _, variant := range []string{"a", "b", "c", "none", "true", "false", "default"} {
		if outcomes[variant] < 10 {
			t.Errorf("too few of %s: %v", variant, outcomes)
		}
	}
}

// A share gets its part of the users, within what chance allows.
func TestFractionalSharesHaveTheirSize(t *testing.T) {
	const users = 20_000
	f := serve(t, split("f", `[["a",1],["b",9],["c",40],["d",50]]`, "a", "b", "c", "d"))
	h := f.StringFlag("f", "")
	counts := map[string]float64{}
	for i := range users {
		counts[h.Get(keyed(fmt.Sprint("visitor-", i)))]++
	}
	for variant, share := range map[string]float64{"a": .01, "b": .09, "c": .4, "d": .5} {
		sigma := math.Sqrt(users * share * (1 - share))
		if off := math.Abs(counts[variant] - users*share); off > 4*sigma {
			t.Errorf("%s has %v of %d users, %v standard deviations off", variant, counts[variant], users, off/sigma)
		}
	}
}

// Two flags cut the same users independently of one another: the flag's key is part of the hash.
func TestFlagsSplitIndependently(t *testing.T) {
	const users = 20_000
	one := serve(t, split("one", `[["a",1],["b",1]]`, "a", "b")).StringFlag("one", "")
	two := serve(t, split("two", `[["a",1],["b",1]]`, "a", "b")).StringFlag("two", "")
	both := 0.0
	for i := range users {
		if ctx := keyed(fmt.Sprint(i)); one.Get(ctx) == "a" && two.Get(ctx) == "a" {
			both++
		}
	}
	if off := math.Abs(both/users - .25); off > .015 {
		t.Errorf("%v of the users are in both halves", both/users)
	}
}
