//go:build linux

package upgrade_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
)

// steps is a judge that goes through the weights of the settings. It stays at each until the test lets it go on.
func steps(ctx context.Context, set settings, dir string, c *upgrade.Candidate) error {
	found := watchFigures(dir, c)
	for n, w := range set.Weights {
		if err := c.SetWeight(w); err != nil {
			return err
		}
		if c.Weight() != w {
			return fmt.Errorf("the weight is %v, not %v", c.Weight(), w)
		}
		at := filepath.Join(dir, "step")
		if err := os.WriteFile(at, []byte(fmt.Sprint(n)), 0o600); err != nil {
			return err
		}
		for done := false; !done; {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case err := <-found:
				return err
			case <-time.After(time.Millisecond):
				_, err := os.Stat(at)
				done = errors.Is(err, os.ErrNotExist)
			}
		}
	}
	return nil
}

// toggle is a judge that gives the candidate everything and takes it back, again and again.
func toggle(ctx context.Context, c *upgrade.Candidate) error {
	for n := 1; ; n++ {
		if err := c.SetWeight(float64(n % 2)); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// atStep waits until the judge is at the step.
func (r *running) atStep(n int) {
	r.t.Helper()
	testutil.Until(r.t, patience, fmt.Sprint("step ", n), func() bool {
		b, err := os.ReadFile(filepath.Join(r.dir, "step"))
		return err == nil && string(b) == fmt.Sprint(n)
	})
}

// goOn lets the judge leave its step.
func (r *running) goOn() {
	r.t.Helper()
	if err := os.Remove(filepath.Join(r.dir, "step")); err != nil {
		r.t.Fatal(err)
	}
}

func byWeights(weights ...float64) func(*settings) {
	return func(s *settings) { s.Bake, s.Weights, s.Soak = "steps", weights, 0 }
}

// The candidate gets exactly its share of the new connections, at every step, and then everything. Nothing is lost.
func TestCandidateGetsItsShare(t *testing.T) {
	t.Parallel()
	weights := []float64{0.05, 0.25, 0.5, 1}
	r := startService(t, byWeights(weights...))
	l := r.load(testutil.LoadOptions{New: 4, KeepAlive: 4, SlowEvery: 50})
	done := r.beginUpgrade()
	const conns = 400
	for n, w := range weights {
		r.atStep(n)
		if w == 1 {
			testutil.Until(t, patience, "the candidate accepts", func() bool { return r.dial().by == "g2" })
			r.goOn()
			continue
		}
		own := 0
		for range conns {
			p := r.dial()
			if p.by == "g2" {
				own++
			}
			p.c.Close()
		}
		// The load's connections are counted too, so that a share of the test's own is not exact, but near.
		if got := float64(own) / conns; math.Abs(got-w) > 0.06 {
			t.Errorf("weight %v: %.3f of the connections", w, got)
		}
		r.goOn()
	}
	if a := <-done; !a.Committed {
		t.Fatalf("upgrade: %+v", a)
	}
	testutil.Until(t, patience, "the new one answers everybody", func() bool { return l.Seen("g2") })
	r.account(l).MustBeClean(t)
	r.WaitFamily(t, 1, patience)
}

// Counted connections are exactly the share: over ten thousand the difference is less than one connection.
func TestShareIsCounted(t *testing.T) {
	t.Parallel()
	r := startService(t, byWeights(0.05))
	done := r.beginUpgrade()
	r.atStep(0)
	const conns = 10_000
	got := 0
	for range conns {
		p := r.connectOnly()
		if p.ask("/work"); p.by == "g2" {
			got++
		}
		p.c.Close()
	}
	t.Logf("weight 0.05: %d of %d connections", got, conns)
	if want := conns / 20; got < want-1 || got > want+1 {
		t.Errorf("%d of %d connections went to the candidate, want %d", got, conns, want)
	}
	r.goOn()
	if a := <-done; !a.Committed {
		t.Fatalf("upgrade: %+v", a)
	}
}

// An abort, an error of the judge, and the death of the candidate in every way give everything back at every weight: no
// connection is refused, and what is lost is what a dead process had received.
func TestEverythingComesBackAtEveryWeight(t *testing.T) {
	for _, w := range []float64{0.05, 0.5, 1} {
		for _, how := range []string{"abort", "kill", "stop", "term"} {
			t.Run(fmt.Sprint(how, w), func(t *testing.T) {
				t.Parallel()
				r := startService(t, func(s *settings) {
					byWeights(w)(s)
					s.Silence, s.AbortGrace = time.Second, 5*time.Second
				})
				l := r.load(smallLoad)
				done := r.beginUpgrade()
				r.atStep(0)
				testutil.Until(t, patience, "the candidate answers", func() bool { return l.Seen("g2") })
				candidate := r.ask("GET", "/status").Status.Candidate.PID
				died := time.Now()
				switch how {
				case "abort":
					r.ask("POST", "/abort")
				case "kill":
					_ = syscall.Kill(candidate, syscall.SIGKILL)
				case "stop":
					_ = syscall.Kill(candidate, syscall.SIGSTOP)
				case "term":
					_ = syscall.Kill(candidate, syscall.SIGTERM)
				}
				a := <-done
				if a.Committed || a.Phase != "bake" && how != "term" {
					t.Fatalf("upgrade: %+v", a)
				}
				t.Logf("%s: %s", a.Phase, a.Reason)
				r.change(func(s *settings) { s.Bake = "" })
				if got := r.ask("GET", "/status").Status; got.Generation != 1 || got.State != "serving" {
					t.Fatalf("generation %d is %s", got.Generation, got.State)
				}
				answered := l.Total()
				testutil.Until(t, patience, "the load goes on", func() bool { return l.Total() > answered+100 })
				acc := r.account(l)
				if how == "abort" || how == "term" {
					acc.MustBeClean(t)
					return
				}
				for _, o := range acc.Offenders {
					if o.Verdict == testutil.Refused || !r.lostWith(o, candidate, died.Add(dying)) {
						t.Errorf("lost: %v", o)
					}
				}
			})
		}
	}
}

// A connection that the candidate has, and has not read from, outlives it.
func TestUnreadConnectionsOutliveTheCandidate(t *testing.T) {
	t.Parallel()
	r := startService(t, byWeights(0.999))
	done := r.beginUpgrade()
	r.atStep(0)
	var conns []*peer
	for range 50 {
		conns = append(conns, r.connectOnly())
	}
	pid := r.ask("GET", "/status").Status.Candidate.PID
	testutil.Until(t, patience, "the candidate has the connections", func() bool { return openSockets(pid) >= 50 })
	_ = syscall.Kill(pid, syscall.SIGKILL)
	if a := <-done; a.Committed || !strings.Contains(a.Reason, "killed") {
		t.Fatalf("upgrade: %+v", a)
	}
	for _, p := range conns {
		if p.ask("/work"); p.by != "g1" {
			t.Fatalf("%s answers", p.by)
		}
	}
}

// Half of the connections are with each process when the old one is killed: the candidate takes over, connections that
// were on their way included, and nobody is refused.
func TestOldProcessMayDieWhileItShares(t *testing.T) {
	for n := range 3 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			r := startService(t, byWeights(0.5))
			l := r.load(testutil.LoadOptions{KeepAlive: 4, New: 12})
			done := r.beginUpgrade()
			r.atStep(0)
			testutil.Until(t, patience, "the candidate answers", func() bool { return l.Seen("g2") })
			old := r.PID()
			died := time.Now()
			r.Kill()
			<-done
			testutil.Until(t, patience, "the candidate serves", func() bool { return r.servesWithout(old) })
			answered := l.Total()
			testutil.Until(t, patience, "the load goes on", func() bool { return l.Total() > answered+100 })
			for _, o := range r.account(l).Offenders {
				if o.Verdict == testutil.Refused || !r.lostWith(o, old, died.Add(dying)) {
					t.Errorf("lost: %v", o)
				}
			}
			r.change(func(s *settings) { s.Bake = "" })
			r.upgrade()
		})
	}
}

// With Sticky an address stays on its side while the weight grows, and after an abort it is on the same side again.
func TestAddressesStayOnTheirSide(t *testing.T) {
	t.Parallel()
	weights := []float64{0.05, 0.25, 0.5}
	r := startService(t, func(s *settings) { byWeights(weights...)(s); s.Sticky, s.Addr = true, "127.0.0.1:0" })
	const clients = 100
	ask := func() (sides [clients]string) {
		for i := range sides {
			p := r.dialFrom(fmt.Sprintf("127.0.%d.%d", 1+i/50, 1+i%50))
			sides[i] = p.by
			p.c.Close()
		}
		return sides
	}
	var first [clients]string
	for round := range 2 {
		done := r.beginUpgrade()
		var last [clients]string
		for n := range weights {
			r.atStep(n)
			now, again := ask(), ask()
			if now != again {
				t.Error("an address changes side at one weight")
			}
			moved := 0
			for i := range now {
				if last[i] == "g2" && now[i] == "g1" {
					t.Errorf("weight %v: client %d goes back", weights[n], i)
				}
				if now[i] == "g2" {
					moved++
				}
			}
			if got := float64(moved) / clients; math.Abs(got-weights[n]) > 0.15 {
				t.Errorf("weight %v: %.2f of the addresses", weights[n], got)
			}
			if last = now; n < len(weights)-1 {
				r.goOn()
			}
		}
		if round == 0 {
			first = last
		} else if first != last {
			t.Error("the second attempt tries other addresses")
		}
		r.ask("POST", "/abort")
		<-done
		r.WaitFamily(t, 1, patience)
	}
}

// Weights that are none are refused, and so is one that comes too late, or while a resource is needed to serve.
func TestWeightsAreRefusedByName(t *testing.T) {
	var c upgrade.Candidate
	for _, w := range []float64{-0.1, 1.1, math.NaN(), math.Inf(1)} {
		if err := c.SetWeight(w); err == nil || !strings.Contains(err.Error(), "want a number from 0 to 1") {
			t.Errorf("%v: %v", w, err)
		}
	}
	if err := c.SetWeight(0.5); !errors.Is(err, upgrade.ErrClosed) {
		t.Errorf("weight of no candidate: %v", err)
	}
	r := startService(t, func(s *settings) { byWeights(0.5)(s); s.Exclusive = "serving" })
	if a := r.ask("POST", "/upgrade"); a.Committed || !strings.Contains(a.Reason, "exclusive resource") {
		t.Errorf("a weight with a resource: %+v", a)
	}
}

// A candidate that is taken back at a small weight finishes the requests that it has begun, however long they take.
func TestCandidateFinishesWhatItHasBegun(t *testing.T) {
	t.Parallel()
	r := startService(t, byWeights(0.999))
	done := r.beginUpgrade()
	r.atStep(0)
	held := r.connect("g2").begin()
	r.ask("POST", "/abort")
	<-time.After(idleAbort + 500*time.Millisecond) // the request's own length
	held.finish()
	if held.by != "g2" {
		t.Errorf("%s has answered", held.by)
	}
	if a := <-done; !a.Aborted {
		t.Errorf("upgrade: %+v", a)
	}
}

// idleAbort is how long a candidate has that has accepted nothing.
const idleAbort = 2 * time.Second

// A candidate that had everything and hangs in the commit stalls nobody until it is killed.
func TestHangInTheCommitOfASharedService(t *testing.T) {
	t.Parallel()
	f := faultAt(t, "new.commit", "stop")
	r := startService(t, func(s *settings) { byWeights(1)(s); s.Timeout = 15 * time.Second }, f.env)
	done := r.beginUpgrade()
	r.atStep(0)
	r.goOn()
	testutil.Until(t, patience, "the candidate hangs", r.frozen)
	began := time.Now()
	for range 20 {
		p := r.connectOnly()
		if p.ask("/work"); p.by != "g1" {
			t.Fatalf("%s answers", p.by)
		}
		p.c.Close()
	}
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("twenty requests took %v", took)
	}
	if a := <-done; a.Committed || a.Phase != "commit" {
		t.Errorf("upgrade: %+v", a)
	}
}
