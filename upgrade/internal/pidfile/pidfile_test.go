package pidfile

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
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
	if err := p.Remove(); err != nil {
		t.Errorf("a pid file of another process: %v", err)
	}
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
	if err := none.Remove(); err != nil {
		t.Error(err)
	}
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
		if names := stagedIn(t, dir); len(names) != 1 {
			t.Errorf("staged: %v", names)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Stage(); err == nil {
		t.Error("it is staged in a directory that has gone")
	}
}

// stagedIn returns the names of hidden files in a directory: those that are staged.
func stagedIn(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// mustHold fails the test unless the file has the content, and is a file with one name.
func mustHold(t *testing.T, path, content string) {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() {
		t.Fatalf("%s: %v, %v", path, info, err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != content {
		t.Errorf("%s holds %q, %v; want %q", path, b, err, content)
	}
}

// ownPID is the content of the pid file of this process.
func ownPID() string { return strconv.Itoa(os.Getpid()) + "\n" }

// A staged file that somebody has removed is staged again, also by Publish.
func TestStagedFileThatIsGoneIsMadeAgain(t *testing.T) {
	dir := t.TempDir()
	p := New(filepath.Join(dir, "pid"))
	for _, act := range []func() error{p.Stage, p.Publish} {
		if err := p.Stage(); err != nil {
			t.Fatal(err)
		}
		for _, name := range stagedIn(t, dir) {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
		if err := act(); err != nil {
			t.Fatal(err)
		}
		if names := stagedIn(t, dir); p.staged.name != "" && len(names) != 1 {
			t.Errorf("staged: %v", names)
		}
	}
	mustHold(t, p.path, ownPID())
	if left := stagedIn(t, dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// What is staged goes to the directory that the path leads to now, and none is left in the one before.
func TestDirectoryThatWasReplacedIsNotUsed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	p := New(filepath.Join(dir, "pid"))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := p.Stage(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Rename(dir, dir+".away"), os.Mkdir(dir, 0o700), p.Publish()); err != nil {
		t.Fatal(err)
	}
	mustHold(t, p.path, ownPID())
	if left, err := os.ReadDir(dir + ".away"); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// Discard removes what the process has staged that it is asked for, and nothing that is called nearly so.
func TestDiscardTakesWhatTheProcessHasStaged(t *testing.T) {
	dir := t.TempDir()
	p := New(filepath.Join(dir, "pid"))
	stays := []string{
		"pid", "pid.last", ".pid", ".pid.4", ".pid.423", ".pid.423.ABCDEFGHIJKLM", ".pid.42.short", ".pid.42.ABCDEFGHIJKLMN",
		".pid.42.abcdefghijklm", ".pid.42.7.ABCDEFGHIJKLM", ".pid.42.last.ABCDEFGHIJKLM", ".other.42.ABCDEFGHIJKLM",
	}
	for _, name := range append([]string{".pid.42", ".pid.42.last", ".pid.42.ABCDEFGHIJKLM", ".pid.42.2345672345672"}, stays...) {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.Discard(42)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	slices.Sort(stays)
	if !slices.Equal(left, stays) {
		t.Errorf("left: %q, want %q", left, stays)
	}
}

// All methods may be called at once. Every file is whole in the end, and nothing is left.
func TestMethodsMayBeCalledAtOnce(t *testing.T) {
	dir := t.TempDir()
	p := New(filepath.Join(dir, "pid"))
	text := []byte(strings.Repeat("an outcome ", 500))
	var calls sync.WaitGroup
	for _, call := range []func() error{
		p.Stage, p.Publish, p.Reserve, func() error { return p.WriteLast(text) }, func() error { p.Discard(os.Getpid()); return nil },
		func() error { p.Discard(1 << 30); p.Owned(); p.Unreserve(); return nil },
	} {
		calls.Go(func() {
			for range 200 {
				if err := call(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	calls.Wait()
	p.Discard(os.Getpid())
	mustHold(t, p.path, ownPID())
	mustHold(t, p.path+lastSuffix, string(text))
	if left := stagedIn(t, dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
