//go:build linux

package upgrade_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
	"golang.org/x/sys/unix"
)

// What the supervisor does while no process can be started.

// fault is a cause, outside of the service, that prevents every start for a while.
type fault struct {
	begin, end func() error
	says       string // the log has this text
	same       bool   // the build that was committed last serves afterwards
	disk       string // the directory that the build has to be in; empty: any directory
}

// longOutage is longer than six tries to start a process, with the pauses between them.
const longOutage = 2500 * time.Millisecond

// limitFiles changes the limit of open files of a process.
func limitFiles(pid int, limit, old *unix.Rlimit) error {
	return unix.Prlimit(pid, unix.RLIMIT_NOFILE, limit, old)
}

// withoutFiles sets a limit under which the supervisor can open no file, not even with its reserve.
func withoutFiles(_ *testing.T, r *testclient.Service) fault {
	var old unix.Rlimit
	return fault{
		begin: func() error {
			return errors.Join(limitFiles(r.PID(), nil, &old), limitFiles(r.PID(), &unix.Rlimit{Cur: 3, Max: old.Max}, nil))
		},
		end:  func() error { return limitFiles(r.PID(), &old, nil) },
		says: "raise the limit of open files", same: true,
	}
}

// withoutDirectory takes away the directory that the service was started in.
func withoutDirectory(_ *testing.T, r *testclient.Service) fault {
	dir := filepath.Join(r.Dir, "wd")
	return fault{
		begin: func() error { return os.Rename(dir, dir+".away") },
		end:   func() error { return os.Rename(dir+".away", dir) },
		says:  "make the directory again", same: true,
	}
}

// withoutExecution mounts the file system of the build with noexec, so that no file on it can be executed.
func withoutExecution(t *testing.T, r *testclient.Service) fault {
	disk := ownDisk(t, r)
	remount := func(flags uintptr) func() error {
		return func() error { return unix.Mount("midair", disk, "tmpfs", unix.MS_REMOUNT|flags, "") }
	}
	return fault{begin: remount(unix.MS_NOEXEC), end: remount(0), says: "not mounted with noexec", same: true, disk: disk}
}

// withoutProcess prevents the supervisor from starting another process or thread, by a pids controller of cgroups.
func withoutProcess(t *testing.T, r *testclient.Service) fault {
	var dir string
	for _, parent := range []string{"/sys/fs/cgroup/pids", "/sys/fs/cgroup"} {
		d, err := os.MkdirTemp(parent, "midair")
		if _, no := os.Stat(filepath.Join(d, "pids.max")); err == nil && no == nil {
			dir = d
			break
		}
		_ = os.Remove(d) // fails if no directory was made
	}
	if dir == "" {
		t.Skip("NOT RUN: there is no pids controller that this user may use")
	}
	t.Cleanup(func() { _ = os.Remove(dir) })
	put := func(name, value string) error { return os.WriteFile(filepath.Join(dir, name), []byte(value), 0) }
	return fault{
		begin: func() error { return errors.Join(put("cgroup.procs", strconv.Itoa(r.PID())), put("pids.max", "0")) },
		end:   func() error { return put("pids.max", "max") },
		says:  "raise the limit of processes and threads", same: true,
	}
}

// withoutDependency makes every start of the program fail, as if a dependency were missing.
func withoutDependency(_ *testing.T, r *testclient.Service) fault {
	change := func(fails bool) func() error {
		return func() error { r.Change(func(s *plan.Settings) { s.RestartsFail = fails }); return nil }
	}
	return fault{begin: change(true), end: change(false), says: `status="exit status 7"`}
}

// ownDisk mounts a disk that only this thread and its children see.
func ownDisk(t *testing.T, r *testclient.Service) (dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: only root may mount a disk")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine of the test
	dir = filepath.Join(r.Dir, "disk")
	err := os.Mkdir(dir, 0o700)
	if err == nil {
		err = unix.Unshare(unix.CLONE_NEWNS)
	}
	if err == nil {
		err = unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	}
	if err == nil {
		err = unix.Mount("midair", dir, "tmpfs", 0, "")
	}
	if err != nil {
		t.Skip("NOT RUN: a disk cannot be mounted: ", err)
	}
	return dir
}

// A service that has served does not end if no process can be started for a while, whatever the reason is. No connection is
// refused, and the log says what to do. When the reason has gone, the service is back. If no program has run in between, it
// has the same build; otherwise it has one of the two builds that were committed last.
func TestOutageDoesNotEndTheService(t *testing.T) {
	for name, make := range map[string]func(*testing.T, *testclient.Service) fault{
		"no process": withoutProcess, "no descriptor": withoutFiles, "no directory": withoutDirectory, "noexec": withoutExecution, "no dependency": withoutDependency,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var f fault
			r := testclient.StartBy(t, always, func(r *testclient.Service) *testutil.Proc {
				f = make(t, r)
				wd := filepath.Join(r.Dir, "wd")
				if err := os.Mkdir(wd, 0o700); err != nil {
					t.Fatal(err)
				}
				return testutil.Start(t, "service", testutil.Cfg{Dir: wd, Env: []string{r.Env()}})
			})
			r.Release("two")
			if f.disk != "" {
				build := filepath.Join(f.disk, "two")
				if err := plan.CopyBuild(testclient.Binary(t), build, "two"); err != nil {
					t.Fatal(err)
				}
				r.LinkTo(build)
			}
			r.Upgrade()
			r.WaitFamily(t, 2, patience)
			r.WaitKnown()
			l := r.Load(calmLoad)
			if err := f.begin(); err != nil {
				t.Fatal(err)
			}
			dead, at := r.KillAll()
			testutil.Until(t, patience, "a long outage", func() bool { return time.Since(at) > longOutage })
			r.MustSay(f.says)
			if err := f.end(); err != nil {
				t.Fatal(err)
			}
			mustBeBack(t, r, l, dead)
			r.WaitFamily(t, 2, patience)
			if f.same {
				r.MustRun("two")
			}
			if a := r.Account(l); a.Counts[testutil.Refused] > 0 {
				t.Errorf("connections were refused\n%s", a)
			}
			r.WaitKnown()
			r.Upgrade()
			r.MustStop(syscall.SIGTERM)
		})
	}
}

// SIGTERM ends the supervisor at once, even in a long pause before the next start.
func TestStopEndsAnOutageAtOnce(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, always)
	r.Change(func(s *plan.Settings) { s.RestartsFail = true })
	r.KillAll()
	testutil.Until(t, patience, "the pauses are long", func() bool { return strings.Count(r.Output(), `status="exit status 7"`) == 7 })
	at := time.Now() // the next start would be 3.2 s after the last end of a process
	r.MustStop(syscall.SIGTERM)
	if took := time.Since(at); took > 2500*time.Millisecond {
		t.Errorf("it has taken %v", took)
	}
}

// An orphan does not become the service if the machine cannot start the committed build for a moment.
func TestOutageDoesNotConfirmAnOrphan(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { always(s); s.Soak = time.Minute })
	old := r.MainPID()
	candidate, _ := r.Soaking()
	f := withoutFiles(t, r)
	if err := f.begin(); err != nil {
		t.Fatal(err)
	}
	r.SignalMain(syscall.SIGKILL)
	at := time.Now()
	testutil.Until(t, patience, "a long outage", func() bool { return time.Since(at) > longOutage })
	if st := r.Status(); st.State != "orphan" || st.PID != candidate {
		t.Errorf("pid %d is %s", st.PID, st.State)
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	mustBeOneService(t, r, old)
	if st := r.Status(); st.Generation != 3 || st.Uncommitted {
		t.Errorf("generation %d serves, uncommitted %v", st.Generation, st.Uncommitted)
	}
	r.MustStop(syscall.SIGTERM)
}
