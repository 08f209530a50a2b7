package keyring_test

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/midair-go/midair/internal/keyring"
)

// key is a key with the name of its maker.
type key struct{ secret, maker string }

func (k key) Secret() string { return k.secret }

// list returns keys of a maker: each letter is the secret of a key.
func list(maker, letters string) (keys []key) {
	for _, l := range letters {
		keys = append(keys, key{string(l), maker})
	}
	return keys
}

// letters returns the secrets of keys, one after the other.
func letters(keys []key) string {
	var b strings.Builder
	for _, k := range keys {
		b.WriteString(k.secret)
	}
	return b.String()
}

// The keys are in the order of the lists. Each secret stays only where it comes first. If there are too many keys, the last
// keys are left out.
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

// If two keys have the same secret, the Ring has the first key, and not the second, even if their other data differ.
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

// Before the first Set, Keys returns nil.
func TestTheZeroRingHasNoKeys(t *testing.T) {
	var r keyring.Ring[key]
	if keys := r.Keys(); keys != nil {
		t.Errorf("%v", keys)
	}
}

// Two processes that send their keys to each other have the same keys after the first time. The number of keys does not grow
// when the processes repeat this a thousand times.
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

// Keys that a caller has read do not change: neither by a later Set, nor when the lists are changed that Set has got.
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

// A request that reads the keys during a Set gets either the old keys or the new keys, and never a mixture.
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

// Reading the keys allocates nothing, because every request reads them.
func TestReadingAllocatesNothing(t *testing.T) {
	var r keyring.Ring[key]
	r.Set(8, list("", "ab"))
	n := 0
	if allocs := testing.AllocsPerRun(1000, func() { n += len(r.Keys()) }); allocs != 0 || n == 0 {
		t.Errorf("%v allocations, %d keys", allocs, n)
	}
}

// NewSecret returns another secret at each call, of SecretSize bytes.
func TestSecretsAreNew(t *testing.T) {
	a, b := keyring.NewSecret(), keyring.NewSecret()
	if a == b || len(a) != keyring.SecretSize || len(b) != keyring.SecretSize || strings.Count(a, a[:1]) == len(a) {
		t.Errorf("%x and %x", a, b)
	}
}

// BenchmarkKeys measures how long a request takes to read the keys, while other requests read them too.
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
