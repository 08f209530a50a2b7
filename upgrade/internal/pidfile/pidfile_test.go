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

// The pid file appears as a whole. If it cannot be written, Stage returns an error before the commit. Only the process that the
// file names removes it.
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

// If the staged pid file is gone, Stage stages a new file. So a check before the commit finds the errors that Publish would
// find.
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

// stagedIn returns the names of the hidden files in a directory, which are the staged files.
func stagedIn(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// mustHold fails the test unless the file at path is a regular file with this content and with one name only.
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

// ownPID returns the content that the pid file of this process must have.
func ownPID() string { return strconv.Itoa(os.Getpid()) + "\n" }

// If another process has removed the staged file, Stage and Publish stage a new file.
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

// If the path leads to another directory now, the file is staged there, and no staged file is left in the old directory.
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

// Discard removes the staged files of the given process. It does not remove files with similar names.
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

// All methods may be called at the same time. In the end every file is whole, and no staged file is left.
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
