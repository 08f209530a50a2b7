package canary_test

import (
	"math"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"

	"github.com/midair-go/midair/canary"
)

// drawLimit is how many standard deviations a count of draws may be off. The draws differ in each run: by chance, fewer than
// 1 run of 40,000 fails.
const drawLimit = 4.9

// A sideWriter is a ResponseWriter that notes whether the canary answers.
type sideWriter struct {
	header http.Header
	canary bool
}

func (w *sideWriter) Header() http.Header { return w.header }
func (w *sideWriter) WriteHeader(int)     {}
func (w *sideWriter) Write(b []byte) (int, error) {
	w.canary = string(b) == string(v2)
	return len(b), nil
}

// draws sends n requests one after the other, and returns for each whether the canary answered. Each request is a POST, so the
// answer has no lines for caches.
func draws(rt *canary.Router, n int) []bool {
	r, w := request(), &sideWriter{header: http.Header{}}
	r.Method = "POST"
	sides := make([]bool, n)
	for i := range sides {
		rt.ServeHTTP(w, r)
		sides[i] = w.canary
	}
	return sides
}

// Requests without a key are drawn each by itself: the share is the weight, and no draw depends on the draw before.
func TestKeylessRequestsAreDrawnOneByOne(t *testing.T) {
	const n = 100_000
	never := canary.NewCookie("not a name", canary.CookieOptions{})
	all := func(*http.Request) bool { return true }
	for _, v := range []struct {
		name   string
		weight float64
		opts   canary.Options
	}{
		{"no key", 0.001, canary.Options{}},
		{"no key", 0.01, canary.Options{}},
		{"no key", 0.05, canary.Options{}},
		{"no key", 0.25, canary.Options{}},
		{"no key", 0.5, canary.Options{}},
		{"empty key", 0.25, canary.Options{Key: byHeader}},
		{"same for all", 0.25, canary.Options{Key: byHeader, SameForAll: all}},
		{"cookie that cannot be set", 0.25, canary.Options{Cookie: never}},
	} {
		v.opts.Weight = canary.Fixed(v.weight)
		sides := draws(router(v.opts), n)
		share, serial := shareOff(sides, v.weight), 0.0
		if v.weight >= 0.25 { // below, the canary has too few pairs of successive draws for the limit
			serial = serialOff(sides, v.weight)
		}
		if share > drawLimit || serial > drawLimit {
			t.Errorf("%s, weight %v: the share is %.1f sigma off, successive draws %.1f", v.name, v.weight, share, serial)
		}
		t.Logf("%s, weight %v: the share is %.2f sigma off, successive draws %.2f", v.name, v.weight, share, serial)
	}
}

// Draws of different goroutines do not depend on each other.
func TestGoroutinesDrawIndependently(t *testing.T) {
	const goroutines, n = 4, 50_000
	for _, w := range []float64{0.05, 0.25, 0.5} {
		rt := router(canary.Options{Weight: canary.Fixed(w)})
		sides := make([][]bool, goroutines)
		var wg sync.WaitGroup
		for i := range sides {
			wg.Go(func() { sides[i] = draws(rt, n) }) // ends with its draws
		}
		wg.Wait()
		d := betweenOff(sides, w)
		if d > drawLimit {
			t.Errorf("weight %v: draws of two goroutines are %.1f sigma off", w, d)
		}
		t.Logf("weight %v: draws of two goroutines are %.2f sigma off", w, d)
	}
}

// The checks of the tests above can fail: each finds the draws that it is for.
func TestChecksOfDrawsFindBadDraws(t *testing.T) {
	const n, w = 50_000, 0.25
	source := rand.New(rand.NewPCG(1, 2))
	good, turns, sticky, more := make([]bool, n), make([]bool, n), make([]bool, n), make([]bool, n)
	for i := range n {
		good[i] = source.Float64() < w
		turns[i] = i%4 == 0
		sticky[i] = good[i]
		if i > 0 && source.Float64() < 0.05 {
			sticky[i] = sticky[i-1]
		}
		more[i] = source.Float64() < w+0.015
	}
	if shareOff(good, w) > drawLimit || serialOff(good, w) > drawLimit {
		t.Error("good draws are found bad")
	}
	if shareOff(more, w) <= drawLimit {
		t.Error("a wrong share is not found")
	}
	if serialOff(turns, w) <= drawLimit || serialOff(sticky, w) <= drawLimit {
		t.Error("draws that depend on the draw before are not found")
	}
	if betweenOff([][]bool{good, more, good, turns}, w) <= drawLimit {
		t.Error("two goroutines with the same draws are not found")
	}
}

// shareOff returns how many standard deviations the share of the canary differs from the weight w.
func shareOff(sides []bool, w float64) float64 {
	sum := 0.0
	for _, s := range sides {
		sum += off(s, w)
	}
	return math.Abs(sum) / math.Sqrt(float64(len(sides))*w*(1-w))
}

// serialOff returns how many standard deviations the sum of the products of two successive draws is off. If no draw depends on
// the draw before, each product has the mean 0 and the variance w²(1-w)².
func serialOff(sides []bool, w float64) float64 {
	sum := 0.0
	for i := 1; i < len(sides); i++ {
		sum += off(sides[i-1], w) * off(sides[i], w)
	}
	return math.Abs(sum) / (w * (1 - w) * math.Sqrt(float64(len(sides)-1)))
}

// betweenOff is serialOff for the draws with the same number in each two goroutines.
func betweenOff(sides [][]bool, w float64) float64 {
	sum, products := 0.0, 0
	for i, a := range sides {
		for _, b := range sides[:i] {
			for k := range a {
				sum += off(a[k], w) * off(b[k], w)
			}
			products += len(a)
		}
	}
	return math.Abs(sum) / (w * (1 - w) * math.Sqrt(float64(products)))
}

// off is how much a draw differs from its mean.
func off(canary bool, w float64) float64 {
	if canary {
		return 1 - w
	}
	return -w
}
