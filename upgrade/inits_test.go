//go:build linux

package upgrade_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// watcher is an init or a service manager with a service that it has started.
type watcher struct {
	*testclient.Service
	processes int // the number of processes of the watcher, with those that have started it
	hangup    func() error
	stop      func() error
	view      func() string // what the watcher reports about the service; does not change while the watcher notices nothing
	up, down  string        // what view must return while the service runs, and after stop
	quit      func() error  // ends a watcher that does not end with the service
}

// An init of a container passes on SIGHUP for an upgrade and SIGTERM for a stop, and sees only the supervisor.
func TestInitsWatchOneProcess(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"tini", "dumb-init"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mustLastUnder(t, startInit(t, testutil.Program(t, name, name)))
		})
	}
}

// A service manager sees one process, which runs all the time. The manager notices neither upgrades nor crashes.
func TestManagersWatchOneProcess(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T, func(*plan.Settings)) watcher{"runit": startRunit, "supervisord": startSupervisord} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mustLastUnder(t, start(t, always))
		})
	}
}

// Without the supervisor, an init would end with the first generation, and a service manager would start a second copy beside
// the next generation. So an upgrade is refused before a process is started, and the reason says what to do.
func TestWatchedServicesRefuseUpgradesWithoutSupervisor(t *testing.T) {
	t.Parallel()
	inContainer := func(name string) func(*testing.T, func(*plan.Settings)) watcher {
		return func(t *testing.T, change func(*plan.Settings)) watcher {
			r, _ := startContainer(t, change, testutil.Program(t, name, name), "--")
			return watcher{Service: r}
		}
	}
	for name, start := range map[string]func(*testing.T, func(*plan.Settings)) watcher{
		"tini": inContainer("tini"), "dumb-init": inContainer("dumb-init"), "runsv": startRunit, "supervisord": startSupervisord,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, nil)
			a := w.Ask("POST", "/upgrade")
			if a.Committed || a.Phase != "start" || !strings.Contains(a.Reason, name+" has started this process") || !strings.Contains(a.Reason, "call upgrade.Supervise") {
				t.Errorf("committed %v, phase %q, reason %q", a.Committed, a.Phase, a.Reason)
			}
			if a.Status.State != "serving" || a.Status.Generation != 1 {
				t.Errorf("the service is %+v", a.Status)
			}
			if w.quit != nil {
				if err := errors.Join(w.stop(), w.quit()); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// mustLastUnder makes two upgrades, kills the main generation, and stops the service. It fails the test unless all of this
// goes well and the watcher notices only the stop.
func mustLastUnder(t *testing.T, w watcher) {
	t.Helper()
	testutil.Until(t, patience, "the watcher knows that the service runs", func() bool { return w.view() == w.up })
	l := w.Load(calmLoad) // leaves time for the commands of the managers
	for generation := 2; generation <= 3; generation++ {
		if err := w.hangup(); err != nil {
			t.Fatal(err)
		}
		w.mustRun(t, l, generation)
	}
	w.WaitKnown()
	dead, outside := w.MainPID(), w.mainOutside(t)
	at := time.Now()
	if err := syscall.Kill(outside, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	w.mustRun(t, l, 4)
	a := w.Account(l)
	w.MustHaveLostOnlyThen(a, []time.Time{at}, []int{dead})
	t.Logf("2 upgrades, 1 kill -9: %d refused, %d of %d requests lost, with the killed process", a.Counts[testutil.Refused], len(a.Offenders), a.Total)
	w.mustStop(t)
}

// mustRun waits until the generation answers. It fails the test unless only this generation and the supervisor run, and the
// watcher has noticed nothing.
func (w watcher) mustRun(t *testing.T, l *testutil.Load, generation int) {
	t.Helper()
	want := "g" + strconv.Itoa(generation)
	testutil.Until(t, patience, want+" answers", func() bool { return l.Seen(want) })
	w.WaitFamily(t, w.processes+2, patience) // the supervisor, the service
	if s := w.Status(); s.Generation != generation || s.Supervisor != "alive" {
		t.Errorf("generation %d serves, want %d; the supervisor is %q", s.Generation, generation, s.Supervisor)
	}
	if got := w.view(); got != w.up {
		t.Errorf("the watcher says %q, want %q", got, w.up)
	}
}

// mustStop stops the service while a request is open, and finishes the request after a second. The request must be answered,
// and no process may be left.
func (w watcher) mustStop(t *testing.T) {
	t.Helper()
	p := w.Dial().Begin()
	at := time.Now()
	stopped := make(chan error, 1)
	go func() { stopped <- w.stop() }() // the command waits for the end of the service
	testutil.Until(t, patience, "the service has been stopping for a second", func() bool {
		return strings.Contains(w.Output(), "upgrade: stopping") && time.Since(at) > time.Second
	})
	p.Finish()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if w.quit != nil {
		w.WaitFamily(t, w.processes, patience)
		if got := w.view(); got != w.down {
			t.Errorf("after the stop the watcher says %q, want %q", got, w.down)
		}
		if err := w.quit(); err != nil {
			t.Error(err)
		}
	}
	if code, err := w.Wait(patience); err != nil || code != 0 {
		t.Errorf("exit status %d, %v", code, err)
	}
	w.WaitFamily(t, 0, patience)
}

// mainOutside returns the pid of the main generation in the PID namespace of this test.
func (w watcher) mainOutside(t *testing.T) int {
	t.Helper()
	for _, pid := range w.Generations() {
		if insidePID(pid) == w.MainPID() {
			return pid
		}
	}
	t.Fatalf("none of %v is pid %d", w.Generations(), w.MainPID())
	return 0
}

// startInit starts the service under an init, which is process 1 of a PID namespace.
func startInit(t *testing.T, init string) watcher {
	t.Helper()
	r, first := startContainer(t, always, init, "--")
	w := watcher{
		Service: r, processes: 2, // with unshare
		hangup: func() error { return syscall.Kill(first, syscall.SIGHUP) },
		stop:   func() error { return syscall.Kill(first, syscall.SIGTERM) },
		view:   func() string { return fmt.Sprint(testclient.Children(first)) },
	}
	w.up = fmt.Sprint([]int{testclient.Parent(w.mainOutside(t))})
	return w
}

// startRunit starts the service under runsv.
func startRunit(t *testing.T, change func(*plan.Settings)) watcher {
	t.Helper()
	runsv, sv := testutil.Program(t, "runsv", "runit"), testutil.Program(t, "sv", "runit")
	var dir string
	r := testclient.StartBy(t, change, func(r *testclient.Service) *testutil.Proc {
		dir = filepath.Join(r.Dir, "web")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		mustWrite(t, filepath.Join(dir, "run"), "#!/bin/sh\nexec 2>&1\nexec "+testclient.Binary(t)+"\n", 0o700)
		return testutil.StartCommand(t, testutil.Cfg{Env: []string{r.Env(), "MIDAIR_TEST_ROLE=service"}}, runsv, dir)
	})
	ask := func(args ...string) error {
		return errorOf(command(sv, append([]string{"-w", "20"}, append(args, dir)...)...))
	}
	w := watcher{
		Service: r, processes: 1,
		hangup: func() error { return ask("hup") },
		stop:   func() error { return ask("stop") },
		view:   func() string { return withoutTimes(command(sv, "status", dir)) },
		down:   fmt.Sprintf("down: %s: TIME, normally up", dir),
		quit:   func() error { return ask("exit") },
	}
	w.up = fmt.Sprintf("run: %s: (pid %d) TIME", dir, testclient.Parent(w.mainOutside(t)))
	return w
}

// startSupervisord starts the service under supervisord.
func startSupervisord(t *testing.T, change func(*plan.Settings)) watcher {
	t.Helper()
	supervisord, supervisorctl := testutil.Program(t, "supervisord", "supervisor"), testutil.Program(t, "supervisorctl", "supervisor")
	var conf string
	r := testclient.StartBy(t, change, func(r *testclient.Service) *testutil.Proc {
		conf = filepath.Join(r.Dir, "conf")
		mustWrite(t, conf, fmt.Sprintf(supervisordConf, r.Dir, testclient.Binary(t)), 0o600)
		return testutil.StartCommand(t, testutil.Cfg{Env: []string{r.Env(), "MIDAIR_TEST_ROLE=service"}}, supervisord, "-c", conf)
	})
	ask := func(args ...string) (string, error) {
		return command(supervisorctl, append([]string{"-c", conf}, args...)...)
	}
	w := watcher{
		Service: r, processes: 1,
		hangup: func() error { return errorOf(ask("signal", "HUP", "web")) },
		stop:   func() error { return errorOf(ask("stop", "web")) },
		view: func() string {
			log := r.Output() // the log also shows what has happened between two calls of view
			return fmt.Sprintf("%s, started %d, ended %d", withoutTimes(ask("status")),
				strings.Count(log, " INFO spawned: 'web'"), strings.Count(log, " exited: web"))
		},
		down: "web STOPPED TIME, started 1, ended 0",
		quit: func() error { return errorOf(ask("shutdown")) },
	}
	w.up = fmt.Sprintf("web RUNNING pid %d, uptime TIME, started 1, ended 0", testclient.Parent(w.mainOutside(t)))
	return w
}

// supervisordConf is a format for fmt.Sprintf: the arguments are the directory of the service and its program.
const supervisordConf = `[supervisord]
nodaemon=true
logfile=/dev/null
logfile_maxbytes=0
pidfile=%[1]s/supervisord.pid
[unix_http_server]
file=%[1]s/supervisord.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://%[1]s/supervisord.sock
[program:web]
command=%[2]s
autorestart=true
stopwaitsecs=40
redirect_stderr=true
stdout_logfile=/dev/fd/1
stdout_logfile_maxbytes=0
`

var (
	elapsed = regexp.MustCompile(`\b\d+s\b|\d+:\d\d:\d\d|\w{3} \d\d \d\d:\d\d [AP]M`)
	spaces  = regexp.MustCompile(`\s+`)
)

// withoutTimes returns the output s of a status command with TIME in place of each time. It ignores the error: status commands
// return an error for a service that is down, but their output says more.
func withoutTimes(s string, _ error) string {
	return strings.TrimSpace(spaces.ReplaceAllString(elapsed.ReplaceAllString(s, "TIME"), " "))
}

// command runs a program to its end, and returns what the program has said.
func command(path string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %v: %w: %s", filepath.Base(path), args, err, out)
	}
	return string(out), err
}

func errorOf(_ string, err error) error { return err }

func mustWrite(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}
