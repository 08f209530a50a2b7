package flagd_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/midair-go/midair/flags/internal/flagd"
)

// buckets is a fractional of version 3 with 25 shares of 4, by the attribute "in".
func buckets(t *testing.T) *flagd.Flag {
	var shares, variants []string
	for i := range 25 {
		variants = append(variants, fmt.Sprint(i+1))
		shares = append(shares, fmt.Sprintf(`["%d",4]`, i+1))
	}
	content := flagOf("f", `{"fractional":[{"var":"in"},`+strings.Join(shares, ",")+`]}`, variants...)
	return served(t, parseWith(t, content, flagd.Options{Bucketing: flagd.FractionalV3}), "f")
}

// Keys of all types fall into the buckets that flagd's conformance suite has for them.
func TestKeysOfAllTypesArePinned(t *testing.T) {
	f := buckets(t)
	for _, c := range []struct {
		in   string
		want int
	}{
		{`true`, 5}, {`false`, 1}, {`"user1"`, 22}, {`"user2"`, 16}, {`123`, 20}, {`456`, 12}, {`1.23`, 14}, {`4.56`, 18},
		{`"123"`, 22}, {`"true"`, 24}, {`"false"`, 1}, {`"null"`, 8}, {`"1.23"`, 4}, {`0`, 8}, {`1.0`, 23}, {`1`, 23},
		{`-2.0`, 12}, {`-2`, 12}, {`9007199254740992.0`, 10}, {`9007199254740992`, 10}, {`0.0`, 8}, {`-0.0`, 8},
		{`2147483647`, 10}, {`2147483648`, 25}, {`-2147483648`, 8}, {`-2147483649`, 18}, {`9007199254740991`, 2}, {`23`, 21},
		{`24`, 11}, {`255`, 13}, {`256`, 13}, {`65535`, 4}, {`65536`, 11}, {`4294967295`, 14}, {`4294967296`, 19}, {`-24`, 4},
		{`-25`, 16}, {`1e+20`, 19}, {`-1e+20`, 25}, {`65504.0`, 16}, {`-65504.0`, 9}, {`6.103515625e-05`, 22},
		{`5.960464477539063e-08`, 23}, {`65505.0`, 17}, {`-65505.0`, 17}, {`3.4028234663852886e+38`, 10},
		{`-3.4028234663852886e+38`, 3}, {`1.1754943508222875e-38`, 24}, {`3.5e+38`, 1}, {`-3.5e+38`, 6},
		{`1.7976931348623157e+308`, 17}, {`-1.7976931348623157e+308`, 9}, {`2.2250738585072014e-308`, 11}, {`5e-324`, 2},
		{`{"a": 1, "b": 2}`, 23}, {`{"b": 2, "a": 1}`, 23}, {`{"a": 1, "b": 2, "c": 3}`, 18}, {`{"c": 3, "a": 1, "b": 2}`, 18},
		{`{"z": 1, "aa": 2}`, 21}, {`{"aa": 2, "z": 1}`, 21}, {`{"a": {"b": 1}, "b": 2}`, 9}, {`{"b": 2, "a": {"b": 1}}`, 9},
		{`{"a": true, "bbb": 1, "c": "text", "dddd": 2.5}`, 25}, {`{"c": "text", "bbb": 1, "a": true, "dddd": 2.5}`, 25},
		{`{"aaa": 1, "ÿ": 2}`, 12}, {`{"ÿ": 2, "aaa": 1}`, 12}, {`{"": 2, "abc": 1}`, 25}, {`{"key": -0.0}`, 10},
		{`{"key": 0}`, 10}, {`{"key": 0.0}`, 10}, {`{"b": -0.0, "a": {"b": 1}, "c": 0.0}`, 8},
		{`{"c": 0.0, "b": -0.0, "a": {"b": 1}}`, 8}, {`{"café": "façade", "b": {"résumé": {"ÿ": true}}}`, 22}, {`{}`, 3},
		{`{"a": {}}`, 20}, {`{"b": 2, "a": {}}`, 20}, {`{"a": {}, "b": {}}`, 21}, {`{"a": {}, "b": []}`, 7},
		{`{"c": 0.0, "a": []}`, 18}, {`{"c": 0.0, "b": -0.0, "a": {"b": []}}`, 9}, {`{"a": []}`, 12},
		{`{"a": [1, [], 3], "b": null}`, 3}, {`{"a": ["a", "b", {}], "b": [1, null, 2]}`, 23},
		{`{"a": [1, "two", true, [], null]}`, 23}, {`{"a": [false, 2.5, ""], "b": [], "c": null}`, 15},
		{`{"x": [{"a": 1}, {"b": 2}, {"b": null}]}`, 3}, {`{"x": [{"a": {"b": []}}]}`, 16}, {`{"x": [{"a": {"b": null}}]}`, 6},
		{`{"x": [{"a": {"b": {}}}]}`, 2}, {`{"": null}`, 25}, {`{"": {"": {"": ""}}}`, 11}, {`{"a": [[[[[]]]]]}`, 15},
		{`{"a": [[[[null]]]]}`, 7}, {`{"a": {"b": {"c": {"d": {}}}}}`, 21}, {`{"a": {"b": {"c": {"d": null}}}}`, 19},
		{`""`, 4}, {`"a"`, 6}, {`"12345678901234567890123"`, 4}, {`"123456789012345678901234"`, 14},
		{`"` + strings.Repeat("a", 255) + `"`, 18}, {`"` + strings.Repeat("a", 256) + `"`, 7}, {`"あいうえおかき"`, 17},
		{`"あいうえおかきく"`, 16}, {`"ééééééééééé"`, 16}, {`"éééééééééééé"`, 19}, {`"café façade résumé café"`, 9},
		{`"A\\u0000B"`, 15}, {`"e\\u0301"`, 7}, {`"\\uD83D\\uDE00"`, 23},
	} {
		var in any
		if err := json.Unmarshal([]byte(c.in), &in); err != nil {
			t.Fatalf("%s: %v", c.in, err)
		}
		mustBe(t, c.in, choose(f, env("", attrs{"in": in})), fmt.Sprint(c.want))
	}
}

// The types of Go make no difference, and neither does the precision of a float.
func TestKeysOfOneValueAreOneKey(t *testing.T) {
	f := buckets(t)
	type named string
	for want, same := range map[string][]any{
		"20": {123, int8(123), uint64(123), float32(123), 123.0, json.Number("123")},
		"22": {"user1", named("user1")},
		"23": {map[string]int{"a": 1, "b": 2}, struct {
			B int `json:"b"`
			A int `json:"a"`
		}{2, 1}},
	} {
		for _, x := range same {
			mustBe(t, fmt.Sprintf("%T %v", x, x), choose(f, env("", attrs{"in": x})), want)
		}
	}
}

// A key that is null, a list or without an end gives the default variant, and does not take the targeting key.
func TestKeysThatAreNoKeys(t *testing.T) {
	f := buckets(t)
	endless := map[string]any{}
	endless["in"] = endless
	for name, x := range map[string]any{"null": nil, "endless": endless} {
		mustBe(t, name, choose(f, env("u", attrs{"in": x})), "fallback")
	}
	mustBe(t, "a list, which is a share", choose(f, env("u", attrs{"in": []any{"7", 1e9}})), "7")
}

// Floats of 16 bits are found where there is one, as strconv and math have them by another way.
func TestHalfFloats(t *testing.T) {
	for bits := range 1 << 16 {
		n, ok := half(uint16(bits))
		if !ok || n == 0 { // 0 is an integer
			continue
		}
		got, fits := flagd.HalfFloat(float32(n))
		if !fits || got != uint16(bits) {
			t.Fatalf("%v: %04x %v, want %04x", n, got, fits, bits)
		}
		if _, fits := flagd.HalfFloat(float32(n * (1 + 1.0/4096))); fits {
			t.Fatalf("%v and a bit fits", n)
		}
	}
}

// half decodes a float of 16 bits by its definition; false for NaN and the infinities.
func half(bits uint16) (float64, bool) {
	exponent, fraction := int(bits>>10&31), float64(bits&1023)
	n := 1.0
	switch exponent {
	case 31:
		return 0, false
	case 0:
		n, exponent = fraction/1024, 1
	default:
		n += fraction / 1024
	}
	for ; exponent > 15; exponent-- {
		n *= 2
	}
	for ; exponent < 15; exponent++ {
		n /= 2
	}
	if bits>>15 == 1 {
		n = -n
	}
	return n, true
}
