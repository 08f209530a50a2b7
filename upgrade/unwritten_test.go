//go:build linux

package upgrade_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// These tests show a service that cannot write its pid file and its outcome.

// writeFault makes it impossible to write in a directory, until repair is called.
type writeFault struct {
	mount, nobody bool // mount: needs a file system of its own; nobody: the service runs as the user nobody
	reason        string
	cause         func(dir string) error
	repair        func(dir string) error
}

var writeFaults = map[string]writeFault{
	"a full disk": {
		mount: true, reason: "no space left on device", cause: fillDirectory,
		repair: func(dir string) error {
			fillers, err := filepath.Glob(filepath.Join(dir, "filler*"))
			for _, name := range fillers {
				err = errors.Join(err, os.Remove(name))
			}
			return err
		},
	},
	"a read-only disk": {
		mount: true, reason: "read-only file system",
		cause:  func(dir string) error { return unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, "") },
		repair: func(dir string) error { return unix.Mount("", dir, "", unix.MS_REMOUNT, "") },
	},
	"a removed directory": {
		reason: "no such file or directory", cause: os.RemoveAll,
		repair: func(dir string) error { return os.Mkdir(dir, 0o700) },
	},
	"a directory that may not be written": {
		nobody: true, reason: "permission denied",
		cause:  func(dir string) error { return os.Chmod(dir, 0o500) },
		repair: func(dir string) error { return os.Chmod(dir, 0o700) },
	},
}

// fillDirectory makes files until there is no room for another file.
func fillDirectory(dir string) error {
	for i := 0; ; i++ {
		err := os.WriteFile(filepath.Join(dir, fmt.Sprint("filler", i)), nil, 0o600)
		if errors.Is(err, unix.ENOSPC) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// withRun returns a service that was not started yet. Its pid file is in a directory of its own, in which the fault can be
// caused.
func (f writeFault) withRun(t *testing.T, change func(*plan.Settings)) (r *testclient.Service, run string) {
	t.Helper()
	if (f.mount || f.nobody) && os.Geteuid() != 0 {
		t.Skip("NOT RUN: only root can mount, and become another user")
	}
	r = testclient.New(t, func(s *plan.Settings) {
		run = filepath.Join(filepath.Dir(s.PIDFile), "run")
		s.PIDFile = filepath.Join(run, "pid")
		if f.nobody {
			s.Drop = plan.DropListening
		}
		if change != nil {
			change(s)
		}
	})
	if err := os.Mkdir(run, 0o700); err != nil {
		t.Fatal(err)
	}
	if f.mount {
		if err := unix.Mount("none", run, "tmpfs", 0, "size=64k,nr_inodes=16"); err != nil {
			t.Skip("NOT RUN: no tmpfs can be mounted: ", err)
		}
		t.Cleanup(func() { _ = unix.Unmount(run, unix.MNT_DETACH) })
	}
	if f.nobody {
		r.GiveTo(plan.Nobody)
		if err := os.Chown(run, plan.Nobody, plan.Nobody); err != nil {
			t.Fatal(err)
		}
	}
	return r, run
}

// begin starts the process of the service.
func begin(t *testing.T, r *testclient.Service) {
	t.Helper()
	r.Proc = testutil.Start(t, "service", testutil.Cfg{Dir: r.Dir, Env: []string{r.Env()}})
	r.Addr = ""
	serving(t, r, 0)
	r.Addr = r.Read("addr")
}

// serving waits until a process serves whose pid is not the argument not, and returns its status. There may be no pid file.
func serving(t *testing.T, r *testclient.Service, not int) (s upgrade.Status) {
	t.Helper()
	testutil.Until(t, patience, "the service serves", func() bool {
		a, err := r.TryAsk(context.Background(), "GET", "/status")
		s = a.Status
		return err == nil && s.State == "serving" && s.PID != not
	})
	return s
}

// mustSayUnwritten fails the test unless the status of the service names exactly the given files as unwritten.
func mustSayUnwritten(t *testing.T, r *testclient.Service, files ...string) {
	t.Helper()
	says := r.Status().Unwritten
	if len(says) != len(files) {
		t.Fatalf("unwritten: %q, want %d files", says, len(files))
	}
	for i, want := range files {
		if !strings.Contains(says[i], want) {
			t.Errorf("unwritten: %q, want %q", says[i], want)
		}
	}
}

// A first process serves although it cannot write its pid file. It reports this, and writes the file as soon as it can. Then it
// can be upgraded and stopped.
func TestFirstProcessServesWithoutItsPIDFile(t *testing.T) {
	t.Parallel()
	for name, f := range writeFaults {
		t.Run(name, func(t *testing.T) {
			r, run := f.withRun(t, nil)
			if err := f.cause(run); err != nil {
				t.Fatal(err)
			}
			begin(t, r)
			l := r.Load(smallLoad)
			mustSayUnwritten(t, r, f.reason)
			r.MustSay("upgrade: serving without a pid file")
			if err := f.repair(run); err != nil {
				t.Fatal(err)
			}
			testutil.Until(t, patience, "the pid file is written", func() bool { return r.MainPID() == r.PID() })
			testutil.Until(t, patience, "the status says so", func() bool { return r.Status().Unwritten == nil })
			request(t, r).mustBeCommitted(t, 2)
			r.Account(l).MustBeClean(t)
		})
	}
}

// A process that the supervisor starts again serves although it can write neither the pid file nor the outcome. It writes both
// as soon as it can.
func TestRestartedProcessServesWithoutItsFiles(t *testing.T) {
	t.Parallel()
	for name, f := range writeFaults {
		t.Run(name, func(t *testing.T) {
			r, run := f.withRun(t, always)
			begin(t, r)
			dead := r.MainPID()
			if err := f.cause(run); err != nil {
				t.Fatal(err)
			}
			r.KillAll()
			now := serving(t, r, dead)
			mustSayUnwritten(t, r, "pid file "+r.Set.PIDFile, lastFile(r))
			if err := f.repair(run); err != nil {
				t.Fatal(err)
			}
			testutil.Until(t, patience, "both are written", func() bool { return r.Status().Unwritten == nil })
			if !exists(lastFile(r)) || r.MainPID() != now.PID {
				t.Errorf("the pid file names %d, want %d", r.MainPID(), now.PID)
			}
			request(t, r).mustBeCommitted(t, 3)
			r.MustStop(syscall.SIGTERM)
		})
	}
}

// A candidate that cannot write its files is taken back. The old process serves on, and reports the failure. Request returns
// the outcome as soon as it can be written.
func TestOutcomeComesWhenItCanBeWritten(t *testing.T) {
	t.Parallel()
	for name, f := range writeFaults {
		if name == "a removed directory" { // Request needs the pid file
			continue
		}
		t.Run(name, func(t *testing.T) {
			r, run := f.withRun(t, nil)
			begin(t, r)
			if err := f.cause(run); err != nil {
				t.Fatal(err)
			}
			asked := beginRequest(t, r, patience)
			r.WaitOutput(patience, "upgrade: cannot record the outcome")
			mustSayUnwritten(t, r, lastFile(r))
			if err := f.repair(run); err != nil {
				t.Fatal(err)
			}
			(<-asked).mustHaveFailed(t, upgrade.PhaseCheck, f.reason)
			testutil.Until(t, patience, "the status says so", func() bool { return r.Status().Unwritten == nil })
		})
	}
}
