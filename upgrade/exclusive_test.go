//go:build linux

package upgrade_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
)

// lock is a resource that the kernel gives to one process at a time, and a diary of who had it.
type lock struct {
	dir  string
	bad  string
	file *os.File
}

// exclusive makes the service hold the lock, if the settings say so. The next generation cannot acquire it if Bad says
// so.
func (s *service) exclusive() {
	if s.set.Exclusive == "" {
		return
	}
	l := &lock{dir: s.dir}
	if s.upgraded {
		l.bad = s.set.Bad
	}
	s.lock = l
	background := s.set.Exclusive == "background"
	s.up.Exclusive("lock", upgrade.Resource{Acquire: l.acquire, Release: l.release, Background: background})
	s.up.Exclusive("second", upgrade.Resource{Background: background, Acquire: func(context.Context) error {
		if l.bad == "second" {
			return errors.New("the second one is not to be had")
		}
		return nil
	}})
}

func (l *lock) acquire(ctx context.Context) error {
	if l.bad == "acquire" {
		return errors.New("the volume is not there")
	}
	f, err := os.OpenFile(filepath.Join(l.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	for { // flock has no context
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
			break
		}
		select {
		case <-ctx.Done():
			f.Close()
			return fmt.Errorf("somebody holds it: %w", ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
	l.file = f
	return l.note("has")
}

func (l *lock) release(context.Context) error {
	err := l.note("leaves")
	return errors.Join(err, l.file.Close())
}

// note writes what happens into the diary, while it holds the lock.
func (l *lock) note(what string) error {
	f, err := os.OpenFile(filepath.Join(l.dir, "diary"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%d %s\n", os.Getpid(), what)
	return errors.Join(err, f.Close())
}

// diary tells who had the lock, each once for each time.
func (r *running) diary() (holders []int) {
	r.t.Helper()
	b, err := os.ReadFile(filepath.Join(r.dir, "diary"))
	if err != nil {
		r.t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		var pid int
		var what string
		if _, err := fmt.Sscan(string(line), &pid, &what); err != nil {
			r.t.Fatal(err)
		}
		if what == "has" {
			holders = append(holders, pid)
		}
	}
	return holders
}

// heldBy is the process that has the lock now, by its answers.
func (r *running) mustHold(pid int) {
	r.t.Helper()
	if h := r.diary(); h[len(h)-1] != pid {
		r.t.Errorf("the last to acquire was %d, want %d: %v", h[len(h)-1], pid, h)
	}
	if n, _ := r.post("/held"); n != pid {
		r.t.Errorf("a handler says that %d holds the lock, want %d", n, pid)
	}
}

var exclusively = func(s *settings) { s.Exclusive = "serving" }

// A resource is never in two hands, and nobody serves without it: the old process gives it up before the commit, the new
// one takes it before it accepts. Clients notice nothing.
func TestExclusiveResourcePassesWithTheCommit(t *testing.T) {
	t.Parallel()
	r := startService(t, exclusively)
	o := smallLoad
	o.Path = "/held" // fails in a process that accepts without the lock
	l := r.load(o)
	for range 10 {
		r.upgrade()
		r.mustHold(r.mainPID())
	}
	a := r.account(l)
	t.Log(a)
	a.MustBeClean(t)
	if h := r.diary(); len(h) != 11 {
		t.Errorf("%d processes had the lock: %v", len(h), h)
	}
	r.signalMain(syscall.SIGTERM)
	r.WaitFamily(t, 0, patience)
	b, _ := os.ReadFile(filepath.Join(r.dir, "diary"))
	if !strings.HasSuffix(string(b), "leaves\n") {
		t.Errorf("a stop does not release: %s", b)
	}
}

// While the resource is needed to serve, a candidate does not accept before the commit; in the background it may.
func TestCandidateDoesNotAcceptWithoutTheResource(t *testing.T) {
	t.Parallel()
	r := startService(t, func(s *settings) { s.Exclusive, s.Soak = "serving", 300*time.Millisecond })
	l := r.load(smallLoad)
	done := r.beginUpgrade()
	r.waitPhase("soak")
	answered := l.Total()
	testutil.Until(t, patience, "the load goes on", func() bool { return l.Total() > answered+20 || len(done) > 0 })
	if len(done) == 0 && l.Seen("g2") {
		t.Error("the candidate has accepted before it had what it needs")
	}
	if a := <-done; !a.Committed {
		t.Fatalf("upgrade: %+v", a)
	}
	r.account(l).MustBeClean(t)

	back := startService(t, func(s *settings) { s.Exclusive, s.Soak = "background", time.Minute })
	l = back.load(smallLoad)
	done = back.beginUpgrade()
	back.waitPhase("soak")
	testutil.Until(t, patience, "both accept", func() bool { return l.Seen("g2") })
	back.ask("POST", "/commit")
	if a := <-done; !a.Committed {
		t.Fatalf("upgrade: %+v", a)
	}
	back.account(l).MustBeClean(t)
}

// If the new process cannot acquire, or dies with what it has acquired, the old one gets it back and serves on.
func TestExclusiveResourceComesBack(t *testing.T) {
	for name, c := range map[string]struct{ bad, step, reason string }{
		"cannot acquire":         {bad: "acquire", reason: "the volume is not there"},
		"cannot acquire another": {bad: "second", reason: "the second one is not to be had"},
		"dies with it":           {step: "new.commit", reason: "killed"},
		"dies before":            {step: "new.opened", reason: "killed"},
		"refuses the state":      {bad: "refuse-commit", reason: "not in this shape"},
	} {
		for _, kind := range []string{"serving", "background"} {
			if c.step == "new.opened" && kind == "serving" {
				continue // it does not come to that
			}
			t.Run(name+" "+kind, func(t *testing.T) {
				t.Parallel()
				var env []string
				f := fault{}
				if c.step != "" {
					f = faultAt(t, c.step, "kill")
					env = append(env, f.env)
				}
				r := startService(t, func(s *settings) { s.Exclusive, s.Bad = kind, c.bad }, env...)
				l := r.load(smallLoad)
				a := r.ask("POST", "/upgrade")
				if a.Committed || !strings.Contains(a.Reason, c.reason) {
					t.Fatalf("upgrade: %+v", a)
				}
				r.mustHold(r.PID())
				r.mustRecover(l, 1)
				r.mustHold(r.mainPID())
				r.mustHaveLostOnlyWith(l, f)
			})
		}
	}
}

// If the old process dies after it gave the resource up, or with it in hand, the candidate takes it and becomes the
// service.
func TestOldProcessMayDieWithTheResource(t *testing.T) {
	for _, step := range []string{"old.prepared", "old.released", "old.commit", "old.committed", "old.handed-over"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			f := faultAt(t, step, "kill")
			r := startService(t, exclusively, f.env)
			l := r.load(smallLoad)
			if a, err := r.tryAsk(t.Context(), "POST", "/upgrade"); err == nil {
				t.Fatalf("the old process answered: %+v", a)
			}
			r.mustBeTakenOver(l, f)
			r.mustHold(r.mainPID())
		})
	}
}

// An abort that comes while the old process releases gives the resource back.
func TestAbortDuringTheReleaseGivesBack(t *testing.T) {
	t.Parallel()
	f := faultAt(t, "old.released", "stop")
	r := startService(t, exclusively, f.env)
	done := r.beginUpgrade()
	testutil.Until(t, patience, "the old process has released", r.frozen)
	aborted := make(chan struct{})
	go func() {
		defer close(aborted)
		_, _ = r.tryAsk(context.Background(), "POST", "/abort") // too late or not: both are right
	}()
	_ = syscall.Kill(r.faulted(), syscall.SIGCONT)
	<-aborted
	<-done
	testutil.Until(t, patience, "somebody serves", func() bool {
		a, err := r.tryAsk(t.Context(), "GET", "/status")
		return err == nil && a.Status.State == "serving" && a.Status.Candidate == nil && len(r.Family()) == 1
	})
	r.mustHold(r.mainPID())
}

// A first process that cannot acquire ends with the error: it could not serve.
func TestFirstProcessNeedsItsResource(t *testing.T) {
	t.Parallel()
	up := newUnsupported(t, upgrade.Options{})
	gone := errors.New("no licence left")
	up.Exclusive("licence", upgrade.Resource{Acquire: func(context.Context) error { return gone }})
	if err := up.Run(t.Context(), serveUntilDone); !errors.Is(err, gone) || !strings.Contains(err.Error(), `acquire "licence"`) {
		t.Errorf("Run: %v", err)
	}
}

// A stop does not wait for a resource that is not to be had, and what is acquired late is released.
func TestStopWhileAcquiring(t *testing.T) {
	t.Parallel()
	up := newUnsupported(t, upgrade.Options{})
	asked, released := make(chan struct{}), 0
	up.Exclusive("slow", upgrade.Resource{
		Acquire: func(ctx context.Context) error { close(asked); <-ctx.Done(); return nil },
		Release: func(context.Context) error { released++; return nil },
	})
	ctx, stop := context.WithCancel(t.Context())
	go func() { <-asked; stop() }()
	if err := up.Run(ctx, serveUntilDone); err != nil || released != 1 {
		t.Errorf("Run: %v, released %d times", err, released)
	}
}
