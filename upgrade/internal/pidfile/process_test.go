//go:build linux

package pidfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

const patience = 60 * time.Second

func TestMain(m *testing.M) {
	roles := map[string]func() int{"publishes": role(publishes), "is killed": role(isKilled)}
	if os.Geteuid() == 0 { // only root runs the test that starts this process
		roles["drops"] = role(drops)
	}
	testutil.Main(m, roles)
}

// role is a function that gets the directory of the pid file as its argument.
func role(fn func(dir string) error) func() int {
	return func() int {
		if err := fn(os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
}

// mustEndWell waits for the end of a role.
func mustEndWell(t *testing.T, p *testutil.Proc) {
	t.Helper()
	if code, err := p.Wait(patience); err != nil || code != 0 {
		t.Fatalf("exit code %d, %v: %s", code, err, p.Output())
	}
}

// publishes writes its own pid into the pid file many times.
func publishes(dir string) error {
	p := New(filepath.Join(dir, "pid"))
	for range 300 {
		if err := errors.Join(p.Stage(), p.Publish(), p.WriteLast([]byte("an outcome")), p.Stage()); err != nil {
			return err
		}
		p.Discard(os.Getpid())
	}
	return nil
}

// If two processes use the same pid file, each replaces the file as a whole. Neither removes a staged file of the other
// process.
func TestTwoProcessesWithOneFile(t *testing.T) {
	dir := t.TempDir()
	other := testutil.Start(t, "publishes", testutil.Cfg{Args: []string{dir}})
	if err := publishes(dir); err != nil {
		t.Fatal(err)
	}
	mustEndWell(t, other)
	b, err := os.ReadFile(filepath.Join(dir, "pid"))
	if s := string(b); err != nil || s != ownPID() && s != strconv.Itoa(other.PID())+"\n" {
		t.Errorf("the file holds %q, %v", b, err)
	}
	mustHold(t, filepath.Join(dir, "pid.last"), "an outcome")
	if left := stagedIn(t, dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// drops writes the files as root, stages a file, and changes to another user.
func drops(dir string) error {
	p := New(filepath.Join(dir, "pid"))
	if err := errors.Join(p.Stage(), p.Publish(), p.WriteLast([]byte("of root")), p.Stage()); err != nil {
		return err
	}
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(stranger), syscall.Setuid(stranger)); err != nil {
		return err
	}
	err := errors.Join(p.Publish(), p.Stage(), p.Publish(), p.WriteLast([]byte("of the stranger")), p.Stage())
	p.Discard(os.Getpid())
	if !p.Owned() {
		err = errors.Join(err, errors.New("the pid file is not its own"))
	}
	return err
}

// If a service begins as root and changes to another user, it can replace its files where that user may write. Where that user
// may not write, it gets an error.
func TestServiceMayDropItsUID(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: only root may become another user")
	}
	dir, _ := shared(t)
	sticky := testutil.Start(t, "drops", testutil.Cfg{Args: []string{dir}})
	if code, err := sticky.Wait(patience); err != nil || code != 1 || !strings.Contains(sticky.Output(), "it belongs to uid 0 and this process to uid 65534") {
		t.Errorf("in a sticky directory: exit code %d, %v: %s", code, err, sticky.Output())
	}
	dir, _ = shared(t)
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chown(dir, stranger, stranger)); err != nil {
		t.Fatal(err)
	}
	p := testutil.Start(t, "drops", testutil.Cfg{Args: []string{dir}})
	mustEndWell(t, p)
	mustHold(t, filepath.Join(dir, "pid"), strconv.Itoa(p.PID())+"\n")
	mustHold(t, filepath.Join(dir, "pid.last"), "of the stranger")
	if left := stagedIn(t, dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	for _, name := range []string{"pid", "pid.last"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || owner(info) != stranger {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

// isKilled is a process that ends in the middle of an upgrade.
func isKilled(dir string) error {
	p := New(filepath.Join(dir, "pid"))
	if err := errors.Join(p.Publish(), p.Stage(), p.Reserve()); err != nil {
		return err
	}
	return syscall.Kill(os.Getpid(), syscall.SIGKILL)
}

// A service that is started after a killed service removes the staged files of the killed service. It does not remove the
// staged files of a living service.
func TestNextServiceRemovesWhatAKilledOneHasStaged(t *testing.T) {
	dir := t.TempDir()
	killed := testutil.Start(t, "is killed", testutil.Cfg{Args: []string{dir}})
	if code, err := killed.Wait(patience); err != nil || code != 128+int(syscall.SIGKILL) {
		t.Fatalf("exit code %d, %v: %s", code, err, killed.Output())
	}
	if left := stagedIn(t, dir); len(left) != 2 {
		t.Fatalf("a killed process leaves %v", left)
	}
	p := New(filepath.Join(dir, "pid"))
	if err := errors.Join(p.Stage(), p.Publish(), p.Reserve()); err != nil {
		t.Fatal(err)
	}
	reserved := stagedIn(t, dir)
	if len(reserved) != 1 {
		t.Errorf("left: %v", reserved)
	}
	other := New(p.path)
	if err := other.Stage(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(reserved[0]); err != nil {
		t.Errorf("of a process that lives: %v", err)
	}
	other.Discard(os.Getpid())
	p.Discard(os.Getpid())
}
