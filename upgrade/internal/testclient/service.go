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

// Patience is how long tests wait for something before they fail.
const Patience = 60 * time.Second

// Service is a service from the side of a test.
type Service struct {
	*testutil.Proc               // the first process, or the supervisor
	Dir            string        // the directory with settings, sockets and records
	Addr           string        // the address of the main listener
	Set            plan.Settings // the settings of the next generation, which Change changes

	t     *testing.T
	owner int // the uid of the user who owns the settings; 0: the user of the test
}

// Start starts a service, and waits until it serves. The settings have a soak and limits that suit a test; the function
// change may change the settings before the start.
func Start(t *testing.T, change func(*plan.Settings), env ...string) *Service {
	t.Helper()
	return StartIn(t, "", change, env...)
}

// StartIn is Start with the working directory wd.
func StartIn(t *testing.T, wd string, change func(*plan.Settings), env ...string) *Service {
	t.Helper()
	return StartBy(t, change, func(r *Service) *testutil.Proc {
		return testutil.Start(t, "service", testutil.Cfg{Dir: wd, Env: append(env, r.Env())})
	})
}

// StartBy is Start with the function start, which starts the process of the service.
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
	dir, err := os.MkdirTemp("", "svc") // a short path, since the paths of unix sockets are limited
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

// GiveTo makes a user the owner of the directory and the settings, for a service that changes to this user. GiveTo also
// copies or links the executable into the directory, since only the user of the test may access the directory of the test
// binary.
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

// Env returns the entry of the environment by which the programs find the directory of the service.
func (r *Service) Env() string { return plan.DirEnv + "=" + r.Dir }

// Binary returns the path of the test binary.
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

// Flip chooses the program of the next generation. If plain is true, the program uses tableflip only, and its file has no mark.
// Otherwise the program uses the library.
func (r *Service) Flip(plain bool) {
	r.t.Helper()
	r.Change(func(s *plan.Settings) { s.Plain = plain })
	if !plain {
		r.LinkTo(Binary(r.t))
		return
	}
	r.LinkTo(Unmarked(r.t))
}

// Unmarked returns the path of a copy of the test binary without the mark of programs that take their sockets from the control
// socket.
func Unmarked(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "unmarked")
	if err := plan.CopyUnmarked(Binary(t), path); err != nil {
		t.Fatal(err)
	}
	return path
}

// Release makes another build the service's executable. The executable is a file then, and not a link.
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

// Change changes the settings by the function fn, unless it is nil, and writes them for the next generations. If the settings
// name an unknown behaviour, the test ends.
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

// Touch creates an empty file in the service's directory, for which processes may wait.
func (r *Service) Touch(name string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.Dir, name), nil, 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// MainPID returns the pid in the pid file; 0 if there is no pid file.
func (r *Service) MainPID() int {
	b, _ := os.ReadFile(r.Set.PIDFile)
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return n
}

// SignalMain sends a signal to the process in the pid file.
func (r *Service) SignalMain(sig syscall.Signal) {
	r.t.Helper()
	if err := syscall.Kill(r.MainPID(), sig); err != nil {
		r.t.Fatalf("signal %v to pid %d: %v", sig, r.MainPID(), err)
	}
}

// Generations lists the processes of the service, except the supervisor.
func (r *Service) Generations() []int {
	return slices.DeleteFunc(r.Family(), func(pid int) bool { return pid == r.PID() })
}

// KillAll kills all generations, and returns their pids and the time before the first kill.
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

// MustStop ends the service by a signal to the supervisor. The test fails unless the exit status is 0 and no process is left.
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

// MustSay fails the test unless the output contains the text soon: lines of the log are written beside what they report. It must be called
// from the goroutine of the test.
func (r *Service) MustSay(text string) {
	r.t.Helper()
	if !testutil.Within(Patience, func() bool { return strings.Contains(r.Output(), text) }) {
		r.t.Errorf("the log does not say %q", text)
	}
}
