package pidfile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The pid file appears as a whole, is found out to be impossible before it is needed, and is removed by its owner only.
func TestPIDFileIsAtomic(t *testing.T) {
	dir := t.TempDir()
	p := New(filepath.Join(dir, "pid"))
	if err := p.Stage(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(p.path); err == nil {
		t.Fatal("the pid file is there before it is published")
	}
	if err := p.Publish(); err != nil || !p.Owned() {
		t.Fatalf("publish: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := os.WriteFile(p.path, []byte("1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.Remove()
	if _, err := os.Stat(p.path); err != nil {
		t.Error("removed the pid file of another process")
	}
	if err := New(dir).Stage(); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("directory: %v", err)
	}
	none := New("")
	if err := errors.Join(none.Stage(), none.Publish()); err != nil {
		t.Errorf("without a path: %v", err)
	}
	none.Remove()
}

// A staged pid file is staged again if it has gone, so that a check finds out what the commit would.
func TestStagedPIDFileIsLookedAtAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	p := New(filepath.Join(dir, "pid"))
	for range 2 {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := p.Stage(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(p.stagedBy(os.Getpid())); err != nil {
			t.Errorf("it is not staged: %v", err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Stage(); err == nil {
		t.Error("it is staged in a directory that has gone")
	}
}
