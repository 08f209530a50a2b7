//go:build linux

package upgrade_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// requested is what Request has returned.
type requested struct {
	upgrade.Outcome
	err error
}

func beginRequest(t *testing.T, r *testclient.Service, limit time.Duration) <-chan requested {
	done := make(chan requested, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		out, err := upgrade.Request(ctx, r.Set.PIDFile)
		done <- requested{out, err}
	}()
	return done
}

func request(t *testing.T, r *testclient.Service) requested { return <-beginRequest(t, r, patience) }

func (q requested) mustBeCommitted(t *testing.T, generation int) {
	t.Helper()
	if q.err != nil || !q.Committed || q.Generation != generation || q.Phase != "" || q.Reason != "" {
		t.Errorf("%+v, %v: want generation %d committed", q.Outcome, q.err, generation)
	}
}

// mustServeUncommitted is mustBeCommitted for a candidate that serves because its old process has died.
func (q requested) mustServeUncommitted(t *testing.T, generation int) {
	t.Helper()
	if q.Reason != "the old process died before the commit" {
		t.Errorf("the reason is %q", q.Reason)
	}
	q.Reason = ""
	q.mustBeCommitted(t, generation)
}

func (q requested) mustHaveFailed(t *testing.T, phase upgrade.Phase, reason string) *upgrade.Error {
	t.Helper()
	e := new(upgrade.Error)
	if !errors.As(q.err, &e) || q.Committed || e.Phase != phase || !strings.Contains(e.Reason, reason) || q.Phase != e.Phase || q.Reason != e.Reason {
		t.Errorf("%+v, %v: want phase %s with %q", q.Outcome, q.err, phase, reason)
	}
	return e
}

func lastFile(r *testclient.Service) string { return r.Set.PIDFile + ".last" }

// Request returns how the upgrade has ended.
func TestRequestReturnsTheOutcome(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.Version = "one" })
	l := r.Load(smallLoad)
	r.Change(func(s *plan.Settings) { s.Version, s.Bad = "two", plan.CheckFails })
	q := request(t, r)
	e := q.mustHaveFailed(t, upgrade.PhaseCheck, "the database is not there")
	if e.PID == 0 || e.PID != q.PID || q.From != "one" || q.Version != "two" || q.Generation != 2 {
		t.Errorf("%+v", q.Outcome)
	}
	r.LinkTo(filepath.Join(r.Dir, "nothing"))
	if e := request(t, r).mustHaveFailed(t, upgrade.PhaseStart, "no such file"); e.PID != 0 {
		t.Errorf("%+v", e)
	}
	r.LinkTo(testclient.Binary(t))
	r.Change(func(s *plan.Settings) { s.Bad = "" })
	old := r.MainPID()
	q = request(t, r)
	q.mustBeCommitted(t, 2)
	if q.FromPID != old || q.Kind != "upgrade" || q.From != "one" || q.Version != "two" || q.PID != r.MainPID() || !q.At.After(q.Started) {
		t.Errorf("%+v", q.Outcome)
	}
	request(t, r).mustBeCommitted(t, 3)
	r.Account(l).MustBeClean(t)
}

// Request does not take other outcomes for its own: not the outcome of a rehearsal during the request, and not an earlier one,
// such as an outcome from before the last boot.
func TestRequestIsNotAnsweredByOthers(t *testing.T) {
	for name, out := range map[string]upgrade.Outcome{
		"rehearsal": {Kind: "rehearsal"}, "from before": {Kind: "upgrade", Committed: true, Generation: 7},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, nil)
			out.Started, out.Begun = time.Now().Add(time.Hour), sys.Uptime()+time.Hour
			b, err := json.Marshal(out)
			if err := errors.Join(err, os.WriteFile(lastFile(r), b, 0o600)); err != nil {
				t.Fatal(err)
			}
			asked := beginRequest(t, r, patience)
			r.WaitServing(2, 0)
			(<-asked).mustBeCommitted(t, 2)
		})
	}
}

// A clock that is set back or forward has no effect, neither between generations nor between the service and the caller of
// Request. Each request gets the outcome of its own upgrade. A request during an upgrade gets the outcome of the next upgrade.
func TestRequestGoesByNoClock(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.Clock = time.Hour })
	for n, clock := range []time.Duration{-time.Hour, 0, time.Hour, 0, -time.Hour} {
		r.Change(func(s *plan.Settings) { s.Clock = clock })
		q := request(t, r)
		q.mustBeCommitted(t, n+2)
		r.Change(func(s *plan.Settings) { s.Bad = plan.CheckFails })
		failed(t, request(t, r))
		r.Change(func(s *plan.Settings) { s.Bad = "" })
	}
	for _, clock := range []time.Duration{-time.Hour, time.Hour} {
		r.Change(func(s *plan.Settings) { s.Clock, s.Soak = clock, time.Minute })
		request(t, r)
		g := r.Status().Generation
		r.Change(func(s *plan.Settings) { s.Soak = 50 * time.Millisecond })
		_, done := r.Soaking()
		asked := beginRequest(t, r, patience)
		settle(t, r)
		r.Ask("POST", "/commit")
		<-done
		(<-asked).mustBeCommitted(t, g+2)
	}
}

// If there is no service, the error of Request tells what to do, and no other process gets the signal.
func TestRequestWithoutAServiceSaysWhatToDo(t *testing.T) {
	t.Parallel()
	dead := exec.Command("true")
	stranger := exec.Command("sleep", "600")
	if err := errors.Join(dead.Run(), stranger.Start()); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = stranger.Process.Kill(), stranger.Wait() }()
	dir := t.TempDir()
	for _, c := range []struct {
		name, content, reason string
		closed                bool
	}{
		{"missing", "-", "there is no pid file " + filepath.Join(dir, "missing") + ": is the service running", true},
		{"empty", "", "is no pid of a service: is the file its Options.PIDFile?", false},
		{"garbage", "hello", `"hello" is no pid of a service`, false},
		{"init", "1\n", "is no pid of a service", false},
		{"negative", "-5\n", "is no pid of a service", false},
		{"two", "12 13\n", "is no pid of a service", false},
		{"dead", strconv.Itoa(dead.Process.Pid) + "\n", "has ended without removing the file: start the service", true},
		{"stranger", strconv.Itoa(stranger.Process.Pid) + "\n", "does not handle SIGHUP: is the file left by a service that was killed?", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(dir, c.name)
			if c.content != "-" {
				if err := os.WriteFile(file, []byte(c.content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			_, err := upgrade.Request(ctx, file)
			if err == nil || !strings.Contains(err.Error(), c.reason) || errors.Is(err, upgrade.ErrClosed) != c.closed {
				t.Errorf("%v, want %q", err, c.reason)
			}
		})
	}
	if err := stranger.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the stranger: %v", err)
	}
}

// If its context ends, Request returns an error, which tells that the upgrade goes on and where to look.
func TestRequestEndsWithItsContext(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.Bad = plan.HangAtStart })
	q := <-beginRequest(t, r, 300*time.Millisecond)
	if !errors.Is(q.err, context.DeadlineExceeded) || !strings.Contains(q.err.Error(), "the upgrade goes on; the log of pid "+strconv.Itoa(r.MainPID())) {
		t.Errorf("%v", q.err)
	}
	r.WaitPhase("start")
	r.Ask("POST", "/abort")
	r.WaitFamily(t, 1, patience)
}

func committed(generation int) func(*testing.T, requested) {
	return func(t *testing.T, q requested) { t.Helper(); q.mustBeCommitted(t, generation) }
}

func failed(t *testing.T, q requested) {
	t.Helper()
	q.mustHaveFailed(t, upgrade.PhaseCheck, "the database is not there")
}

// A request during another upgrade gets the outcome of the next upgrade, however the first upgrade ends.
func TestRequestDuringAnUpgradeMeansTheNextOne(t *testing.T) {
	for _, c := range []struct {
		first  string
		second plan.Misbehaviour
		check  func(*testing.T, requested)
	}{
		{"commit", "", committed(3)}, {"abort", "", committed(2)},
		{"commit", plan.CheckFails, failed}, {"abort", plan.CheckFails, failed},
	} {
		t.Run(c.first+" then "+string(c.second), func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, long)
			r.Change(func(s *plan.Settings) { s.Soak = 50 * time.Millisecond })
			_, done := r.Soaking()
			asked := beginRequest(t, r, patience)
			settle(t, r)
			r.Change(func(s *plan.Settings) { s.Bad = c.second })
			r.Ask("POST", "/"+c.first)
			<-done
			var q requested
			testutil.Until(t, patience, "the outcome", func() bool {
				_, _ = r.TryAsk(t.Context(), "POST", "/commit") // ends the long soak of the first generation
				select {
				case q = <-asked:
					return true
				default:
					return false
				}
			})
			c.check(t, q)
		})
	}
}

// settle waits until the service has handled the signals that were sent before.
func settle(t *testing.T, r *testclient.Service) {
	t.Helper()
	for range 20 {
		r.Ask("GET", "/status")
	}
}

// A failure right after a commit is not hidden by the outcome of the commit.
func TestRequestSeesAFailureRightAfterACommit(t *testing.T) {
	for n := range 8 { // several times, because two processes write outcomes at the same time
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, long)
			_, done := r.Soaking()
			asked := beginRequest(t, r, patience)
			settle(t, r)
			r.LinkTo(filepath.Join(r.Dir, "nothing"))
			r.Ask("POST", "/commit")
			<-done
			(<-asked).mustHaveFailed(t, upgrade.PhaseStart, "no such file")
		})
	}
}

// A plain stop removes the outcome and the pid file, and a waiting Request returns an error.
func TestRequestLearnsOfAStop(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, nil)
	r.Change(func(s *plan.Settings) { s.Bad = plan.HangAtStart })
	r.LinkTo(filepath.Join(r.Dir, "nothing"))
	request(t, r).mustHaveFailed(t, upgrade.PhaseStart, "no such file")
	r.LinkTo(testclient.Binary(t))
	asked := beginRequest(t, r, patience)
	r.WaitPhase("start")
	r.SignalMain(syscall.SIGTERM)
	if q := <-asked; !errors.Is(q.err, upgrade.ErrClosed) && !strings.Contains(q.err.Error(), "SIGTERM") {
		t.Errorf("%+v, %v", q.Outcome, q.err)
	}
	r.WaitFamily(t, 0, patience)
	if exists(r.Set.PIDFile) || exists(lastFile(r)) {
		t.Error("files are left")
	}
	if q := request(t, r); !errors.Is(q.err, upgrade.ErrClosed) {
		t.Errorf("%v", q.err)
	}
}

// If the old process is killed at any step of the upgrade, its candidate becomes the service, and Request reports this.
func TestRequestSurvivesTheOldProcess(t *testing.T) {
	for _, step := range []string{"old.started", "old.welcomed", "old.prepared", "old.opened", "old.committed", "old.handed-over"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			f := testclient.FaultAt(t, step, "kill")
			r := testclient.Start(t, nil, f.Env)
			q := request(t, r)
			if step == "old.committed" || step == "old.handed-over" {
				q.mustBeCommitted(t, 2)
			} else {
				q.mustServeUncommitted(t, 2)
			}
			r.WaitServing(r.Status().Generation, r.Faulted())
		})
	}
}

// Under the supervisor the committed build is started again in this case. Request reports the crash and the process that
// serves.
func TestRequestLearnsOfACrash(t *testing.T) {
	t.Parallel()
	f := testclient.FaultAt(t, "old.opened", "kill")
	r := testclient.Start(t, always, f.Env)
	q := request(t, r)
	e := new(upgrade.Error)
	if !errors.As(q.err, &e) || q.Kind != "crash" || q.Generation != 3 || !strings.Contains(e.Reason, "has ended after") || !strings.Contains(e.Reason, "killed") {
		t.Errorf("%+v, %v", q.Outcome, q.err)
	}
	mustBeOneService(t, r, r.Faulted())
	r.MustStop(syscall.SIGTERM)
}

// After the old process was killed, Request waits for a candidate that is slow to become the service.
func TestRequestWaitsForTheHeir(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, nil)
	r.Change(func(s *plan.Settings) { s.Bad = plan.CheckWaits })
	asked := beginRequest(t, r, patience)
	r.WaitOutput(patience, plan.SaysCheckWaits)
	r.Kill()
	select {
	case q := <-asked:
		t.Fatalf("it has not waited: %+v, %v", q.Outcome, q.err)
	case <-time.After(300 * time.Millisecond): // enough time for many looks
	}
	r.Touch("release")
	(<-asked).mustServeUncommitted(t, 2)
}

// A program with tableflip only writes no outcome, but its successor does.
func TestRequestToPlainTableflip(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.Plain = true })
	r.Change(func(s *plan.Settings) { s.Plain = false })
	request(t, r).mustBeCommitted(t, 2)
}

// If the service is killed and no process takes over, Request soon returns an error.
func TestRequestSeesTheServiceDie(t *testing.T) {
	t.Parallel()
	f := testclient.FaultAt(t, "old.start", "kill")
	r := testclient.Start(t, nil, f.Env)
	if q := request(t, r); !errors.Is(q.err, upgrade.ErrClosed) || !strings.Contains(q.err.Error(), "no other process has taken over: start the service") {
		t.Errorf("%v", q.err)
	}
}

// A service that cannot write the outcome works all the same, and the error of Request tells where to look.
func TestUnwritableOutcomeHurtsNobody(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, nil)
	l := r.Load(smallLoad)
	if err := os.MkdirAll(filepath.Join(lastFile(r), "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	q := <-beginRequest(t, r, 3*time.Second)
	if !errors.Is(q.err, context.DeadlineExceeded) || !strings.Contains(q.err.Error(), lastFile(r)+": is not a regular file") {
		t.Errorf("%+v, %v", q.Outcome, q.err)
	}
	r.WaitServing(2, 0)
	r.WaitOutput(patience, "cannot record the outcome")
	r.WaitFamily(t, 1, patience)
	if left, _ := filepath.Glob(filepath.Join(r.Dir, ".pid*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	r.MustRecover(l, 2)
	r.Account(l).MustBeClean(t)
}

// The outcome can be read at any moment, and a reader never gets a part of it.
func TestOutcomeIsAlwaysWhole(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.Soak = -1 })
	request(t, r).mustBeCommitted(t, 2)
	stop := make(chan struct{})
	read := make(chan error, 1)
	go func() { // ends when stop is closed
		for {
			select {
			case <-stop:
				read <- nil
				return
			default:
			}
			var out upgrade.Outcome
			b, err := os.ReadFile(lastFile(r))
			if err := errors.Join(err, json.Unmarshal(b, &out)); err != nil || out.Started.IsZero() {
				read <- errors.Join(err, errors.New(string(b)))
				return
			}
		}
	}()
	const upgrades = 10
	for n := range upgrades {
		r.Change(func(s *plan.Settings) { s.Bad = plan.ExitAtStart })
		request(t, r).mustHaveFailed(t, upgrade.PhaseStart, "exit status 7")
		r.Change(func(s *plan.Settings) { s.Bad = "" })
		request(t, r).mustBeCommitted(t, n+3)
	}
	close(stop)
	if err := <-read; err != nil {
		t.Error(err)
	}
}
