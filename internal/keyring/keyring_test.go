package keyring_test

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/midair-go/midair/internal/keyring"
)

// key is a key with a note of who made it.
type key struct{ secret, maker string }

func (k key) Secret() string { return k.secret }

// list makes a key of each letter.
func list(maker, letters string) (keys []key) {
	for _, l := range letters {
		keys = append(keys, key{string(l), maker})
	}
	return keys
}

// letters are the secrets of keys.
func letters(keys []key) string {
	var b strings.Builder
	for _, k := range keys {
		b.WriteString(k.secret)
	}
	return b.String()
}

// The keys are in the order of the lists, each secret once where it comes first, and the last ones go.
func TestKeysAreInTheOrderOfTheLists(t *testing.T) {
	for _, c := range []struct {
		most  int
		lists []string
		want  string
	}{
		{8, nil, ""},
		{8, []string{"", ""}, ""},
		{8, []string{"abc"}, "abc"},
		{8, []string{"b", "abc"}, "bac"},
		{8, []string{"aab", "ba", "cab"}, "abc"},
		{3, []string{"ab", "cd"}, "abc"},
		{3, []string{"aaaa", "bbbb", "cd"}, "abc"},
		{0, []string{"ab"}, ""},
	} {
		var r keyring.Ring[key]
		var lists [][]key
		for _, l := range c.lists {
			lists = append(lists, list("", l))
		}
		if got := letters(r.Set(c.most, lists...)); got != c.want || letters(r.Keys()) != c.want {
			t.Errorf("most %d, %q: %q, then %q, want %q", c.most, c.lists, got, letters(r.Keys()), c.want)
		}
	}
}

// Of two keys with the same secret the first stays, with all that was derived from it.
func TestTheFirstOfTwoEqualKeysStays(t *testing.T) {
	var r keyring.Ring[key]
	r.Set(8, list("mine", "ab"), list("theirs", "bc"))
	want := []key{{"a", "mine"}, {"b", "mine"}, {"c", "theirs"}}
	if got := r.Keys(); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	for _, k := range list("nobody", "abc") {
		if !keyring.Contains(r.Keys(), k) {
			t.Errorf("%v is not there", k)
		}
	}
	if keyring.Contains(r.Keys(), key{"d", "mine"}) || keyring.Contains(nil, key{}) {
		t.Error("a key is there that was never set")
	}
}

// A Ring has no keys before the first Set, which a caller can tell from keys.
func TestTheZeroRingHasNoKeys(t *testing.T) {
	var r keyring.Ring[key]
	if keys := r.Keys(); keys != nil {
		t.Errorf("%v", keys)
	}
}

// Processes that send their keys to and fro have the same keys after the first time, and no more after the thousandth.
func TestKeysThatAreSentAgainChangeNothing(t *testing.T) {
	var a, b keyring.Ring[key]
	a.Set(8, list("a", "xy"))
	b.Set(8, list("b", "yz"))
	var first string
	for i := range 1000 {
		b.Set(8, a.Keys(), b.Keys())
		a.Set(8, b.Keys(), a.Keys())
		if i == 0 {
			first = letters(a.Keys())
		}
		if got := letters(b.Keys()); got != first || letters(a.Keys()) != first || len(got) != 3 {
			t.Fatalf("time %d: %q and %q, after the first time %q", i, letters(a.Keys()), got, first)
		}
	}
}

// Whoever has read the keys can go on with them: neither a later Set nor a change of a list reaches them.
func TestKeysThatWereReadDoNotChange(t *testing.T) {
	var r keyring.Ring[key]
	mine := list("mine", "abc")
	r.Set(8, mine)
	read := r.Keys()
	mine[0].secret = "x"
	r.Set(8, list("mine", "z"), read)
	if got := letters(read); got != "abc" {
		t.Errorf("%q was read, and is %q now", "abc", got)
	}
}

// A request that reads while keys are changed gets one list or the other, never a mixture.
func TestReadersGetAWholeList(t *testing.T) {
	var r keyring.Ring[key]
	lists := [][]key{list("", "abcdef"), list("", "uvwxyz")}
	r.Set(8, lists[0])
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 1000 {
				if got := letters(r.Keys()); got != "abcdef" && got != "uvwxyz" {
					t.Errorf("%q", got)
				}
			}
		})
	}
	for i := range 1000 {
		r.Set(8, lists[i%2])
	}
	all.Wait()
}

// Reading the keys allocates nothing: every request does it.
func TestReadingAllocatesNothing(t *testing.T) {
	var r keyring.Ring[key]
	r.Set(8, list("", "ab"))
	n := 0
	if allocs := testing.AllocsPerRun(1000, func() { n += len(r.Keys()) }); allocs != 0 || n == 0 {
		t.Errorf("%v allocations, %d keys", allocs, n)
	}
}

// Each secret is new, and as long as it is said to be.
func TestSecretsAreNew(t *testing.T) {
	a, b := keyring.NewSecret(), keyring.NewSecret()
	if a == b || len(a) != keyring.SecretSize || len(b) != keyring.SecretSize || strings.Count(a, a[:1]) == len(a) {
		t.Errorf("%x and %x", a, b)
	}
}

// BenchmarkKeys is what a request pays for the keys, also while other requests read them.
func BenchmarkKeys(b *testing.B) {
	var r keyring.Ring[key]
	r.Set(8, list("", "ab"))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if len(r.Keys()) != 2 {
				b.Error("keys are missing")
			}
		}
	})
}
