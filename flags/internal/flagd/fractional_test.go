package flagd_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/midair-go/midair/flags/internal/flagd"
)

// The hash is MurmurHash3 x86 32 with seed 0, as its published vectors have it.
func TestMurmurHasPublishedSums(t *testing.T) {
	for in, want := range map[string]uint32{
		"":                          0,
		"\x00":                      0x514e28b7,
		"\x00\x00":                  0x30f4c306,
		"\x00\x00\x00":              0x85f0b427,
		"\x00\x00\x00\x00":          0x2362f9de,
		"\xff\xff\xff\xff":          0x76293b50,
		"\x21":                      0x72661cf4,
		"\x21\x43":                  0xa0f7b07a,
		"\x21\x43\x65":              0x7e4a8634,
		"\x21\x43\x65\x87":          0xf55b516b,
		"test":                      0xba6bd213,
		"hello":                     0x248bfa47,
		"hello, world":              0x149bbb7f,
		"Hello, world!":             0xc0363e43,
		"19 Jan 2038 at 3:14:07 AM": 0xe31e8a70,
		"The quick brown fox jumps over the lazy dog": 0x2e4ff723,
	} {
		if got := flagd.Murmur(in); got != want {
			t.Errorf("%q: %08x, want %08x", in, got, want)
		}
	}
}

// Where the beginning of a text ends does not matter to its hash.
func TestMurmurMayBeContinued(t *testing.T) {
	const s = "The quick brown fox"
	want := flagd.Murmur(s)
	for i := range len(s) + 1 {
		for j := i; j <= len(s); j++ {
			if got := flagd.Murmur(s[:i], s[i:j], s[j:]); got != want {
				t.Fatalf("%q %q %q: %08x, want %08x", s[:i], s[i:j], s[j:], got, want)
			}
		}
	}
}

// split is a flag file with one string flag whose targeting is fractional with the arguments.
func split(key, args string, variants ...string) string {
	var b strings.Builder
	for _, v := range variants {
		fmt.Fprintf(&b, `,%q:%q`, v, v)
	}
	return fmt.Sprintf(`{"flags": {%q: {"state": "ENABLED", "defaultVariant": "none", "variants": {"none": "none"%s},
		"targeting": {"fractional": %s}}}}`, key, b.String(), args)
}

func user(name string) flagd.Env { return env("", attrs{"user": attrs{"name": name}}) }

func keyed(key string) flagd.Env { return env(key, nil) }

// The examples for fractional, version 2, of flagd's own conformance suite come out as they do there.
func TestFractionalAgreesWithFlagd(t *testing.T) {
	cards := `["clubs",25],["diamonds",25],["hearts",25],["spades",25]]`
	suits := []string{"clubs", "diamonds", "hearts", "spades"}
	aces := `["ace-of-clubs",25],["ace-of-diamonds",25],["ace-of-hearts",25],["ace-of-spades",25]]`
	for _, c := range []struct {
		key, content string
		ctx          func(string) flagd.Env
		want         map[string]string
	}{
		{"fractional-flag", split("fractional-flag", `[{"cat":[{"var":"$flagd.flagKey"},{"var":"user.name"}]},`+cards, suits...), user,
			map[string]string{"jack": "hearts", "queen": "spades", "ten": "clubs", "nine": "diamonds", "3": "clubs"}},
		{"fractional-flag-shorthand", split("fractional-flag-shorthand", `[["heads"],["tails",1]]`, "heads", "tails"), keyed,
			map[string]string{"jon@company.com": "heads", "jane@company.com": "tails"}},
		{"fractional-flag-A-shared-seed", split("fractional-flag-A-shared-seed", `[{"cat":["shared-seed",{"var":"user.name"}]},`+cards, suits...), user,
			map[string]string{"seven": "hearts", "eight": "diamonds", "nine": "clubs", "two": "spades"}},
		{"fractional-flag-B-shared-seed", split("fractional-flag-B-shared-seed", `[{"cat":["shared-seed",{"var":"user.name"}]},`+aces,
			"ace-of-clubs", "ace-of-diamonds", "ace-of-hearts", "ace-of-spades"), user,
			map[string]string{"seven": "ace-of-hearts", "eight": "ace-of-diamonds", "nine": "ace-of-clubs", "two": "ace-of-spades"}},
		{"fractional-hash-edge-flag", split("fractional-hash-edge-flag", `[{"var":"targetingKey"},["lower",50],["upper",50]]`, "lower", "upper"), keyed,
			map[string]string{"ejOoVL": "lower", "bY9fO-": "lower", "SI7p-": "lower", "6LvT0": "upper", "ceQdGm": "upper"}},
	} {
		f := served(t, parse(t, c.content), c.key)
		for in, want := range c.want {
			if got := choose(f, c.ctx(in)); got != want {
				t.Errorf("%s for %s: %s, want %s", c.key, in, got, want)
			}
		}
	}
}

// The cohorts of ten thousand users are those of another implementation of the published formula, by the sum of the
// sequence: one that moved would be another contract.
func TestFractionalCohortsArePinned(t *testing.T) {
	for key, want := range map[string]string{
		"new-cart":    "389dc484edcc0f95dce280754429d82c67e56d4d96c47b79541861fce3a96799",
		"headerColor": "cd6375fbd80ea8a68c45def5b5d0278303ac1f8855a992a43ac1b91c00b7455b",
		"k":           "80a5008010fdf1907a561807c5684c3899fca949a1dd76a875cd82961e1eaae9",
	} {
		h := served(t, parse(t, split(key, `[["a",10],["b",25],["c",65]]`, "a", "b", "c")), key)
		var all strings.Builder
		for i := range 10_000 {
			all.WriteString(choose(h, keyed(fmt.Sprint("user-", i))))
		}
		sum := sha256.Sum256([]byte(all.String()))
		mustBe(t, "the sum of "+key, hex.EncodeToString(sum[:]), want)
	}
}

// The same for the versions beside the default: sums of sequences by another implementation of the published formulas.
func TestOtherBucketingsArePinned(t *testing.T) {
	for _, c := range []struct{ bucketing, key, want string }{
		{flagd.FractionalV1, "new-cart", "c861ef6b0df64cc56e24e2bd4691aa1216d625665e7aaded957161d55473ae16"},
		{flagd.FractionalV3, "new-cart", "7b92735e7ea9b3d70dc8fde4439387f2eacc914ebb502681e2bfaca0fc84a56f"},
		{flagd.FractionalV1, "k", "cee8b9bff88c642ccd9f3e7d5168ed42801240370e68a9b1b2393f409ce6daa6"},
		{flagd.FractionalV3, "k", "6899e5a7eaa5c65dfabf20953ca1873e6dac198cb8f218a03eb4ec517056bb79"},
	} {
		content := split(c.key, `[["a",10],["b",25],["c",65]]`, "a", "b", "c")
		f := served(t, parseWith(t, content, flagd.Options{Bucketing: c.bucketing}), c.key)
		var all strings.Builder
		for i := range 10_000 {
			all.WriteString(choose(f, keyed(fmt.Sprint("user-", i))))
		}
		sum := sha256.Sum256([]byte(all.String()))
		mustBe(t, "the sum of "+c.key+" with "+c.bucketing, hex.EncodeToString(sum[:]), c.want)
	}
}

// Single decisions of the same other implementation, with long keys, keys beyond ASCII, and the largest weights.
func TestFractionalDecisionsArePinned(t *testing.T) {
	for _, c := range []struct{ key, unit, args, want string }{
		{"headerColor", "foo@foo.com", `[["red",50],["blue",20],["green",30]]`, "green"},
		{"headerColor", "rachel@faas.com", `[["red",25],["blue",25],["green",25],["yellow",25]]`, "blue"},
		{"footerColor", "ross@faas.com", `[["red",25],["blue",25],["green",25],["yellow",25]]`, "yellow"},
		{"new-cart", "user-9", `[["red",10],["blue",90]]`, "red"},
		{"new-cart", "user-10", `[["red",10],["blue",90]]`, "blue"},
		{"new-cart", "ünï-7", `[["red",50],["blue",50]]`, "blue"},
		{"ab", "c", `[["red",1],["blue",2147483646]]`, "blue"},
		{"k", strings.Repeat("x", 300), `[["red",1],["blue",1]]`, "red"},
	} {
		f := served(t, parse(t, split(c.key, c.args, "red", "blue", "green", "yellow")), c.key)
		mustBe(t, c.key+" for "+c.unit, choose(f, keyed(c.unit)), c.want)
	}
}

// Nobody leaves the share that is listed first while it grows.
func TestFractionalGrowsWithoutMoving(t *testing.T) {
	var before *flagd.Flag
	for i, weight := range []int{1, 5, 25, 50, 99, 100} {
		h := served(t, parse(t, split("f", fmt.Sprintf(`[["on",%d],["off",%d]]`, weight, 100-weight), "on", "off")), "f")
		for u := range 2000 {
			e := keyed(fmt.Sprint(u))
			if i > 0 && choose(before, e) == "on" && choose(h, e) != "on" {
				t.Fatalf("user %d left at %d %%", u, weight)
			}
		}
		before = h
	}
}

// What is to be kept together may be said by the rule; if that is missing, or there is no targeting key, the default
// variant is the answer, and so it is for weights that make no sense once they are computed.
func TestFractionalWithoutUnitOrWeightsGivesDefault(t *testing.T) {
	all := map[string]any{"id": "u-1", "n": 7, "w": 3, "half": 0.5, "minus": -4, "huge": 1e12, "text": "x"}
	for _, c := range []struct{ args, key, want string }{
		{`[["on",1]]`, "", "none"},
		{`[["on",1]]`, "u", "on"},
		{`[{"var":"id"},["on",1]]`, "", "on"},
		{`[{"var":"missing"},["on",1]]`, "", "none"},
		{`[{"var":"missing"},["on",1]]`, "u", "on"},
		{`[{"var":"n"},["on",1]]`, "u", "none"},
		{`["salt",["on",1]]`, "", "on"},
		{`["",["on",1]]`, "", "on"},
		{`[["on",{"var":"w"}]]`, "u", "on"},
		{`[["on",{"var":"missing"}]]`, "u", "on"},
		{`[["on",{"var":"half"}],["off",1]]`, "u", "none"},
		{`[["on",{"var":"minus"}],["off",1]]`, "u", "off"},
		{`[["on",{"var":"minus"}]]`, "u", "none"},
		{`[["on",{"var":"huge"}]]`, "u", "none"},
		{`[["on",{"var":"text"}]]`, "u", "none"},
		{`[[null,1]]`, "u", "none"},
		{`[[{"if":[{"var":"w"},"on","off"]},1]]`, "u", "on"},
	} {
		f := served(t, parse(t, split("f", c.args, "on", "off")), "f")
		mustBe(t, c.args+" for "+c.key, choose(f, env(c.key, all)), c.want)
	}
}

// More shares than fit the stack's part, with computed weights, are cut the same way.
func TestFractionalWithManyComputedWeights(t *testing.T) {
	var fixed, computed, variants []string
	for i := range 40 {
		v := fmt.Sprint("v", i)
		variants = append(variants, v)
		fixed = append(fixed, fmt.Sprintf(`[%q,%d]`, v, i))
		computed = append(computed, fmt.Sprintf(`[%q,{"if":[true,%d,0]}]`, v, i))
	}
	a := served(t, parse(t, split("f", "["+strings.Join(fixed, ",")+"]", variants...)), "f")
	b := served(t, parse(t, split("f", "["+strings.Join(computed, ",")+"]", variants...)), "f")
	for u := range 500 {
		e := keyed(fmt.Sprint(u))
		if x, y := choose(a, e), choose(b, e); x != y {
			t.Fatalf("user %d: %s with literals, %s computed", u, x, y)
		}
	}
}
