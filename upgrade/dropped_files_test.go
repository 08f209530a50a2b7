//go:build linux

package upgrade_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// The owners of the files of a service that changes its user, and the rights of other users.

// askToDrop makes a process drop root's rights while it serves. Before, the files that the program itself has written are
// given to the new user.
func askToDrop(t *testing.T, r *testclient.Service) {
	t.Helper()
	for _, name := range []string{"journal", "accepted"} {
		if err := os.Chown(filepath.Join(r.Dir, name), plan.Nobody, plan.Nobody); err != nil {
			t.Fatal(err)
		}
	}
	if a := r.Ask("POST", "/drop"); a.Error != "" {
		t.Fatal(a.Error)
	}
}

// If a service drops root's rights while it serves, its files belong to root first. When a file is replaced, it belongs to the
// user from then on.
func TestFilesOfAServiceThatDropsChangeTheirOwner(t *testing.T) {
	t.Parallel()
	r := dropping(t, func(s *plan.Settings) { s.Drop, s.Supervisor = plan.DropAsked, "always" })
	r.Ask("POST", "/rehearse")
	owners := func(pid, last, admin int) {
		t.Helper()
		for path, want := range map[string]int{r.Set.PIDFile: pid, lastFile(r): last, filepath.Join(r.Dir, "admin.sock"): admin} {
			if got := ownerOf(t, path); got != want {
				t.Errorf("%s belongs to uid %d, want %d", filepath.Base(path), got, want)
			}
		}
	}
	owners(0, 0, 0)
	askToDrop(t, r)
	r.Ask("POST", "/rehearse")
	owners(0, plan.Nobody, 0)
	request(t, r).mustBeCommitted(t, 2)
	mustBeDropped(t, r, 2)
	owners(plan.Nobody, plan.Nobody, 0)
	dead := r.MainPID()
	r.KillAll()
	testutil.Until(t, patience, "another process serves", func() bool { return r.ServesWithout(dead) })
	owners(0, 0, 0) // the new process has recorded the crash as root, because it was not asked to drop yet
	askToDrop(t, r)
	request(t, r).mustBeCommitted(t, 4)
	mustBeDropped(t, r, 4)
	mustEnd(t, r)
}

// droppedLate starts a service as root, with a pid file in a directory of root that has the given mode. Then it makes the
// service drop root's rights.
func droppedLate(t *testing.T, mode os.FileMode) *testclient.Service {
	t.Helper()
	r := dropping(t, func(s *plan.Settings) {
		s.Drop = plan.DropAsked
		dir := filepath.Join(filepath.Dir(s.PIDFile), "run")
		if err := errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, mode)); err != nil {
			t.Fatal(err)
		}
		s.PIDFile = filepath.Join(dir, "pid")
	})
	askToDrop(t, r)
	return r
}

// If a service that has dropped root's rights may not write to the directory of the pid file, an upgrade fails in its check,
// and the reason names the pid file. The pid file stays.
func TestPIDFileInADirectoryOfRootIsNamed(t *testing.T) {
	t.Parallel()
	r := droppedLate(t, 0o755)
	a := r.Ask("POST", "/upgrade")
	named := strings.Contains(a.Reason, "pid file "+r.Set.PIDFile+": ") && strings.HasSuffix(a.Reason, "permission denied")
	if a.Committed || a.Phase != "check" || !named {
		t.Errorf("%+v", a)
	}
	testutil.Until(t, patience, "the log says that the outcome is not recorded", func() bool { // the line may come late
		return strings.Contains(r.Output(), "upgrade: cannot record the outcome")
	})
	mustBeOnly(t, r, 1, 1)
	r.SignalMain(syscall.SIGTERM)
	r.WaitFamily(t, 0, patience)
	r.MustSay("upgrade: the pid file is left, and names a process that has ended")
}

// In a directory where every user may write, but only the owner may replace a file, the service is upgraded and does not write
// the pid file. The log says which user the file belongs to, and what to do.
func TestPIDFileOfRootInASharedDirectoryIsNamed(t *testing.T) {
	t.Parallel()
	r := droppedLate(t, 0o777|os.ModeSticky)
	old := r.MainPID()
	r.Upgrade()
	r.WaitFamily(t, 1, patience)
	if r.MainPID() != old {
		t.Errorf("the pid file names %d, and belonged to root", r.MainPID())
	}
	r.MustSay("it belongs to uid 0 and this process to uid 65534: remove it")
	if err := os.Remove(r.Set.PIDFile); err != nil {
		t.Fatal(err)
	}
	r.Upgrade()
	mustBeDropped(t, r, 3)
	mustEnd(t, r)
}

// asUser runs fn in a thread with another user and group. The thread ends when fn returns.
func asUser(t *testing.T, id int, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocks it: no other goroutine may run on this thread
		for _, call := range []uintptr{unix.SYS_SETGROUPS, unix.SYS_SETRESGID, unix.SYS_SETRESUID} {
			first, second := uintptr(id), uintptr(id)
			if call == unix.SYS_SETGROUPS {
				first, second = 0, 0
			}
			if _, _, errno := unix.RawSyscall(call, first, second, uintptr(id)); errno != 0 {
				t.Error(errno)
				return
			}
		}
		fn()
	}()
	<-done
}

// A third user is neither root nor the user of the service. This user can neither signal a process of the service, nor read
// its memory or take its descriptors, nor change its files, nor connect to the admin socket.
func TestThirdUserCannotReachADroppedService(t *testing.T) {
	t.Parallel()
	r := dropping(t, func(s *plan.Settings) { long(s); always(s) })
	if err := os.Chmod(r.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r.UpgradeNow()
	candidate, done := r.Soaking()
	pids := r.Family()
	if !slices.Contains(pids, candidate) || len(pids) != 3 {
		t.Fatalf("processes %v, candidate %d", pids, candidate)
	}
	files := []string{r.Set.PIDFile, lastFile(r), filepath.Join(r.Dir, "admin.sock")}
	asUser(t, plan.Nobody-1, func() {
		deny := func(what string, err error) {
			if !errors.Is(err, fs.ErrPermission) {
				t.Errorf("%s: %v", what, err)
			}
		}
		for _, pid := range pids {
			deny("signal", syscall.Kill(pid, syscall.SIGHUP))
			for _, name := range []string{"mem", "environ", "fd/3", "map_files"} {
				_, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
				deny(name, err)
			}
			pidfd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				t.Error(err)
				continue
			}
			_, err = unix.PidfdGetfd(pidfd, 3, 0)
			deny("descriptor", err)
			unix.Close(pidfd)
		}
		for _, path := range files {
			deny("write", os.WriteFile(path, nil, 0o666))
			deny("rename", os.Rename(path, path+".away"))
			deny("remove", os.Remove(path))
		}
		deny("make", os.WriteFile(r.Set.PIDFile+".new", nil, 0o666))
		_, err := net.Dial("unix", files[2])
		deny("admin socket", err)
		_, err = upgrade.Request(t.Context(), r.Set.PIDFile)
		deny("request", err)
	})
	r.Ask("POST", "/commit")
	if a := <-done; !a.Committed {
		t.Errorf("%+v", a)
	}
	mustBeDropped(t, r, 3)
	mustEnd(t, r)
}

// A supervisor may be root without the right to signal other users, as in a container that has dropped its capabilities. Such
// a supervisor cannot pass signals on to a service that has changed its user. The log says this as soon as the service serves.
func TestSupervisorSaysThatItMayNotSignal(t *testing.T) {
	t.Parallel()
	setpriv := testutil.Program(t, "setpriv", "util-linux")
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: only root can drop root's rights")
	}
	for name, args := range map[string][]string{"may not": {"--bounding-set=-kill", "--inh-caps=-kill"}, "may": nil} {
		settings := func(s *plan.Settings) { always(s); s.Drop = plan.DropListening }
		r := testclient.StartBy(t, settings, func(r *testclient.Service) *testutil.Proc {
			r.GiveTo(plan.Nobody)
			return testutil.StartCommand(t, testutil.Cfg{Dir: r.Dir, Env: []string{r.Env(), "MIDAIR_TEST_ROLE=service"}},
				setpriv, append(args, testclient.Binary(t))...)
		})
		r.WaitKnown()
		if said := strings.Contains(r.Output(), "supervisor: it may not signal the service"); said != (args != nil) {
			t.Errorf("it %s: the log says that it may not: %v", name, said)
		}
	}
}
