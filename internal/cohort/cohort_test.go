package cohort_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/midair-go/midair/internal/cohort"
)

// The same salt and key give the same point in every version, on every architecture. A change of these points would move users
// to the other side.
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
		{"cart-v2", "\x00\xff\x80", 0x1.656ac2ebea048p-04},
		{"search", "user-1", 0x1.14cbca5b23a4ap-02},
		{"search", strings.Repeat("long", 100), 0x1.2f78f1b67fd38p-01},
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

// A key in the cohort of a weight is in the cohort of every greater weight.
func TestCohortsGrowWithTheWeight(t *testing.T) {
	weights := []float64{0, math.SmallestNonzeroFloat64, 0.001, 0.01, 0.05, 0.25, 0.5, 0.999, math.Nextafter(1, 0), 1}
	for i := range 20_000 {
		was := false
		for _, w := range weights {
			is := cohort.In("salt", key(i), w)
			if was && !is {
				t.Fatalf("%s left the cohort at weight %v", key(i), w)
			}
			was = is
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

// A key is in the cohort of every weight above its point. If the weight is equal to its point, the key is not in the cohort.
func TestPointIsTheBorder(t *testing.T) {
	for i := range 1000 {
		p := cohort.Point("salt", key(i))
		if cohort.In("salt", key(i), p) || !cohort.In("salt", key(i), math.Nextafter(p, 1)) {
			t.Fatalf("%s with the point %v is on the wrong side of it", key(i), p)
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

// Of keys with consecutive numbers, the cohort has a share near its weight, under each of many salts. With FNV-1a this test
// fails.
func TestShareIsTheWeight(t *testing.T) {
	const keys = 10_000
	kinds := map[string]func(int) string{
		"sequential": key,
		"address":    func(i int) string { return fmt.Sprintf("10.0.%d.%d", i>>8&255, i&255) },
		"mail":       func(i int) string { return fmt.Sprintf("u%d@example.com", i) },
	}
	for kind, key := range kinds {
		list := list(key, keys)
		for s := range 40 {
			points := points(fmt.Sprint("salt-", s), list)
			for _, w := range []float64{0.001, 0.01, 0.05, 0.25, 0.5} {
				if d := sigmas(count(points, w), keys, w); math.Abs(d) > 5 {
					t.Errorf("%s, salt %d, weight %v: %.1f sigma off", kind, s, w, d)
				}
			}
		}
	}
}

// If two cohorts have different salts, a key is in both only by chance.
func TestSaltsAreIndependent(t *testing.T) {
	const keys, w1, w2 = 10_000, 0.25, 0.1
	list := list(key, keys)
	b := points("salt-0", list)
	for s := range 100 {
		a := b
		b = points(fmt.Sprint("salt-", s+1), list)
		both := 0
		for i := range a {
			if a[i] < w1 && b[i] < w2 {
				both++
			}
		}
		if d := sigmas(both, keys, w1*w2); math.Abs(d) > 5 {
			t.Errorf("salts %d and %d: %.1f sigma off", s, s+1, d)
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

func list(key func(int) string, n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = key(i)
	}
	return keys
}

func points(salt string, keys []string) []float64 {
	points := make([]float64, len(keys))
	for i, key := range keys {
		points[i] = cohort.Point(salt, key)
	}
	return points
}

func count(points []float64, weight float64) int {
	n := 0
	for _, p := range points {
		if p < weight {
			n++
		}
	}
	return n
}

// sigmas returns by how many standard deviations n differs from the share w of total.
func sigmas(n, total int, w float64) float64 {
	return (float64(n) - float64(total)*w) / math.Sqrt(float64(total)*w*(1-w))
}
