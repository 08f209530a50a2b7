package follow_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/internal/follow"
)

// newSet returns two files that a set has seen with the contents "a1" and "b1".
func newSet(t *testing.T) follow.Set {
	t.Helper()
	dir := t.TempDir()
	s := follow.Set{{Path: filepath.Join(dir, "a")}, {Path: filepath.Join(dir, "b")}}
	write(t, s[0].Path, "a1")
	write(t, s[1].Path, "b1")
	setSees(t, s, false, "a1 b1")
	return s
}

// setSees looks at the set once. It fails unless the look returns the contents. If want is empty, the look must return nothing new.
func setSees(t *testing.T, s follow.Set, always bool, want string) {
	t.Helper()
	contents, fresh, err := s.Look(always)
	if err != nil || fresh != (want != "") || string(bytes.Join(contents, []byte(" "))) != want {
		t.Errorf("Look returns %q, %v, %v, want %q", contents, fresh, err, want)
	}
}

// If one file changes, the contents of all files are returned, in their order.
func TestSetReturnsAllContents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSet(t)
		time.Sleep(follow.Settle)
		setSees(t, s, false, "")
		all(writes("b2"), ages)(t, s[1].Path)
		setSees(t, s, false, "a1 b2")
		time.Sleep(follow.Settle)
		setSees(t, s, false, "")
		all(replaces("a2"), ages)(t, s[0].Path)
		setSees(t, s, false, "a2 b2")
		for i, want := range []string{"a2 b2", "a2 b2"} {
			s[i].Pretend("zero")
			setSees(t, s, true, want)
		}
		setSees(t, s, true, "")
	})
}

// A change that keeps the stamp is found in each of the files.
func TestSetFindsAChangeThatKeepsTheStamp(t *testing.T) {
	for i := range 2 {
		synctest.Test(t, func(t *testing.T) {
			s := newSet(t)
			time.Sleep(follow.Settle)
			setSees(t, s, false, "")
			s[i].Pretend("zero")
			time.Sleep(follow.RestMin - time.Nanosecond)
			setSees(t, s, false, "")
			time.Sleep(time.Nanosecond)
			setSees(t, s, false, "a1 b1")
		})
	}
}

// The error names the file. After the error all contents are new.
func TestSetNamesTheFile(t *testing.T) {
	for i := range 2 {
		s := newSet(t)
		away(t, s[i].Path)
		_, fresh, err := s.Look(false)
		if failed := (*follow.Error)(nil); fresh || !errors.As(err, &failed) || failed.Path != s[i].Path || !errors.Is(err, os.ErrNotExist) {
			t.Errorf("Look returns %v, %v", fresh, err)
		}
		back(t, s[i].Path)
		setSees(t, s, false, "a1 b1")
	}
}

// If a file is replaced after its content was read, its content may not belong to the contents of the others.
func TestSetThatChangesDuringAReadIsFound(t *testing.T) {
	for i := range 2 {
		s := newSet(t)
		err := s.ReadWhile(func() { all(replaces("xx"), ages)(t, s[i].Path) })
		if !errors.Is(err, follow.ErrWriting) || !strings.HasPrefix(err.Error(), s[i].Path+": ") {
			t.Errorf("the read returns %v", err)
		}
		if err := s.ReadWhile(func() { remove(t, s[i].Path) }); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the read returns %v", err)
		}
	}
	must(t, newSet(t).ReadWhile(func() {}))
}

// While a writer replaces both files without a break, the contents that a look returns were in the files at the same time: the
// writer is at most one step further with the first file than with the second.
func TestSetIsReadAsAWhole(t *testing.T) {
	s := newSet(t)
	write(t, s[0].Path, "0")
	write(t, s[1].Path, "0")
	done := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() { // ends when done is closed
		for i := 1; ; i++ {
			for _, f := range s {
				replace(t, f.Path, fmt.Sprint(i))
			}
			select {
			case <-done:
				return
			default:
			}
		}
	})
	defer func() {
		close(done)
		writer.Wait()
	}()
	good := 0
	for i := 0; i < 1500 || good < 20 && i < 1_000_000; i++ {
		contents, fresh, err := s.Look(false)
		if err != nil && !strings.Contains(err.Error(), "somebody is writing it") {
			t.Fatal(err)
		}
		if !fresh {
			continue
		}
		good++
		var a, b int
		if _, err := fmt.Sscan(string(contents[0])+" "+string(contents[1]), &a, &b); err != nil || a != b && a != b+1 {
			t.Fatalf("the contents are %q: %v", contents, err)
		}
	}
	t.Logf("%d looks had a result", good)
}
