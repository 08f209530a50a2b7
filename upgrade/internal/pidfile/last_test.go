//go:build unix

package pidfile

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// The text beside the pid file is replaced as a whole. A reader that has opened the file before reads the whole old text. A
// reader that opens the file meanwhile reads the whole old text or the whole new text.
func TestLastTextIsReplacedWhole(t *testing.T) {
	p := New(filepath.Join(t.TempDir(), "pid"))
	texts := [][]byte{bytes.Repeat([]byte("a"), 100<<10), bytes.Repeat([]byte("b"), 70<<10)}
	if err := p.WriteLast(texts[0]); err != nil {
		t.Fatal(err)
	}
	before, err := os.Open(p.path + lastSuffix)
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	var reading sync.WaitGroup
	stop := make(chan struct{})
	reading.Go(func() {
		for {
			b, err := p.ReadLast()
			if err != nil || !bytes.Equal(b, texts[0]) && !bytes.Equal(b, texts[1]) {
				t.Errorf("%d bytes, %v", len(b), err)
				return
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	for i := range 100 {
		if err := p.WriteLast(texts[i%2]); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	reading.Wait()
	if old, err := io.ReadAll(before); err != nil || !bytes.Equal(old, texts[0]) {
		t.Errorf("the old text has %d bytes, %v", len(old), err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(p.path), ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// If a text cannot be written, the error has the name of the file. The old text stays, and no other file is left.
func TestFailedLastTextLeavesTheOldOne(t *testing.T) {
	dir := t.TempDir()
	gone := New(filepath.Join(dir, "gone", "pid"))
	if err := gone.WriteLast([]byte("x")); !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), gone.path+lastSuffix+": ") {
		t.Error(err)
	}
	p := New(filepath.Join(dir, "pid"))
	if err := os.MkdirAll(filepath.Join(p.path+lastSuffix, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := p.WriteLast([]byte("x")); err == nil {
		t.Error("a directory was replaced")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := New(filepath.Join(dir, "other")).ReadLast(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a text that nobody has written: %v", err)
	}
}
