package state

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/midair-go/midair/internal/kept"
	"github.com/midair-go/midair/internal/sys"
)

// text is a value to keep; what it is told to refuse it refuses.
type text struct {
	s      string
	refuse error
	boom   bool
}

func (v *text) MarshalBinary() ([]byte, error) {
	if v.boom {
		panic("boom")
	}
	return []byte(v.s), v.refuse
}

func (v *text) UnmarshalBinary(b []byte) error {
	if v.boom {
		panic("boom")
	}
	v.s = string(b)
	return v.refuse
}

func snapshotOf(t *testing.T, values map[string]Value) *os.File {
	t.Helper()
	k := NewKeeper(1 << 20)
	for name, v := range values {
		k.Keep(name, v)
	}
	f, err := k.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// Values go to the value of the same name, whether it was kept before or after they came; the others are ignored.
func TestStateFindsItsValue(t *testing.T) {
	f := snapshotOf(t, map[string]Value{"a": &text{s: "one"}, "b": &text{s: ""}, "gone": &text{s: "x"}})
	k := NewKeeper(1 << 20)
	before, after, fresh := &text{}, &text{s: "old"}, &text{s: "default"}
	k.Keep("a", before)
	if err := k.Receive(f); err != nil {
		t.Fatal(err)
	}
	k.Keep("b", after)
	k.Keep("new in this version", fresh)
	if before.s != "one" || after.s != "" || fresh.s != "default" || k.Err() != nil {
		t.Fatalf("%q %q %q %v", before.s, after.s, fresh.s, k.Err())
	}
}

// A value that refuses or panics does so by name, and the others are restored all the same.
func TestRefusalsAreNamed(t *testing.T) {
	f := snapshotOf(t, map[string]Value{"bad": &text{s: "1"}, "good": &text{s: "2"}})
	for name, bad := range map[string]*text{"error": {refuse: errors.New("too new")}, "panic": {boom: true}} {
		k := NewKeeper(1 << 20)
		good := &text{}
		k.Keep("bad", bad)
		k.Keep("good", good)
		if err := k.Receive(f); err == nil || !strings.Contains(err.Error(), `keep "bad"`) {
			t.Errorf("%s: %v", name, err)
		}
		if good.s != "2" {
			t.Errorf("%s: the other value is %q", name, good.s)
		}
		if _, err := k.Snapshot(); err == nil || !strings.Contains(err.Error(), `keep "bad"`) {
			t.Errorf("%s: snapshot: %v", name, err)
		}
	}
	k := NewKeeper(1 << 20)
	k.Keep("twice", &text{})
	k.Keep("twice", &text{})
	if err := k.Err(); err == nil || !strings.Contains(err.Error(), `"twice"`) {
		t.Errorf("a name used twice: %v", err)
	}
}

// State that is too large is refused by its sender and by its receiver, with the numbers.
func TestStateHasALimit(t *testing.T) {
	k := NewKeeper(100)
	k.Keep("big", &text{s: strings.Repeat("x", 200)})
	if _, err := k.Snapshot(); err == nil || !strings.Contains(err.Error(), `"big"`) || !strings.Contains(err.Error(), "StateLimit 100") {
		t.Errorf("sender: %v", err)
	}
	f := snapshotOf(t, map[string]Value{"big": &text{s: strings.Repeat("x", 200)}})
	if err := NewKeeper(100).Receive(f); err == nil || !strings.Contains(err.Error(), "StateLimit 100") {
		t.Errorf("receiver: %v", err)
	}
}

func TestNothingKeptIsNoFile(t *testing.T) {
	if f, err := NewKeeper(100).Snapshot(); f != nil || err != nil {
		t.Fatalf("%v, %v", f, err)
	}
}

func stateBytes(t testing.TB) []byte {
	t.Helper()
	k := NewKeeper(1 << 20)
	k.Keep("name", &text{s: "data"})
	f, err := k.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The bytes of state are a contract with other versions of the library.
func TestStateBytesAreFixed(t *testing.T) {
	want := "midair\x00\x01" + "\x00\x00\x00\x01" + "\x00\x00\x00\x04name" + "\x00\x00\x00\x00\x00\x00\x00\x04data"
	if got := stateBytes(t); !bytes.HasPrefix(got, []byte(want)) || len(got) != len(want)+32 {
		t.Fatalf("%q", got)
	}
}

// One flipped bit or one missing byte anywhere is noticed.
func TestDamagedStateIsRefused(t *testing.T) {
	b := stateBytes(t)
	if _, err := decode(b); err != nil {
		t.Fatal(err)
	}
	refused := func(b []byte) bool {
		_, err := decode(b)
		return errors.Is(err, kept.ErrDamaged) || errors.Is(err, kept.ErrForeign)
	}
	for i := range b {
		damaged := bytes.Clone(b)
		damaged[i] ^= 1
		if !refused(damaged) {
			t.Fatalf("byte %d flipped", i)
		}
		if !refused(b[:i]) {
			t.Fatalf("cut at %d", i)
		}
	}
}

// A state of a later version of the library, or of another kind, says what to do; more entries than were announced are
// refused.
func TestLaterStateIsRefused(t *testing.T) {
	later := kept.Format{Magic: format.Magic, Version: format.Version + 1}
	for name, c := range map[string]struct {
		b    []byte
		want string
	}{
		"later":   {later.Seal(later.Begin()), "of a later format: stop and start the service"},
		"foreign": {[]byte("something else"), "not of this kind"},
		"more":    {format.Seal(appendEntry(begin(0), "name", nil)), "damaged: stop and start the service once instead of upgrading: bytes after the last entry"},
		"less":    {format.Seal(appendEntry(begin(2), "name", nil)), "damaged"},
	} {
		if _, err := decode(c.b); err == nil || !strings.Contains(err.Error(), "read state: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// A file that its sender could still change is refused.
func TestUnsealedStateIsRefused(t *testing.T) {
	f, err := sys.MemFile("state")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(stateBytes(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := read(f, 1<<20); err == nil || !strings.Contains(err.Error(), "not sealed") {
		t.Fatalf("%v", err)
	}
	sealedFile := snapshotOf(t, map[string]Value{"a": &text{}})
	if _, err := sealedFile.WriteAt([]byte("x"), 0); err == nil {
		t.Fatal("state can be written after it was sent")
	}
}
