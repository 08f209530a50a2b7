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
			case <-time.After(time.Millisecond):
				_, err := os.Stat(at)
				done = errors.Is(err, os.ErrNotExist)
			}
		}
	}
	return nil
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

// Counted connections are exactly the share: the difference is less than one connection.
func TestShareIsCounted(t *testing.T) {
	t.Parallel()
	r := startService(t, byWeights(0.05))
	done := r.beginUpgrade()
	r.atStep(0)
	got := 0
	for range 1000 {
		p := r.dial()
		if p.by == "g2" {
			got++
		}
		p.c.Close()
	}
	if got != 50 {
		t.Errorf("%d of 1000 connections went to the candidate, want 50", got)
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
					s.Silence, s.AbortGrace = 400*time.Millisecond, 5*time.Second
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
				for _, o := range acc.Except(candidate) {
					if o.Verdict == testutil.Refused || o.Start.After(died.Add(time.Second)) {
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
