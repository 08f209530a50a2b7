//go:build linux

package testclient

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testservice"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// Patience is how long tests wait.
const Patience = 20 * time.Second

// Service is a service from the side of a test.
type Service struct {
	*testutil.Proc               // the first process, or the supervisor
	Dir            string        // with settings, sockets and records
	Addr           string        // of the main listener
	Set            plan.Settings // of the next generation; Change changes them

	t     *testing.T
	owner int // of the settings
}

// Start starts a service with a soak and limits for a test, changed by change, and waits until the service serves.
func Start(t *testing.T, change func(*plan.Settings), env ...string) *Service {
	t.Helper()
	return StartIn(t, "", change, env...)
}

// StartIn is Start with a working directory.
func StartIn(t *testing.T, wd string, change func(*plan.Settings), env ...string) *Service {
	t.Helper()
	return StartBy(t, change, func(r *Service) *testutil.Proc {
		return testutil.Start(t, "service", testutil.Cfg{Dir: wd, Env: append(env, r.Env())})
	})
}

// StartBy is Start with a function that starts the process of the service.
func StartBy(t *testing.T, change func(*plan.Settings), start func(*Service) *testutil.Proc) *Service {
	t.Helper()
	r := New(t, change)
	r.Proc = start(r)
	t.Cleanup(r.mustKeepToTables)
	testutil.Until(t, Patience, "the service has a pid file, and has said that it serves", func() bool {
		return r.MainPID() != 0 && (r.Set.Plain || strings.Contains(r.Output(), "upgrade: serving"))
	})
	r.Addr = r.Read("addr")
	return r
}

// New returns a service with settings and an executable, but without a process.
func New(t *testing.T, change func(*plan.Settings)) *Service {
	t.Helper()
	dir, err := os.MkdirTemp("", "svc") // short: the path of a unix socket is limited
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &Service{t: t, Dir: dir}
	r.Set.Addr, r.Set.Soak, r.Set.Timeout = "127.0.0.1:0", 50*time.Millisecond, 15*time.Second
	r.Set.PIDFile = filepath.Join(dir, "pid")
	r.LinkTo(Binary(t))
	r.Change(change)
	return r
}

// GiveTo gives the directory and the settings to a user that the service becomes. The executable is in the directory from then
// on: the test binary is where only the user of the test may look.
func (r *Service) GiveTo(uid int) {
	r.t.Helper()
	r.owner = uid
	exe := filepath.Join(r.Dir, "exe")
	err := os.Link(Binary(r.t), exe+".new")
	if err != nil {
		err = plan.CopyBuild(Binary(r.t), exe+".new", "original")
	}
	if err = errors.Join(err, os.Rename(exe+".new", exe), os.Chown(r.Dir, uid, uid)); err != nil {
		r.t.Fatal(err)
	}
	r.Change(nil)
}

// Env is the entry of the environment by which the programs find the directory of the service.
func (r *Service) Env() string { return plan.DirEnv + "=" + r.Dir }

// Binary is the path of the test binary.
func Binary(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

// LinkTo makes the service's executable a link to path.
func (r *Service) LinkTo(path string) {
	r.t.Helper()
	tmp := filepath.Join(r.Dir, "exe.new")
	if err := errors.Join(os.Symlink(path, tmp), os.Rename(tmp, filepath.Join(r.Dir, "exe"))); err != nil {
		r.t.Fatal(err)
	}
}

// Flip makes the next generation a program that knows tableflip only, in a file without the mark; or the library again.
func (r *Service) Flip(plain bool) {
	r.t.Helper()
	r.Change(func(s *plan.Settings) { s.Plain = plain })
	if !plain {
		r.LinkTo(Binary(r.t))
		return
	}
	r.LinkTo(Unmarked(r.t))
}

// Unmarked is the path of a copy of the test binary that does not say that it takes its sockets from the control socket.
func Unmarked(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "unmarked")
	if err := plan.CopyUnmarked(Binary(t), path); err != nil {
		t.Fatal(err)
	}
	return path
}

// Release makes another build the service's executable: a file and not a link.
func (r *Service) Release(build string) {
	r.t.Helper()
	tmp := filepath.Join(r.Dir, "exe.new")
	if err := errors.Join(plan.CopyBuild(Binary(r.t), tmp, build), os.Rename(tmp, filepath.Join(r.Dir, "exe"))); err != nil {
		r.t.Fatal(err)
	}
}

// MustRun ends the test unless the main process runs the build.
func (r *Service) MustRun(build string) {
	r.t.Helper()
	if got, err := plan.BuildOf(r.MainPID()); err != nil || got != build {
		r.t.Fatalf("build %q serves, want %q: %v", got, build, err)
	}
}

// Change writes the settings for the next generations. An unknown behaviour ends the test.
func (r *Service) Change(fn func(*plan.Settings)) {
	r.t.Helper()
	if fn != nil {
		fn(&r.Set)
	}
	b, err := json.Marshal(r.Set)
	if err = errors.Join(err, testservice.Validate(r.Set)); err == nil {
		err = os.WriteFile(filepath.Join(r.Dir, "settings.new"), b, 0o600)
	}
	if err == nil && r.owner != 0 {
		err = os.Chown(filepath.Join(r.Dir, "settings.new"), r.owner, r.owner)
	}
	if err == nil {
		err = os.Rename(filepath.Join(r.Dir, "settings.new"), filepath.Join(r.Dir, "settings"))
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// Read returns the content of a file in the service's directory.
func (r *Service) Read(name string) string {
	r.t.Helper()
	b, err := os.ReadFile(filepath.Join(r.Dir, name))
	if err != nil {
		r.t.Fatal(err)
	}
	return string(b)
}

// Touch makes an empty file in the service's directory: processes may wait for the file.
func (r *Service) Touch(name string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.Dir, name), nil, 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// MainPID is the process to signal, 0 if there is none.
func (r *Service) MainPID() int {
	b, _ := os.ReadFile(r.Set.PIDFile)
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return n
}

// SignalMain signals the process of the pid file.
func (r *Service) SignalMain(sig syscall.Signal) {
	r.t.Helper()
	if err := syscall.Kill(r.MainPID(), sig); err != nil {
		r.t.Fatalf("signal %v to pid %d: %v", sig, r.MainPID(), err)
	}
}

// Generations lists the processes without the supervisor.
func (r *Service) Generations() []int {
	return slices.DeleteFunc(r.Family(), func(pid int) bool { return pid == r.PID() })
}

// KillAll kills all generations at once, and returns the pids and the time.
func (r *Service) KillAll() (pids []int, at time.Time) {
	r.t.Helper()
	pids = r.Generations()
	at = time.Now()
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			r.t.Fatal(err)
		}
	}
	return pids, at
}

// MustStop stops the service by a signal to the supervisor: with status 0, and nothing is left.
func (r *Service) MustStop(sig syscall.Signal) {
	r.t.Helper()
	r.Signal(sig)
	if code, err := r.Wait(Patience); err != nil || code != 0 {
		r.t.Errorf("after %v: exit status %d, %v", sig, code, err)
	}
	r.WaitFamily(r.t, 0, Patience)
}

// mustKeepToTables fails the test if a process of the service has logged an event that a table of states calls impossible.
func (r *Service) mustKeepToTables() {
	for line := range strings.Lines(r.Output()) {
		if strings.Contains(line, "cannot come in this state") || strings.Contains(line, "this cannot happen") {
			r.t.Errorf("an impossible event: %s", line)
		}
	}
}

// MustSay fails the test unless the output contains the text.
func (r *Service) MustSay(text string) {
	r.t.Helper()
	if !strings.Contains(r.Output(), text) {
		r.t.Errorf("the log does not say %q", text)
	}
}
