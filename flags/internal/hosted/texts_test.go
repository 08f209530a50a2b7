package hosted

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// made returns a value of the kinds that outlive JSON.
func made(r *rand.Rand, depth int) any {
	switch n := r.IntN(8); {
	case n == 0 && depth < 4:
		m := map[string]any{}
		for range r.IntN(4) {
			m[text(r)] = made(r, depth+1)
		}
		return m
	case n == 1 && depth < 4:
		l := []any{}
		for range r.IntN(4) {
			l = append(l, made(r, depth+1))
		}
		return l
	case n == 2:
		return nil
	case n == 3:
		return r.IntN(2) == 0
	case n == 4:
		return int64(r.Uint64())
	case n == 5:
		return float64(r.IntN(5)) // without a fraction
	case n == 6:
		return r.NormFloat64() * math.Pow(10, float64(r.IntN(600)-300))
	}
	return text(r)
}

func text(r *rand.Rand) string {
	return []string{"", "a", "5", "5.0", "1e3", "null", "\x00", "\"", "\\", "ü", "<&>", "\u2028"}[r.IntN(12)]
}

// An object is the same after an upgrade: a whole float64 stays a float64, and an int64 loses no digit.
func TestObjectsOutliveTheirText(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		value := map[string]any{"x": made(r, 0)}
		size := 0
		copied, ok := replica(value, &size)
		if !ok || !reflect.DeepEqual(copied, value) || !equal(copied, value) {
			t.Fatalf("the copy of %#v is %#v, %v", value, copied, ok)
		}
		text, ok := encode(copied)
		if got := decode(text, reflect.Interface); !ok || !reflect.DeepEqual(got, value) {
			t.Fatalf("%#v as %s is %#v", value, text, got)
		}
	}
}

// Values of the simple types are the same after an upgrade.
func TestSimpleValuesOutliveTheirText(t *testing.T) {
	for _, c := range []struct {
		kind  reflect.Kind
		value any
	}{
		{reflect.Bool, true}, {reflect.Bool, false}, {reflect.String, ""}, {reflect.String, "null"}, {reflect.Int64, int64(math.MinInt64)},
		{reflect.Int64, int64(math.MaxInt64)}, {reflect.Float64, 5.0}, {reflect.Float64, 1e300}, {reflect.Float64, math.SmallestNonzeroFloat64},
		{everybody, `{"a":1}`},
	} {
		text, ok := encode(c.value)
		if got := decode(text, c.kind); !ok || got != c.value {
			t.Errorf("%#v as %q is %#v, %v", c.value, text, got, ok)
		}
	}
}

// A value that JSON would change, or that is too large, has no copy.
func TestValuesWithoutACopy(t *testing.T) {
	loop := map[string]any{}
	loop["loop"] = loop
	for _, value := range []any{
		math.NaN(), math.Inf(1), "\xff", 5, float32(1), struct{}{}, []string{"a"}, map[string]int{"a": 1}, map[string]any{"\xff": 1.0},
		[]any{[]any{uint8(1)}}, loop, slices.Repeat([]any{strings.Repeat("x", maxMemory)}, 2),
	} {
		size := 0
		if _, ok := replica(value, &size); ok {
			t.Errorf("there is a copy of a %T", value)
		}
	}
}

// A copy has nothing in common with the value: neither of the two users sees the changes of the other.
func TestCopyIsIndependent(t *testing.T) {
	value := map[string]any{"list": []any{map[string]any{"a": 1.0}}}
	size := 0
	copied, _ := replica(value, &size)
	value["list"].([]any)[0].(map[string]any)["a"] = 2.0
	if got := fmt.Sprint(copied); got != "map[list:[map[a:1]]]" || equal(copied, value) {
		t.Errorf("the copy has become %s", got)
	}
}
