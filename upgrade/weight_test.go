//go:build linux

package upgrade_test

import (
	"errors"
	"fmt"
	"math"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// At every step the candidate gets exactly its share of the new connections, and at the end all of them. No connection is lost.
func TestCandidateGetsItsShare(t *testing.T) {
	t.Parallel()
	weights := []float64{0.05, 0.25, 0.5, 1}
	r := testclient.Start(t, byWeights(weights...))
	l := r.Load(testutil.LoadOptions{New: 4, KeepAlive: 4, SlowEvery: 50})
	done := r.BeginUpgrade()
	const conns = 400
	for n, w := range weights {
		r.AtStep(n)
		if w == 1 {
			testutil.Until(t, patience, "the candidate accepts", func() bool { return r.Dial().By == "g2" })
			r.GoOn()
			continue
		}
		own := 0
		for range conns {
			p := r.Dial()
			if p.By == "g2" {
				own++
			}
			p.Close()
		}
		// The connections of the load are counted too, so the share of the test's own connections is not exact, but nearly.
		if got := float64(own) / conns; math.Abs(got-w) > 0.06 {
			t.Errorf("weight %v: %.3f of the connections", w, got)
		}
		r.GoOn()
	}
	if a := <-done; !a.Committed {
		t.Fatalf("upgrade: %+v", a)
	}
	testutil.Until(t, patience, "the new one answers everybody", func() bool { return l.Seen("g2") })
	r.Account(l).MustBeClean(t)
	r.WaitFamily(t, 1, patience)
}

// If connections are counted, the share is exact: over ten thousand connections, the difference is less than one connection.
func TestShareIsCounted(t *testing.T) {
	testutil.AlsoWithoutRace()
	t.Parallel()
	r := testclient.Start(t, byWeights(0.05))
	done := r.BeginUpgrade()
	r.AtStep(0)
	const conns = 10_000
	got := 0
	for range conns {
		p := r.Connect()
		if p.Ask("/work"); p.By == "g2" {
			got++
		}
		p.Close()
	}
	t.Logf("weight 0.05: %d of %d connections", got, conns)
	if want := conns / 20; got < want-1 || got > want+1 {
		t.Errorf("%d of %d connections went to the candidate, want %d", got, conns, want)
	}
	r.GoOn()
	if a := <-done; !a.Committed {
		t.Fatalf("upgrade: %+v", a)
	}
}

// After an abort, an error of the judge, or any death of the candidate, all connections come back, at every weight. No
// connection is refused, and only the requests that a dead process had read are lost.
func TestEverythingComesBackAtEveryWeight(t *testing.T) {
	for _, w := range []float64{0.05, 0.5, 1} {
		for _, how := range []string{"abort", "kill", "stop", "term"} {
			t.Run(fmt.Sprint(how, w), func(t *testing.T) {
				testutil.Sample(t)
				t.Parallel()
				r := testclient.Start(t, func(s *plan.Settings) {
					byWeights(w)(s)
					s.Silence, s.AbortGrace = time.Second, 5*time.Second
				})
				l := r.Load(smallLoad)
				done := r.BeginUpgrade()
				r.AtStep(0)
				testutil.Until(t, patience, "the candidate answers", func() bool { return l.Seen("g2") })
				candidate := r.Candidate()
				died := time.Now()
				switch how {
				case "abort":
					r.Ask("POST", "/abort")
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
				r.Change(func(s *plan.Settings) { s.Bake = "" })
				if got := r.Status(); got.Generation != 1 || got.State != "serving" {
					t.Fatalf("generation %d is %s", got.Generation, got.State)
				}
				answered := l.Total()
				testutil.Until(t, patience, "the load goes on", func() bool { return l.Total() > answered+100 })
				acc := r.Account(l)
				if how == "abort" || how == "term" {
					acc.MustBeClean(t)
					return
				}
				for _, o := range acc.Offenders {
					if o.Verdict == testutil.Refused || !r.LostWith(o, candidate, died.Add(dying)) {
						t.Errorf("lost: %v", o)
					}
				}
			})
		}
	}
}

// A connection from which the candidate has not read survives the death of the candidate.
func TestUnreadConnectionsOutliveTheCandidate(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, byWeights(0.999))
	done := r.BeginUpgrade()
	r.AtStep(0)
	var conns []*testclient.Peer
	for range 50 {
		conns = append(conns, r.Connect())
	}
	pid := r.Candidate()
	testutil.Until(t, patience, "the candidate has the connections", func() bool { return testclient.OpenSockets(pid) >= 50 })
	_ = syscall.Kill(pid, syscall.SIGKILL)
	if a := <-done; a.Committed || !strings.Contains(a.Reason, "killed") {
		t.Fatalf("upgrade: %+v", a)
	}
	for _, p := range conns {
		if p.Ask("/work"); p.By != "g1" {
			t.Fatalf("%s answers", p.By)
		}
	}
}

// The old process is killed while each process has half of the connections. The candidate takes over, together with connections
// that were on their way. No connection is refused.
func TestOldProcessMayDieWhileItShares(t *testing.T) {
	for n := range 3 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, byWeights(0.5))
			l := r.Load(testutil.LoadOptions{KeepAlive: 4, New: 12})
			done := r.BeginUpgrade()
			r.AtStep(0)
			testutil.Until(t, patience, "the candidate answers", func() bool { return l.Seen("g2") })
			old := r.PID()
			died := time.Now()
			r.Kill()
			<-done
			testutil.Until(t, patience, "the candidate serves", func() bool { return r.ServesWithout(old) })
			answered := l.Total()
			testutil.Until(t, patience, "the load goes on", func() bool { return l.Total() > answered+100 })
			for _, o := range r.Account(l).Offenders {
				if o.Verdict == testutil.Refused || !r.LostWith(o, old, died.Add(dying)) {
					t.Errorf("lost: %v", o)
				}
			}
			r.Change(func(s *plan.Settings) { s.Bake = "" })
			r.Upgrade()
		})
	}
}

// With Sticky an address that has changed to the candidate stays there while the weight grows. In the upgrade after an abort,
// the same addresses change to the candidate.
func TestAddressesStayOnTheirSide(t *testing.T) {
	t.Parallel()
	weights := []float64{0.05, 0.25, 0.5}
	r := testclient.Start(t, func(s *plan.Settings) { byWeights(weights...)(s); s.Sticky, s.Addr = true, "127.0.0.1:0" })
	const clients = 100
	ask := func() (sides [clients]string) {
		for i := range sides {
			p := dialFrom(t, r, fmt.Sprintf("127.0.%d.%d", 1+i/50, 1+i%50))
			sides[i] = p.By
			p.Close()
		}
		return sides
	}
	var first [clients]string
	for round := range 2 {
		done := r.BeginUpgrade()
		var last [clients]string
		for n := range weights {
			r.AtStep(n)
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
				r.GoOn()
			}
		}
		if round == 0 {
			first = last
		} else if first != last {
			t.Error("the second attempt tries other addresses")
		}
		r.Ask("POST", "/abort")
		<-done
		r.WaitFamily(t, 1, patience)
	}
}

// SetWeight refuses a value that is no weight, a call that comes too late, and a weight while an exclusive resource is needed
// to serve.
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
	r := testclient.Start(t, func(s *plan.Settings) { byWeights(0.5)(s); s.Lock = plan.LockServing })
	if a := r.Ask("POST", "/upgrade"); a.Committed || !strings.Contains(a.Reason, "exclusive resource") {
		t.Errorf("a weight with a resource: %+v", a)
	}
}

// A candidate that is taken back at a small weight finishes the requests that it has begun, even long ones.
func TestCandidateFinishesWhatItHasBegun(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, byWeights(0.999))
	done := r.BeginUpgrade()
	r.AtStep(0)
	held := r.DialTo("g2").Begin()
	r.Ask("POST", "/abort")
	<-time.After(idleAbort + 500*time.Millisecond) // the request takes this long
	held.Finish()
	if held.By != "g2" {
		t.Errorf("%s has answered", held.By)
	}
	if a := <-done; !a.Is(upgrade.ErrAborted) {
		t.Errorf("upgrade: %+v", a)
	}
}

// idleAbort is how long an aborted candidate may take to end if it has accepted nothing.
const idleAbort = 2 * time.Second

// A candidate that has all connections and hangs in the commit delays no client until it is killed.
func TestHangInTheCommitOfASharedService(t *testing.T) {
	t.Parallel()
	f := testclient.FaultAt(t, "new.commit", "stop")
	r := testclient.Start(t, func(s *plan.Settings) { byWeights(1)(s); s.Timeout = 15 * time.Second }, f.Env)
	done := r.BeginUpgrade()
	r.AtStep(0)
	r.GoOn()
	testutil.Until(t, patience, "the candidate hangs", r.Frozen)
	began := time.Now()
	for range 20 {
		p := r.Connect()
		if p.Ask("/work"); p.By != "g1" {
			t.Fatalf("%s answers", p.By)
		}
		p.Close()
	}
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("twenty requests took %v", took)
	}
	if a := <-done; a.Committed || a.Phase != "commit" {
		t.Errorf("upgrade: %+v", a)
	}
}

// dialFrom does the same as Dial, from the given address of this machine.
func dialFrom(t *testing.T, r *testclient.Service, ip string) *testclient.Peer {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	c, err := d.Dial("tcp", r.Addr)
	if err != nil {
		t.Fatal(err)
	}
	p := testclient.NewPeer(t, c)
	p.Ask("/work")
	return p
}
