//go:build unix

package state

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/sys"
)

// counted is a value that counts the calls of UnmarshalBinary.
type counted struct {
	text
	restored int
}

func (c *counted) UnmarshalBinary(b []byte) error {
	c.restored++
	return c.text.UnmarshalBinary(b)
}

// Each value is restored once from the received bytes. After Forget no value is restored.
func TestForgottenStateIsNotRestored(t *testing.T) {
	f := snapshotOf(t, map[string]Value{"a": &text{s: "one"}, "b": &text{s: "two"}})
	k := NewKeeper(1 << 20)
	before, after := &counted{}, &counted{}
	k.Keep("a", before)
	if err := k.Receive(f); err != nil {
		t.Fatal(err)
	}
	k.Forget()
	k.Keep("b", after)
	if before.restored != 1 || before.s != "one" || after.restored != 0 {
		t.Errorf("restored %d times to %q, and %d times", before.restored, before.s, after.restored)
	}
}

// Each value gets memory of its own for its bytes, and the Keeper does not have these bytes any more. So a value that writes into
// the bytes, or appends to them, changes nothing else, and the memory is free when the value does not need it.
func TestValueOwnsItsBytes(t *testing.T) {
	f := snapshotOf(t, map[string]Value{"a": &text{s: "one"}, "b": &text{s: "two"}, "late": &text{s: "three"}})
	k := NewKeeper(1 << 20)
	other, late := &text{}, &text{}
	k.Keep("a", spoiler{})
	k.Keep("b", other)
	if err := k.Receive(f); err != nil {
		t.Fatal(err)
	}
	if len(k.received) != 1 {
		t.Errorf("bytes of restored values are left: %q", k.received)
	}
	k.Keep("late", late)
	if other.s != "two" || late.s != "three" || len(k.received) != 0 {
		t.Errorf("%q, %q, left %q", other.s, late.s, k.received)
	}
}

// spoiler writes into the bytes that it gets, and behind them.
type spoiler struct{}

func (spoiler) MarshalBinary() ([]byte, error) { return nil, nil }

func (spoiler) UnmarshalBinary(b []byte) error {
	clear(b)
	clear(b[:cap(b)])
	return nil
}

// Err returns the first error, from Keep or from Refuse.
func TestFirstReasonCounts(t *testing.T) {
	k := NewKeeper(100)
	first := errors.New("first")
	k.Refuse(nil)
	k.Refuse(first)
	k.Refuse(errors.New("second"))
	k.Keep("a", &text{})
	k.Keep("a", &text{})
	if err := k.Err(); err != first {
		t.Error(err)
	}
}

// If a name is used twice, it belongs to the first value.
func TestNameBelongsToTheFirstValue(t *testing.T) {
	k := NewKeeper(1 << 20)
	k.Keep("a", &text{s: "first"})
	k.Keep("a", &text{s: "second"})
	f, _, err := k.Snapshot(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	values, err := read(f, 1<<20)
	if err != nil || len(values) != 1 || string(values["a"]) != "first" {
		t.Errorf("%q, %v", values, err)
	}
}

// ReadBuild returns the version and the arguments that WriteBuild has written. The arguments may have any content.
func TestBuildSurvivesItsFile(t *testing.T) {
	for _, args := range [][]string{{"service"}, {"service", "-flag", ""}, {"/a b/service", "ü", "line\nbreak", strings.Repeat("x", 1<<20)}} {
		f, err := WriteBuild(&process.Build{Version: "v1.2.3", Args: args, Env: []string{"A=1", "B="}})
		if err != nil {
			t.Fatal(err)
		}
		b, err := ReadBuild(f)
		if err != nil || b.Version != "v1.2.3" || !slices.Equal(b.Args, args) || !slices.Equal(b.Env, []string{"A=1", "B="}) || b.Exe != nil {
			t.Errorf("%+.200v, %v", b, err)
		}
		if err := f.Close(); err != nil {
			t.Errorf("the file was closed: %v", err)
		}
	}
}

// A file that its sender can still change, or that is closed, is refused as a build and as state.
func TestForeignBuildIsRefused(t *testing.T) {
	open, err := sys.MemFile("midair-test")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	closed, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for name, f := range map[string]*os.File{"open memory": open, "closed": closed} {
		if b, err := ReadBuild(f); err == nil || b != nil || !strings.HasPrefix(err.Error(), "read state: ") {
			t.Errorf("%s: %+v, %v", name, b, err)
		}
		if err := NewKeeper(100).Receive(f); err == nil {
			t.Errorf("%s: it is received", name)
		}
	}
}
