package state

import (
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// counting is a value that counts its changes, and the calls of its methods.
type counting struct {
	text
	changes              uint64
	marshals, unmarshals int
	boom                 bool // Changes panics
}

func (c *counting) Changes() uint64 {
	if c.boom {
		panic("boom")
	}
	return c.changes
}

func (c *counting) MarshalBinary() ([]byte, error) {
	c.marshals++
	return c.text.MarshalBinary()
}

func (c *counting) UnmarshalBinary(b []byte) error {
	c.unmarshals++
	return c.text.UnmarshalBinary(b)
}

// mustSnapshot returns the names in the file of a snapshot, and the marks of the snapshot.
func mustSnapshot(t *testing.T, k *Keeper, sent Marks) (names []string, marks Marks) {
	t.Helper()
	f, marks, err := k.Snapshot(sent)
	if err != nil {
		t.Fatal(err)
	}
	if f == nil {
		return nil, marks
	}
	defer f.Close()
	values, err := read(f, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Sorted(maps.Keys(values)), marks
}

// A second snapshot has only the values with other bytes than in the first. It has no file if all bytes are the same.
func TestOnlyChangedValuesAreSentAgain(t *testing.T) {
	k := NewKeeper(1 << 20)
	values := map[string]*text{"a": {s: "one"}, "b": {s: "two"}, "c": {}}
	for _, name := range []string{"a", "b", "c"} {
		k.Keep(name, values[name])
	}
	names, first := mustSnapshot(t, k, nil)
	if !slices.Equal(names, []string{"a", "b", "c"}) {
		t.Fatalf("the first snapshot has %q", names)
	}
	if names, _ := mustSnapshot(t, k, first); names != nil {
		t.Errorf("nothing has changed, and %q is sent", names)
	}
	for _, change := range []string{"owt", "two and more", ""} { // the same length, another length, nothing
		values["b"].s = change
		if names, _ := mustSnapshot(t, k, first); !slices.Equal(names, []string{"b"}) {
			t.Errorf("b is %q now, and %q is sent", change, names)
		}
	}
	values["b"].s = "two"
	if names, _ := mustSnapshot(t, k, first); names != nil {
		t.Errorf("b is as before, and %q is sent", names)
	}
	k.Keep("new", &text{})
	if names, _ := mustSnapshot(t, k, first); !slices.Equal(names, []string{"new"}) {
		t.Errorf("the receiver does not have new, and %q is sent", names)
	}
	if names, _ := mustSnapshot(t, k, nil); len(names) != 4 {
		t.Errorf("another receiver has nothing, and only %q is sent", names)
	}
}

// A value whose count of changes is the same as before is neither marshalled nor sent. A value with another count is marshalled,
// and sent if its bytes have changed.
func TestCountedValueIsMarshalledOnlyAfterAChange(t *testing.T) {
	k := NewKeeper(1 << 20)
	v := &counting{text: text{s: "one"}, changes: 7}
	k.Keep("a", v)
	_, first := mustSnapshot(t, k, nil)
	step := func(what string, marshals int, sent bool) {
		t.Helper()
		v.marshals = 0
		names, _ := mustSnapshot(t, k, first)
		if v.marshals != marshals || (names != nil) != sent {
			t.Errorf("%s: marshalled %d times, sent %q", what, v.marshals, names)
		}
	}
	step("the same count", 0, false)
	v.changes++
	step("another count and the same bytes", 1, false)
	v.s = "two"
	step("another count and other bytes", 1, true)
	v.changes = 0
	step("a lower count", 1, true)
	v.changes = 7
	step("a count that hides a change", 0, false) // the value has promised this
	v.marshals = 0
	if names, _ := mustSnapshot(t, k, nil); names == nil || v.marshals != 1 {
		t.Errorf("another receiver has nothing: marshalled %d times, sent %q", v.marshals, names)
	}
}

// A change between Changes and the end of MarshalBinary is sent with the next snapshot.
func TestChangeDuringTheSnapshotIsNotLost(t *testing.T) {
	k := NewKeeper(1 << 20)
	v := &moving{counting: counting{text: text{s: "one"}}}
	k.Keep("a", v)
	_, first := mustSnapshot(t, k, nil)
	if names, _ := mustSnapshot(t, k, first); names == nil {
		t.Errorf("the value is %q now, and is not sent", v.s)
	}
}

// moving is a value that changes after its bytes were copied, and before MarshalBinary returns.
type moving struct{ counting }

func (m *moving) MarshalBinary() ([]byte, error) {
	b, err := m.counting.MarshalBinary()
	m.s += " and more"
	m.changes++
	return b, err
}

// If Changes panics, the error has the name of the value, in the first snapshot and in the second one.
func TestPanicInChangesIsAnError(t *testing.T) {
	k := NewKeeper(1 << 20)
	v := &counting{}
	k.Keep("a", v)
	_, first := mustSnapshot(t, k, nil)
	v.boom = true
	for _, sent := range []Marks{nil, first} {
		if f, marks, err := k.Snapshot(sent); f != nil || marks != nil || err == nil || err.Error() != `keep "a": panic: boom` {
			t.Errorf("%v, %v, %v", f, marks, err)
		}
	}
}

// Values that are not sent again count for the limit of the state.
func TestUnsentValuesCountForTheLimit(t *testing.T) {
	k := NewKeeper(200)
	v := &text{}
	k.Keep("a", &counting{text: text{s: strings.Repeat("x", 100)}})
	k.Keep("b", v)
	_, first := mustSnapshot(t, k, nil)
	v.s = strings.Repeat("x", 100)
	if f, _, err := k.Snapshot(first); f != nil || err == nil || !strings.Contains(err.Error(), "StateLimit 200") {
		t.Errorf("%v", err)
	}
}

// A file without a value does not touch the value, and what an earlier file had for a value that is added later stays.
func TestUnsentValueStays(t *testing.T) {
	old, k := NewKeeper(1<<20), NewKeeper(1<<20)
	a, b := &text{s: "one"}, &text{s: "two"}
	old.Keep("a", a)
	old.Keep("b", b)
	old.Keep("late", &text{s: "three"})
	newA, newB, late := &counting{}, &counting{}, &text{}
	k.Keep("a", newA)
	k.Keep("b", newB)
	var marks Marks
	for range 2 {
		f, m, err := old.Snapshot(marks)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := k.Receive(f); err != nil {
			t.Fatal(err)
		}
		newA.s, b.s, marks = "changed in the new process", "changed in the old process", m
	}
	k.Keep("late", late)
	if newA.unmarshals != 1 || newA.s != "changed in the new process" || newB.unmarshals != 2 || newB.s != "changed in the old process" || late.s != "three" {
		t.Errorf("%+v, %+v, %+v", newA, newB, late)
	}
}

// large is a value that returns its own memory from MarshalBinary, and keeps nothing of what it gets.
type large struct{ b []byte }

func (l large) MarshalBinary() ([]byte, error) { return l.b, nil }
func (large) UnmarshalBinary([]byte) error     { return nil }

// allocated returns the number of bytes that fn allocates.
func allocated(fn func()) int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}

// Snapshot makes no copy of what MarshalBinary returns, and Receive makes the one copy that UnmarshalBinary gets.
func TestStateIsCopiedOnce(t *testing.T) {
	const size = 8 << 20
	const rest = 1 << 20 // for everything that does not grow with the state, with a wide margin
	for _, parts := range []int{1, 16, 1024} {
		old, k := NewKeeper(2*size), NewKeeper(2*size)
		for i := range parts {
			name, v := strings.Repeat("x", i+1), large{make([]byte, size/parts)}
			old.Keep(name, v)
			k.Keep(name, v)
		}
		var f *os.File
		var marks Marks
		var err error
		if got := allocated(func() { f, marks, err = old.Snapshot(nil) }); err != nil || got > rest+rest {
			t.Errorf("%d values: Snapshot allocates %d bytes: %v", parts, got, err)
		}
		defer f.Close()
		if got := allocated(func() { err = k.Receive(f) }); err != nil || got < size || got > size+3*rest {
			t.Errorf("%d values: Receive allocates %d bytes: %v", parts, got, err)
		}
		if got := allocated(func() { _, _, err = old.Snapshot(marks) }); err != nil || got > rest {
			t.Errorf("%d values: a Snapshot without changes allocates %d bytes: %v", parts, got, err)
		}
	}
}

// The bytes of a large value are collected when the value is restored, before a commit can bring it again. Small values start no
// collection.
func TestBytesOfLargeValuesAreCollected(t *testing.T) {
	collections := func() uint32 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.NumForcedGC
	}
	for _, size := range []int{1 << 10, largeSize} {
		v := large{make([]byte, size)}
		old, k := NewKeeper(2*largeSize), NewKeeper(2*largeSize)
		old.Keep("a", v)
		f, _, err := old.Snapshot(nil)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		before := collections()
		k.Keep("a", v)
		if err := k.Receive(f); err != nil {
			t.Fatal(err)
		}
		if size == largeSize {
			testutil.Until(t, 10*time.Second, "the bytes are collected", func() bool { return collections() > before })
		} else if n := collections() - before; n > 0 {
			t.Errorf("%d bytes start %d collections", size, n)
		}
	}
}
