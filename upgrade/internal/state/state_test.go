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

// text is a value whose methods return the error refuse, or panic if boom is true.
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
	f, _, err := k.Snapshot(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// The bytes for a name restore the value of the same name. Keep may be called before or after Receive. Bytes for other names
// are ignored.
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

// If a value returns an error or panics, the error has the name of the value. The other values are restored.
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
		if _, _, err := k.Snapshot(nil); err == nil || !strings.Contains(err.Error(), `keep "bad"`) {
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

// The sender and the receiver refuse state that is too large. The error has the sizes.
func TestStateHasALimit(t *testing.T) {
	k := NewKeeper(100)
	k.Keep("big", &text{s: strings.Repeat("x", 200)})
	if _, _, err := k.Snapshot(nil); err == nil || !strings.Contains(err.Error(), `"big"`) || !strings.Contains(err.Error(), "StateLimit 100") {
		t.Errorf("sender: %v", err)
	}
	f := snapshotOf(t, map[string]Value{"big": &text{s: strings.Repeat("x", 200)}})
	if err := NewKeeper(100).Receive(f); err == nil || !strings.Contains(err.Error(), "StateLimit 100") {
		t.Errorf("receiver: %v", err)
	}
}

func TestNothingKeptIsNoFile(t *testing.T) {
	if f, _, err := NewKeeper(100).Snapshot(nil); f != nil || err != nil {
		t.Fatalf("%v, %v", f, err)
	}
}

func stateBytes(t testing.TB) []byte {
	t.Helper()
	k := NewKeeper(1 << 20)
	k.Keep("name", &text{s: "data"})
	f, _, err := k.Snapshot(nil)
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

// stateWith returns the bytes of state that has the given number of entries at its beginning, and then the entries.
func stateWith(n int, entries ...entry) []byte {
	b := head(n)
	for _, e := range entries {
		b = append(append(b, e.head()...), e.data...)
	}
	return format.Seal(b)
}

// The bytes of state stay the same, because other versions of the library must be able to read them.
func TestStateBytesAreFixed(t *testing.T) {
	want := "midair\x00\x01" + "\x00\x00\x00\x01" + "\x00\x00\x00\x04name" + "\x00\x00\x00\x00\x00\x00\x00\x04data"
	if got := stateBytes(t); !bytes.HasPrefix(got, []byte(want)) || len(got) != len(want)+32 {
		t.Fatalf("%q", got)
	}
}

// If any bit is changed or any byte is missing, the state is refused.
func TestDamagedStateIsRefused(t *testing.T) {
	b := stateBytes(t)
	if _, err := decode(bytes.NewReader(b), int64(len(b))); err != nil {
		t.Fatal(err)
	}
	refused := func(b []byte) bool {
		_, err := decode(bytes.NewReader(b), int64(len(b)))
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

// For state of a later version of the library or of another kind, the error has advice. State with more entries than its number
// of entries is refused.
func TestLaterStateIsRefused(t *testing.T) {
	later := kept.Format{Magic: format.Magic, Version: format.Version + 1}
	for name, c := range map[string]struct {
		b    []byte
		want string
	}{
		"later":   {later.Seal(later.Begin()), "of a later format: stop and start the service"},
		"foreign": {[]byte("something else"), "not of this kind"},
		"more":    {stateWith(0, entry{name: "name"}), "damaged: stop and start the service once instead of upgrading: bytes after the last entry"},
		"less":    {stateWith(2, entry{name: "name"}), "damaged"},
	} {
		if _, err := decode(bytes.NewReader(c.b), int64(len(c.b))); err == nil || !strings.Contains(err.Error(), "read state: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// A file that its sender can still change is refused.
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
