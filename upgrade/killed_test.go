//go:build linux

package upgrade_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// fault is a failure of one process at one point.
type fault struct{ env, once string }

// faultAt makes the first process that gets to the point fail there; the next ones are spared. The steps of a commit
// are also those of the first generation's start, which is not meant.
func faultAt(t *testing.T, point, action string) fault {
	once := filepath.Join(t.TempDir(), "once")
	if point == "new.commit" || point == "new.ready" || point == "new.announced" {
		action += "@2"
	}
	return fault{testutil.FaultEnv(testutil.FaultSpec(point, action, once)), once}
}

// faultLater is faultAt for the processes that get to the point after begin was called.
func faultLater(t *testing.T, point, action string) (f fault, begin func()) {
	once, when := filepath.Join(t.TempDir(), "once"), filepath.Join(t.TempDir(), "now")
	begin = func() {
		if err := os.WriteFile(when, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return fault{testutil.FaultEnv(testutil.FaultSpec(point, action+"@"+when, once)), once}, begin
}

// time is when the process failed.
func (f fault) time() time.Time {
	info, err := os.Stat(f.once)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

var faultLine = regexp.MustCompile(`fault \S+ \S+ (\d+)`)

// faulted is the pid of the process that has failed, 0 before that.
func (r *running) faulted() int {
	m := faultLine.FindStringSubmatch(r.Output())
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

// frozen tells whether a process has failed by stopping, and runs no more: it has said so a moment before, in which it
// may still have accepted a connection.
func (r *running) frozen() bool { return r.faulted() != 0 && stopped(r.faulted()) }

// stopped tells whether SIGSTOP has reached all threads of a process. Until then one of them may handle the next signal.
func stopped(pid int) bool {
	all, some := threadsAre(pid, "T")
	return all && some
}

// gone tells whether all threads of a process have ended. Its parent may not have waited for it yet.
func gone(pid int) bool {
	all, _ := threadsAre(pid, "Z")
	return all
}

// threadsAre tells whether all threads of a process are in a state, and whether there are any.
func threadsAre(pid int, state string) (all, some bool) {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, path := range threads {
		b, err := os.ReadFile(path)
		if err == nil && !strings.Contains(string(b), ") "+state+" ") {
			return false, true
		}
	}
	return true, len(threads) > 0
}

// noteAccepted writes down from where connections come, before anything is read from them.
func (s *service) noteAccepted() func(net.Conn, http.ConnState) {
	path := acceptedBy(s.dir, os.Getpid())
	made := os.MkdirAll(filepath.Dir(path), 0o700)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err := errors.Join(made, err); err != nil {
		fmt.Fprintln(os.Stderr, "accepted:", err) // the test misses what would be there
	}
	return func(c net.Conn, state http.ConnState) {
		if state == http.StateNew {
			fmt.Fprintln(f, c.RemoteAddr())
		}
	}
}

func acceptedBy(dir string, pid int) string {
	return filepath.Join(dir, "accepted", strconv.Itoa(pid))
}

// accepted tells whether one of the processes has had the connection that a request was lost on: the client does not know
// whose it is before its first answer, nor when it moves.
func (r *running) accepted(o testutil.Offender, pids ...int) bool {
	return o.From() != "" && slices.ContainsFunc(pids, func(pid int) bool {
		b, _ := os.ReadFile(acceptedBy(r.dir, pid))
		return slices.Contains(strings.Fields(string(b)), o.From())
	})
}

// lostWith tells whether a request was lost with a process: it had received it, had accepted its connection, or may have
// done so without having noted it, since it came before the process was dead.
func (r *running) lostWith(o testutil.Offender, pid int, dead time.Time) bool {
	return o.By(pid) || r.accepted(o, pid) || o.PID == 0 && o.Start.Before(dead)
}

// dying is how long it takes until a process is dead that was sent a signal, or ends itself.
const dying = 50 * time.Millisecond

// mustHaveLostOnlyWith allows the loss of what the dead process had received: what it executed, what was sent on a
// connection that it had answered on before, and what was under way on a new connection when it died. Connections that
// nobody had accepted are none of these, and a refusal never is.
func (r *running) mustHaveLostOnlyWith(l *testutil.Load, f fault) {
	r.t.Helper()
	died := f.time()
	a := r.account(l)
	for _, o := range a.Except(r.faulted()) {
		underWay := !o.Start.After(died.Add(10*time.Millisecond)) && !o.End.Before(died.Add(-10*time.Millisecond))
		if o.PID != 0 || o.Verdict != testutil.NotExecuted || !underWay && !r.accepted(o, r.faulted()) {
			r.t.Errorf("lost, and not by the process that died at %v: %v", died, o)
		}
	}
	if a.Counts[testutil.Twice] > 0 || a.Unknown > 0 {
		r.t.Errorf("executed twice or out of nothing:\n%s", a)
	}
}

// A candidate that is killed at any step until it has confirmed the commit leaves the old process with everything. Only
// requests that the dead process had received are lost.
func TestCandidateMayDieAtAnyStep(t *testing.T) {
	for _, step := range []string{
		"new.start", "new.hello", "new.welcomed", "new.prepare", "new.prepared", "new.opened", "new.commit",
		"new.ready", // right after the Ready byte
	} {
		for _, action := range []string{"kill", "exit:3", "panic"} {
			t.Run(step+" "+action, func(t *testing.T) {
				t.Parallel()
				f := faultAt(t, step, action)
				r := startService(t, nil, f.env)
				l := r.load(smallLoad)
				a := r.ask("POST", "/upgrade")
				if a.Committed || a.Reason == "" {
					t.Fatalf("the upgrade was committed although its process died: %+v", a)
				}
				t.Logf("%s: %s", a.Phase, a.Reason)
				r.mustRecover(l, 1)
				r.mustHaveLostOnlyWith(l, f)
			})
		}
	}
}

// A candidate that stops moving is killed when its time is over, and stalls nobody until then.
func TestCandidateMayHangAtAnyStep(t *testing.T) {
	for _, step := range []string{"new.start", "new.hello", "new.welcomed", "new.prepare", "new.opened", "new.commit", "new.ready"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			change := func(s *settings) { s.Timeout, s.AbortGrace = 2*time.Second, time.Second }
			f := faultAt(t, step, "stop")
			r := startService(t, change, f.env)
			l := r.load(smallLoad)
			a := r.ask("POST", "/upgrade")
			if a.Committed {
				t.Fatalf("the upgrade was committed although its process hangs: %+v", a)
			}
			t.Logf("%s: %s", a.Phase, a.Reason)
			r.mustRecover(l, 1)
			r.mustHaveLostOnlyWith(l, f)
		})
	}
}

// If the old process is killed at any step after it has started a new one, the new one becomes the service.
func TestOldProcessMayDieAtAnyStep(t *testing.T) {
	for _, step := range []string{
		"old.started", "old.hello", "old.welcomed", "old.bequeathed", "old.prepared", "old.opened", "old.commit", "old.committed", "old.handed-over",
	} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			f := faultAt(t, step, "kill")
			r := startService(t, nil, f.env)
			l := r.load(smallLoad)
			if a, err := r.tryAsk(context.Background(), "POST", "/upgrade"); err == nil {
				t.Fatalf("the old process answered: %+v", a)
			}
			r.mustBeTakenOver(l, f)
		})
	}
}

// mustBeTakenOver waits for a successor of the killed process, and upgrades it.
func (r *running) mustBeTakenOver(l *testutil.Load, f fault) {
	r.t.Helper()
	dead := r.faulted()
	testutil.Until(r.t, 20*time.Second, "another process serves", func() bool { return r.servesWithout(dead) })
	r.WaitFamily(r.t, 1, 20*time.Second)
	r.mustRecover(l, r.ask("GET", "/status").Status.Generation)
	r.mustHaveLostOnlyWith(l, f)
}

// If the old process dies just after it has taken the upgrade back, the candidate, which has ended its server already,
// starts itself anew: there is nobody else.
func TestOldProcessMayDieWhileItTakesBack(t *testing.T) {
	for _, step := range []string{"old.taking-back", "old.aborted", "old.returned"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			f := faultAt(t, step, "kill")
			// An idle connection that has moved back dies with the old process, so none moves here.
			r := startService(t, staying, f.env)
			l := r.load(smallLoad)
			gone := make(chan struct{})
			go func() {
				defer close(gone)
				_, _ = r.tryAsk(context.Background(), "POST", "/upgrade") // its answer dies with the process
			}()
			testutil.Until(t, 20*time.Second, "both accept", func() bool { return l.Seen("g2") })
			_, _ = r.tryAsk(context.Background(), "POST", "/abort")
			<-gone
			r.mustBeTakenOver(l, f)
		})
	}
}

// A stopped old process delays an upgrade, and breaks nothing.
func TestOldProcessMayHangAtAnyStep(t *testing.T) {
	for _, step := range []string{"old.started", "old.hello", "old.welcomed", "old.bequeathed", "old.prepared", "old.opened", "old.commit", "old.committed", "old.handed-over"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			f := faultAt(t, step, "stop")
			r := startService(t, nil, f.env)
			l := r.load(smallLoad)
			done := make(chan answer, 1)
			go func() {
				a, _ := r.tryAsk(context.Background(), "POST", "/upgrade")
				done <- a
			}()
			testutil.Until(t, 20*time.Second, "the old process is stopped", r.frozen)
			answered := l.Total()
			time.AfterFunc(200*time.Millisecond, func() { _ = syscall.Kill(r.faulted(), syscall.SIGCONT) })
			testutil.Until(t, 20*time.Second, "requests are answered again", func() bool { return l.Total() > answered+50 })
			if a := <-done; !a.Committed {
				t.Fatalf("upgrade: %+v", a)
			}
			testutil.Until(t, 20*time.Second, "the new process answers", func() bool { return l.Seen("g2") })
			r.WaitFamily(t, 1, 30*time.Second)
			r.account(l).MustBeClean(t)
		})
	}
}
