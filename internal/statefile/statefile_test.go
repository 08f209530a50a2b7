//go:build unix

package statefile_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/filelock"
	"github.com/midair-go/midair/internal/statefile"
	"github.com/midair-go/midair/internal/testutil"
)

const patience = 30 * time.Second

func file(path string) statefile.File { return statefile.File{Path: path, LockWait: patience} }

// add adds 1 to the number in a file. Behind the number there are 5,000 bytes, so that a part of a file would be seen.
func add(f statefile.File) error {
	return f.Update(func(old []byte, err error) ([]byte, error) {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		n, err := number(old)
		return fmt.Appendf(nil, "%d%5000s.", n+1, ""), err
	})
}

func number(data []byte) (int, error) {
	if len(data) == 0 {
		return 0, nil
	}
	text := string(data)
	if !strings.HasSuffix(text, ".") {
		return 0, fmt.Errorf("a part of a file: %d bytes", len(text))
	}
	return strconv.Atoi(strings.TrimRight(text, " ."))
}

// adderRole adds TIMES to the file in FILE, and says each number of an addition that was acknowledged.
func adderRole() int {
	times, err := strconv.Atoi(os.Getenv("TIMES"))
	if err != nil {
		return 2
	}
	f := file(os.Getenv("FILE"))
	f.Step = testutil.Fault
	for i := range times {
		if err := add(f); err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println("acknowledged", i+1)
	}
	return 0
}

func adder(t *testing.T, path string, times int, faults ...string) *testutil.Proc {
	return testutil.Start(t, "adder", testutil.Cfg{
		Env: []string{"FILE=" + path, "TIMES=" + strconv.Itoa(times), testutil.FaultEnv(faults...)},
	})
}

func stored(t *testing.T, path string) int {
	t.Helper()
	data, err := file(path).Read()
	if errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	n, bad := number(data)
	if err := errors.Join(err, bad); err != nil {
		t.Fatal(err)
	}
	return n
}

// Processes that change a file at once lose no change.
func TestProcessesLoseNoChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	const times = 100
	var all []*testutil.Proc
	for range 3 {
		all = append(all, adder(t, path, times))
	}
	for _, p := range all {
		if code, err := p.Wait(patience); code != 0 || err != nil {
			t.Fatalf("exit %d, %v: %s", code, err, p.Output())
		}
	}
	if n := stored(t, path); n != 3*times {
		t.Errorf("%d of %d changes", n, 3*times)
	}
}

// A process that is killed between any two steps of a write leaves the old content or the new content, and the next change goes on
// from there.
func TestDeathAtEachStepLeavesAReadableFile(t *testing.T) {
	for _, step := range []struct {
		name string
		n    int // what the file has after the death
	}{{"locked", 1}, {"created", 1}, {"written", 1}, {"synced", 1}, {"renamed", 2}} {
		path := filepath.Join(t.TempDir(), "state")
		if err := add(file(path)); err != nil {
			t.Fatal(err)
		}
		p := adder(t, path, 1, testutil.FaultSpec(step.name, "kill", ""))
		if code, err := p.Wait(patience); code != 128+9 || err != nil {
			t.Fatalf("%s: exit %d, %v: %s", step.name, code, err, p.Output())
		}
		if n := stored(t, path); n != step.n {
			t.Errorf("killed after %s: the file has %d, want %d", step.name, n, step.n)
		}
		if err := add(file(path)); err != nil || stored(t, path) != step.n+1 {
			t.Errorf("killed after %s: the next change: %v, the file has %d", step.name, err, stored(t, path))
		}
		onlyStateAndLock(t, path)
	}
}

// A process that is killed at any moment has every change in the file that was acknowledged to it.
func TestKilledProcessesLoseNothingAcknowledged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	rounds := 10
	if testing.Short() {
		rounds = 3
	}
	for round := range rounds {
		before := stored(t, path)
		p := adder(t, path, 1<<30)
		p.WaitOutput(patience, fmt.Sprintln("acknowledged", 3*round+1))
		p.Kill()
		acknowledged := strings.Count(p.Output(), "\n")
		if n := stored(t, path) - before; n < acknowledged || n > acknowledged+1 {
			t.Errorf("%d changes are in the file, %d were acknowledged", n, acknowledged)
		}
	}
}

// A process that stops while it holds the lock costs others a bounded wait, and an error that names the lock.
func TestWaitForTheLockIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	p := adder(t, path, 1, testutil.FaultSpec("created", "hang", ""))
	p.WaitOutput(patience, "fault created hang")
	f := statefile.File{Path: path, LockWait: 20 * time.Millisecond}
	if err := add(f); err == nil || !strings.Contains(err.Error(), path+".lock for 20ms") {
		t.Error(err)
	}
	p.Kill()
	if err := add(file(path)); err != nil || stored(t, path) != 1 {
		t.Errorf("%v, %d", err, stored(t, path))
	}
}

// A change that returns an error leaves the file, and what was there is passed to the next change.
func TestFailedChangeLeavesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	if err := add(file(path)); err != nil {
		t.Fatal(err)
	}
	no := errors.New("no")
	if err := file(path).Update(func([]byte, error) ([]byte, error) { return nil, no }); !errors.Is(err, no) || stored(t, path) != 1 {
		t.Errorf("%v, %d", err, stored(t, path))
	}
	onlyStateAndLock(t, path)
}

// Neither the file nor what lies beside it is followed if it is a symbolic link: its target stays as it is. All files are for
// their owner only.
func TestNoLinkIsFollowed(t *testing.T) {
	dir := t.TempDir()
	path, target := filepath.Join(dir, "state"), filepath.Join(dir, "target")
	for _, err := range []error{
		os.WriteFile(target, []byte("mine"), 0o644), os.Symlink(target, path), os.Symlink(target, path+".part"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := file(path).Read(); !errors.Is(err, statefile.ErrUnfit) || !strings.Contains(err.Error(), path+" is no file of this library: it is a symbolic link") {
		t.Error(err)
	}
	replace := func([]byte, error) ([]byte, error) { return []byte("1."), nil }
	if err := file(path).Update(replace); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(target); string(data) != "mine" || err != nil {
		t.Errorf("the target has %q, %v", data, err)
	}
	for _, name := range []string{path, path + ".lock"} {
		if info, err := os.Lstat(name); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if err := errors.Join(os.Remove(path+".lock"), os.Symlink(target, path+".lock")); err != nil {
		t.Fatal(err)
	}
	if err := file(path).Update(replace); err == nil {
		t.Error("the lock file is a link that was followed")
	}
}

// What cannot be the file is refused: without waiting for a pipe, and without reading the whole of a large file.
func TestWhatIsNoFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	large, pipe := filepath.Join(dir, "large"), filepath.Join(dir, "pipe")
	if err := errors.Join(os.WriteFile(large, nil, 0o600), os.Truncate(large, 1<<40), syscall.Mkfifo(pipe, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, large, pipe} {
		if data, err := file(path).Read(); !errors.Is(err, statefile.ErrUnfit) || !strings.Contains(err.Error(), path) || data != nil {
			t.Errorf("%s: %d bytes, %v", path, len(data), err)
		}
	}
	if err := file(dir).Update(func([]byte, error) ([]byte, error) { return nil, nil }); err == nil {
		t.Error("a directory was replaced")
	}
	if _, err := os.Lstat(dir + ".part"); err == nil {
		t.Error("the part file is left")
	}
	if _, err := file(filepath.Join(dir, "none")).Read(); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func onlyStateAndLock(t *testing.T, path string) {
	t.Helper()
	if left, err := filepath.Glob(path + "*"); err != nil || len(left) != 2 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// A lock that another part of this process holds is waited for too.
func TestGoroutinesTakeTurns(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	lock, err := filelock.Acquire(t.Context(), path+".lock")
	if err != nil {
		t.Fatal(err)
	}
	if err := add(statefile.File{Path: path, LockWait: time.Millisecond}); err == nil {
		t.Error("a change without the lock")
	}
	lock.Close()
	if err := add(file(path)); err != nil {
		t.Error(err)
	}
}
