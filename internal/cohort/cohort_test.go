package cohort_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/midair-go/midair/internal/cohort"
)

// The same salt and key give the same point in every version, on every architecture. A change of these points would move users
// to the other side. xxhsum, which is written in C, gives the same hashes.
func TestPointsArePinned(t *testing.T) {
	for _, v := range []struct {
		salt, key string
		want      float64
	}{
		{"", "", 0x1.d2695095b60a4p-01},
		{"", "user-1", 0x1.60000424d406ep-02},
		{"cart-v2", "", 0x1.eefa020fa760cp-02},
		{"cart-v2", "user-1", 0x1.48c0dc401d7ap-01},
		{"cart-v2", "user-2", 0x1.a3ff4f0fa23bp-02},
		{"cart-v2", "203.0.113.7", 0x1.9aaf98302b043p-01},
		{"cart-v2", "2001:db8::1", 0x1.e60043c90352cp-03},
		{"cart-v2", "f81d4fae-7dec-41d0-a765-00a0c91e6bf6", 0x1.3f25b1d49814cp-01},
		{"search", "user-1", 0x1.14cbca5b23a4ap-02},

		// Zero bytes, and bytes that are not text.
		{"cart-v2", "\x00\xff\x80", 0x1.656ac2ebea048p-04},
		{"cart-v2", "\x00", 0x1.8919a86c11a2cp-03},
		{"cart-v2", "\x00\x00\x00\x00\x00\x00\x00\x00", 0x1.34bacb16e029ep-01},
		{"cart-v2", "user\x001", 0x1.2fb725e6f9328p-01},
		{"cart-v2", "\xc3(", 0x1.8045a864f21b9p-01},
		{"a\x00b", "c", 0x1.447bbb89697eap-01},
		{"a", "b\x00c", 0x1.447bbb89697eap-01}, // the same bytes are hashed as for the salt with a zero byte

		// UTF-8 is not normalised: the two forms of a letter with an accent are two keys.
		{"cart-v2", "Zo\u00eb@b\u00fccher.example", 0x1.d6f62e7e6c814p-03},
		{"cart-v2", "Zoe\u0308@b\u00fccher.example", 0x1.b38452d3e8638p-03},
		{"cart-v2", "\U0001f6d2", 0x1.63ada7b30f3c8p-02},
		{"\u8cfc\u7269\u8eca", "\u5229\u7528\u8005-1", 0x1.2921ab0ef20c0p-03},

		// 95, 96 and 97 bytes with the zero byte, around the size of the buffer of Point, and more.
		{"cart-v2", strings.Repeat("k", 87), 0x1.e0a12c2fb093cp-03},
		{"cart-v2", strings.Repeat("k", 88), 0x1.ac832e371bfd4p-02},
		{"cart-v2", strings.Repeat("k", 89), 0x1.2d644c4a9dc58p-02},
		{strings.Repeat("s", 95), "", 0x1.5adab725e8b82p-02},
		{strings.Repeat("s", 96), "", 0x1.46f37f6515d42p-02},
		{strings.Repeat("s", 200), "user-1", 0x1.253c5ef1d771cp-02},
		{"search", strings.Repeat("long", 100), 0x1.2f78f1b67fd38p-01},
		{"cart-v2", strings.Repeat("k", 4096), 0x1.134dbc98e4f8cp-03},
	} {
		if got := cohort.Point(v.salt, v.key); got != v.want {
			t.Errorf("Point(%q, %q) = %x, want %x", v.salt, v.key, got, v.want)
		}
	}
}

// The point consists of the upper 53 bits of the xxHash of salt, zero byte and key. The test computes xxHash from its
// specification.
func TestPointFollowsTheSpecification(t *testing.T) {
	for text, want := range map[string]uint64{
		"": 0xef46db3751d8e999, "a": 0xd24ec4f1a98c6e5b, "abc": 0x44bc2cf5ad770999,
	} {
		if got := xxh64(text); got != want {
			t.Fatalf("the test's own hash of %q is %x, want %x", text, got, want)
		}
	}
	for n := range 200 {
		salt, key := strings.Repeat("s", n%7), strings.Repeat("keys", 50)[:n]
		want := float64(xxh64(salt+"\x00"+key)>>11) / (1 << 53)
		if got := cohort.Point(salt, key); got != want {
			t.Fatalf("Point(%q, %q) = %v, want %v", salt, key, got, want)
		}
	}
}

// A key in the cohort of a weight is in the cohort of every greater weight. The smallest of these weights is the next number
// above the point of the key.
func TestCohortsGrowWithTheWeight(t *testing.T) {
	ladder := []float64{0, math.SmallestNonzeroFloat64, 0.001, 0.01, 0.05, 0.25, 0.5, 0.999, math.Nextafter(1, 0), 1}
	for i := range 90 {
		ladder = append(ladder, cohort.Point("ladder", key(i)))
	}
	slices.Sort(ladder)
	for i := range 1000 {
		p := cohort.Point("salt", key(i))
		if cohort.In("salt", key(i), p) || !cohort.In("salt", key(i), math.Nextafter(p, 1)) {
			t.Fatalf("%s with the point %v is on the wrong side of it", key(i), p)
		}
		was := false
		for _, w := range ladder {
			is := cohort.In("salt", key(i), w)
			if was && !is {
				t.Fatalf("%s left the cohort at weight %v", key(i), w)
			}
			was = is
		}
		if !was {
			t.Fatalf("%s never joined the cohort", key(i))
		}
	}
}

// Weight 0 selects no key, and weight 1 selects every key. A weight below 0, or NaN, selects no key.
func TestWeightsAtTheEdges(t *testing.T) {
	none := []float64{0, math.Copysign(0, -1), -0.5, math.Inf(-1), math.NaN()}
	everyone := []float64{1, 1.5, math.Inf(1)}
	for i := range 10_000 {
		for _, w := range none {
			if cohort.In("salt", key(i), w) {
				t.Fatalf("%s is in the cohort of weight %v", key(i), w)
			}
		}
		for _, w := range everyone {
			if !cohort.In("salt", key(i), w) {
				t.Fatalf("%s is not in the cohort of weight %v", key(i), w)
			}
		}
	}
}

// Points are in [0, 1): rounding makes no point 1.
func TestPointsAreBelowOne(t *testing.T) {
	for i := range 100_000 {
		if p := cohort.Point("salt", key(i)); p < 0 || p >= 1 {
			t.Fatalf("the point of %s is %v", key(i), p)
		}
	}
}

// The point depends on where the salt ends and the key begins.
func TestSaltAndKeyAreKeptApart(t *testing.T) {
	if cohort.Point("ab", "c") == cohort.Point("a", "bc") {
		t.Error("the point does not depend on where the salt ends")
	}
}

// NewSalt returns another salt at each call, without a zero byte.
func TestNewSaltsDiffer(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		s := cohort.NewSalt()
		if len(s) < 26 || strings.Contains(s, "\x00") || seen[s] { // 26 letters with 5 bits each are at least 128 bits
			t.Fatalf("salt %q", s)
		}
		seen[s] = true
	}
}

func TestDecisionAllocatesNothing(t *testing.T) {
	key := []byte("visitor!")
	in := false
	if n := testing.AllocsPerRun(1000, func() { in = cohort.In("cart-v2", string(key), 0.5) != in }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkIn(b *testing.B) {
	for _, n := range []int{8, 20, 36, 64} {
		key := strings.Repeat("k", n)
		b.Run(fmt.Sprint(n, " bytes"), func(b *testing.B) {
			b.ReportAllocs()
			in := false
			for b.Loop() {
				in = cohort.In("cart-v2", key, 0.05) != in
			}
		})
	}
}

func key(i int) string { return fmt.Sprint("user-", i) }
