package cohort_test

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"hash/fnv"
	"math"
	"testing"

	"github.com/midair-go/midair/internal/cohort"
)

var keyCount = flag.Int("midair.keys", 100_000, "how many keys of each kind a share is of; a fifth for pairs of salts and FNV-1a")

// How many standard deviations a share may be off. By chance, 1 share of a million is off by more than shareLimit.
const (
	shareLimit = 4.9
	jointLimit = 5.0
)

// salts is how many salts the tests of shares have. Salts and keys are the same in each run, so a run does not fail by chance.
const salts = 7

var weights = []float64{0.001, 0.01, 0.05, 0.25, 0.5}

// kinds are the kinds of keys that services have.
var kinds = []struct {
	name string
	key  func(i int) string
}{
	{"sequential ids", key},
	{"UUIDs", uuid},
	{"emails", func(i int) string { return fmt.Sprintf("u%d@example.com", i) }},
	{"IPv4 addresses", func(i int) string { return fmt.Sprintf("10.%d.%d.%d", i>>16&255, i>>8&255, i&255) }},
}

// uuid returns a random UUID, of version 4, which is the same in each run.
func uuid(i int) string {
	b := sha256.Sum256([]byte(key(i)))
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// A pointer gives a key its point under a salt, as cohort.Point does.
type pointer func(salt, key string) float64

// The cohort of a weight has that share of the keys, whatever kind of keys, and whatever salt.
func TestShareIsTheWeight(t *testing.T) {
	for _, kind := range kinds {
		keys, worst := list(kind.key, *keyCount), 0.0
		for s := range salts {
			d := shareOff(points(cohort.Point, salt(s), keys))
			if d > shareLimit {
				t.Errorf("%s under %s: a share is %.1f sigma off", kind.name, salt(s), d)
			}
			worst = max(worst, d)
		}
		t.Logf("%d %s, %d salts: at worst %.2f sigma off", len(keys), kind.name, salts, worst)
	}
}

// Which keys are in a cohort does not depend on which keys are in the cohort of another salt. Of each pair of salts here, the
// names differ in the last letters only.
func TestSaltsAreIndependent(t *testing.T) {
	const pairs = 100
	keys, worst := list(key, *keyCount/5), 0.0
	b := points(cohort.Point, salt(0), keys)
	for s := range pairs {
		a := b
		b = points(cohort.Point, salt(s+1), keys)
		d := jointOff(a, b)
		if d > jointLimit {
			t.Errorf("%s and %s: a joint share is %.1f sigma off", salt(s), salt(s+1), d)
		}
		worst = max(worst, d)
	}
	t.Logf("%d keys, %d pairs of salts: at worst %.2f sigma off", len(keys), pairs, worst)
}

// The checks of the tests above can fail: with FNV-1a both fail under most salts. FNV-1a mixes the last bytes of a key too
// little, so the shares of sequential ids and of addresses are wrong. UUIDs, which are random, and emails, which end alike, have
// the right shares all the same.
func TestChecksOfSharesFindFNV(t *testing.T) {
	wrong := map[int]bool{} // by salt
	for _, kind := range kinds {
		keys, count, worst := list(kind.key, *keyCount/5), 0, 0.0
		for s := range salts {
			d := shareOff(points(fnv1a, salt(s), keys))
			if d > shareLimit {
				wrong[s] = true
				count++
			}
			worst = max(worst, d)
		}
		t.Logf("%d %s: wrong under %d of %d salts, at worst %.1f sigma off", len(keys), kind.name, count, salts, worst)
	}
	if len(wrong) <= salts/2 {
		t.Errorf("with FNV-1a the shares are found wrong under %d of %d salts only", len(wrong), salts)
	}
	keys, dependent := list(key, *keyCount/5), 0
	for s := range salts {
		if jointOff(points(fnv1a, salt(s), keys), points(fnv1a, salt(s+1), keys)) > jointLimit {
			dependent++
		}
	}
	if dependent <= salts/2 {
		t.Errorf("with FNV-1a %d of %d pairs of salts are found dependent only", dependent, salts)
	}
}

// fnv1a is the hash that cohort.Point must not have: FNV-1a of salt and key, without a last step that mixes.
func fnv1a(salt, key string) float64 {
	h := fnv.New64a()
	h.Write([]byte(salt + key))
	return float64(h.Sum64()>>11) / (1 << 53)
}

func salt(i int) string { return fmt.Sprint("salt-", i) }

func list(key func(int) string, n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = key(i)
	}
	return keys
}

func points(point pointer, salt string, keys []string) []float64 {
	points := make([]float64, len(keys))
	for i, key := range keys {
		points[i] = point(salt, key)
	}
	return points
}

// shareOff returns how many standard deviations the worst of the weights differs from the share of the points below the weight.
func shareOff(points []float64) (worst float64) {
	for _, w := range weights {
		n := 0
		for _, p := range points {
			if p < w {
				n++
			}
		}
		worst = max(worst, sigmas(n, len(points), w))
	}
	return worst
}

// jointOff is shareOff for the keys that are in two cohorts, for some pairs of weights. a and b are the points of the same keys
// under two salts.
func jointOff(a, b []float64) (worst float64) {
	for _, w := range [][2]float64{{0.05, 0.05}, {0.25, 0.1}, {0.5, 0.5}} {
		n := 0
		for i := range a {
			if a[i] < w[0] && b[i] < w[1] {
				n++
			}
		}
		worst = max(worst, sigmas(n, len(a), w[0]*w[1]))
	}
	return worst
}

// sigmas returns by how many standard deviations n differs from the share w of total.
func sigmas(n, total int, w float64) float64 {
	return math.Abs(float64(n)-float64(total)*w) / math.Sqrt(float64(total)*w*(1-w))
}
