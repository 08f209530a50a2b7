//go:build linux

package upgrade_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

var upgrades = flag.Int("midair.upgrades", 100, "how many upgrades TestUpgradeLosesNothingUnderLoad makes")

// No request is lost by an upgrade, and none is executed twice.
func TestUpgradeLosesNothingUnderLoad(t *testing.T) {
	r := startService(t, nil)
	l := r.load(testutil.LoadOptions{KeepAlive: 32, New: 8, SlowEvery: 50})
	for range *upgrades {
		r.upgrade()
	}
	last := fmt.Sprint("g", *upgrades+1)
	testutil.Until(t, 20*time.Second, "the last generation answers", func() bool { return l.Seen(last) })
	a := r.account(l)
	t.Logf("%d upgrades\n%s", *upgrades, a)
	a.MustBeClean(t)
	r.WaitFamily(t, 1, 30*time.Second)
}

// Ten HUPs at once are one upgrade and at most one more for those that came meanwhile.
func TestTenHangupsAtOnceAreHarmless(t *testing.T) {
	r := startService(t, nil)
	l := r.load(smallLoad)
	for range 10 {
		r.signalMain(syscall.SIGHUP)
	}
	testutil.Until(t, 20*time.Second, "a new generation serves alone", func() bool {
		a, err := r.tryAsk(context.Background(), "GET", "/status")
		return err == nil && a.Status.Generation >= 2 && a.Status.Candidate == nil && len(r.Family()) == 1
	})
	g := r.ask("GET", "/status").Status.Generation
	if g > 3 {
		t.Fatalf("generation %d after ten signals at once", g)
	}
	r.mustRecover(l, g)
	r.account(l).MustBeClean(t)
}

// A HUP during an upgrade is not forgotten: whoever serves afterwards does it.
func TestHangupDuringAnUpgradeIsRemembered(t *testing.T) {
	r := startService(t, func(s *settings) { s.Soak = time.Minute })
	r.signalMain(syscall.SIGHUP)
	r.waitPhase("soak")
	r.signalMain(syscall.SIGHUP)
	pid := r.mainPID()
	testutil.Until(t, 20*time.Second, "the signal has reached a thread", func() bool { // on a busy machine the process may end before
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		return err == nil && strings.Contains(string(b), "\nShdPnd:\t0000000000000000\n")
	})
	r.change(func(s *settings) { s.Soak = 50 * time.Millisecond })
	testutil.Until(t, 20*time.Second, "the third generation serves", func() bool {
		a, err := r.tryAsk(context.Background(), "POST", "/commit")
		return err == nil && a.Status.Generation == 3 && a.Status.State == "serving"
	})
}

func (r *running) waitPhase(phase string) {
	r.t.Helper()
	testutil.Until(r.t, 20*time.Second, "the phase "+phase, func() bool {
		c := r.ask("GET", "/status").Status.Candidate
		return c != nil && string(c.Phase) == phase
	})
}

// While an upgrade is under way another one is refused, and a commit by hand ends it early.
func TestSecondUpgradeIsRefusedMeanwhile(t *testing.T) {
	r := startService(t, func(s *settings) { s.Soak = time.Minute })
	first := make(chan answer, 1)
	go func() {
		a, _ := r.tryAsk(context.Background(), "POST", "/upgrade")
		first <- a
	}()
	r.waitPhase("soak")
	if a := r.ask("POST", "/upgrade"); !a.InProgress {
		t.Fatalf("second upgrade: %+v", a)
	}
	if a := r.ask("POST", "/commit"); !a.Committed {
		t.Fatalf("commit: %+v", a)
	}
	if a := <-first; !a.Committed {
		t.Fatalf("upgrade: %+v", a)
	}
	r.WaitFamily(t, 1, 20*time.Second)
	if a := r.ask("POST", "/commit"); !a.NotReady {
		t.Fatalf("commit without an upgrade: %+v", a)
	}
	if a := r.ask("POST", "/abort"); !a.NotReady {
		t.Fatalf("abort without an upgrade: %+v", a)
	}
}

// An abort gives everything back at once: by hand, or because the caller of Upgrade went away.
func TestAbortTakesTheUpgradeBack(t *testing.T) {
	r := startService(t, func(s *settings) { s.Soak = time.Minute })
	l := r.load(smallLoad)
	for _, how := range []string{"by hand", "context canceled"} {
		ctx, cancel := context.WithCancel(t.Context())
		path := "/upgrade"
		if how != "by hand" {
			path = "/upgrade-while-connected"
		}
		done := make(chan answer, 1)
		go func() {
			a, _ := r.tryAsk(ctx, "POST", path)
			done <- a
		}()
		r.waitPhase("soak")
		if how == "by hand" {
			r.ask("POST", "/abort")
		} else {
			cancel()
		}
		if a := <-done; how == "by hand" && (!a.Aborted || a.Phase != "soak" || !strings.Contains(a.Reason, how)) {
			t.Fatalf("aborted upgrade: %+v", a)
		}
		cancel()
		r.WaitFamily(t, 1, 20*time.Second)
		testutil.Until(t, 10*time.Second, "the outcome is known: "+how, func() bool {
			last := r.ask("GET", "/status").Status.Last
			return last != nil && !last.Committed && strings.Contains(last.Reason, how)
		})
	}
	r.upgradeNow()
	r.account(l).MustBeClean(t)
}

// What is kept survives a good upgrade; what the candidate has changed comes back on an abort; a value that refuses
// what was sent with the commit takes the commit back.
func TestKeptValuesSurvive(t *testing.T) {
	r := startService(t, func(s *settings) { s.Soak = time.Minute })
	r.add(1, "g1")
	r.upgradeNow()
	r.WaitFamily(t, 1, 20*time.Second)
	r.add(2, "g2")

	_, aborted := r.soaking()
	testutil.Until(t, 20*time.Second, "the candidate has raised the value", func() bool {
		_, by := r.post("/add")
		return by == "g3"
	})
	n, _ := r.post("/add")
	r.ask("POST", "/abort")
	<-aborted
	r.WaitFamily(t, 1, 20*time.Second)
	if got, by := r.post("/add"); got < n || by != "g2" {
		t.Fatalf("after the abort %s says %d: want at least %d of g2", by, got, n)
	}

	r.change(func(s *settings) { s.Bad = "refuse-commit" })
	_, done := r.soaking()
	r.ask("POST", "/commit")
	if a := <-done; a.Committed || a.Phase != "commit" || !strings.Contains(a.Reason, "not in this shape") {
		t.Fatalf("upgrade with a value that refuses: %+v", a)
	}
	r.WaitFamily(t, 1, 20*time.Second)
	if _, by := r.post("/add"); by != "g2" {
		t.Fatalf("after the refusal %s answers", by)
	}
}

func (r *running) post(path string) (n int, by string) {
	r.t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Post("http://"+r.addr+path, "", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	_, _ = fmt.Sscan(string(b), &n)
	return n, resp.Header.Get("X-Version")
}

func (r *running) add(want int, by string) {
	r.t.Helper()
	if n, v := r.post("/add"); n != want || v != by {
		r.t.Fatalf("%s says %d, want %s and %d", v, n, by, want)
	}
}

// A parent and a child that know tableflip only take part: old and new need not both use this library.
func TestPlainTableflipOnEitherSide(t *testing.T) {
	r := startService(t, func(s *settings) { s.Plain = true })
	l := r.load(smallLoad)

	r.change(func(s *settings) { s.Plain = false })
	r.signalMain(syscall.SIGHUP)
	testutil.Until(t, 20*time.Second, "the library answers", func() bool { return l.Seen("g2") })
	r.WaitFamily(t, 1, 30*time.Second)
	if a := r.account(l); a.Counts[testutil.Refused] > 0 || a.Counts[testutil.Twice] > 0 {
		t.Fatalf("tableflip's Shutdown may lose what it has accepted, but no more\n%s", a)
	}

	l = r.load(smallLoad)
	r.change(func(s *settings) { s.Plain = true })
	r.upgrade()
	testutil.Until(t, 20*time.Second, "tableflip answers", func() bool { return l.Seen("plain") })
	r.WaitFamily(t, 1, 30*time.Second)
	r.account(l).MustBeClean(t)

	r.change(func(s *settings) { s.Plain = false })
	plain, asked := r.mainPID(), time.Time{}
	testutil.Until(t, 20*time.Second, "the library serves again", func() bool {
		if r.mainPID() == plain && time.Since(asked) > time.Second { // tableflip refuses until it knows that its parent has gone
			asked = time.Now()
			r.signalMain(syscall.SIGHUP)
		}
		a, err := r.tryAsk(context.Background(), "GET", "/status")
		return err == nil && a.Status.State == "serving"
	})
	r.WaitFamily(t, 1, 30*time.Second)
	r.upgrade()
}
