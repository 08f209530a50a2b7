package rollout_test

import (
	"context"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/canary/rollout"
)

// The process that follows moves nothing, whatever its own requests say. Its evidence reaches the process that leads, whose decision
// comes back.
func TestEvidenceOfTheFollowerDecidesInTheLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bus
		leader, follower := b.join(t, true, rollout.Options{}), b.join(t, false, rollout.Options{})
		follower.users = 1_000_000
		time.Sleep(2 * time.Second) // the follower gets the weight
		for range 31 {
			leader.load(time.Second, 10)
			follower.load(time.Second, 10)
		}
		time.Sleep(2 * time.Second) // the last counts arrive
		leader.want(rollout.Ramping, 2, .25)
		follower.want(rollout.Ramping, 2, .25)
		for name, err := range map[string]error{
			"Pause": follower.ro.Pause("x"), "Resume": follower.ro.Resume("x"), "Promote": follower.ro.Promote("x"),
		} {
			if err != rollout.ErrFollows {
				t.Errorf("%s = %v", name, err)
			}
		}
		s := leader.ro.Status()
		if got, want := s.Judge.Canary.Requests+s.Judge.Stable.Requests, uint64(620); got != want || !s.Leads {
			t.Errorf("the leader knows %d requests, want %d; leads: %v", got, want, s.Leads)
		}
		b.lose(true)
		follower.fails(canary.Canary, 1)
		follower.load(20*time.Second, 10)
		follower.want(rollout.Ramping, 2, .25)
		if follower.wrong[canary.Canary] < 20 || leader.ro.Weight() != .25 {
			t.Errorf("%d bad outcomes, and the leader has a weight of %v", follower.wrong[canary.Canary], leader.ro.Weight())
		}
		b.lose(false)
		time.Sleep(3 * time.Second)
		leader.want(rollout.RolledBack, 2, 0)
		follower.want(rollout.RolledBack, 2, 0)
	})
}

// What a process has counted reaches the other one, whenever its Run ends: a process that drains loses no outcome.
func TestLastOutcomesAreSentAtTheEndOfRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 20 {
			var b bus
			leader, follower := b.join(t, true, rollout.Options{}), b.join(t, false, rollout.Options{})
			follower.users = 1_000_000
			time.Sleep(2 * time.Second) // the follower gets the weight
			follower.load(time.Second/2, 40)
			follower.fails(canary.Stable, 2)
			follower.fails(canary.Canary, 2)
			follower.load(time.Second/10, 40)
			follower.stop()
			s := leader.ro.Status().Judge
			bad := follower.wrong[canary.Stable] + follower.wrong[canary.Canary]
			if got := s.Stable.Requests + s.Canary.Requests; got != 24 || s.Stable.Bad+s.Canary.Bad != uint64(bad) {
				t.Fatalf("the other process knows %d requests, %d of them bad, want 24 and %d", got, s.Stable.Bad+s.Canary.Bad, bad)
			}
			leader.stop()
		}
	})
}

// If the messages with a rollback are lost, the other process gets it with a later one.
func TestRollbackReachesTheFollowerThoughMessagesAreLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bus
		leader, follower := b.join(t, true, rollout.Options{}), b.join(t, false, rollout.Options{})
		leader.load(5*time.Second, 50)
		follower.want(rollout.Ramping, 1, .05)
		b.lose(true)
		leader.fails(canary.Canary, 1)
		leader.load(20*time.Second, 50)
		leader.want(rollout.RolledBack, 1, 0)
		time.Sleep(time.Minute) // all that the leader sends by itself is lost
		follower.want(rollout.Ramping, 1, .05)
		b.lose(false)
		time.Sleep(5 * time.Second)
		follower.want(rollout.RolledBack, 1, 0)
	})
}

// Messages that are lost, come twice, and come late and in another order lose no outcome and count none twice.
func TestMessagesMayBeLostRepeatedAndLate(t *testing.T) {
	for seed := range uint64(5) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 2))
			var b bus
			opts := rollout.Options{Steps: rollout.Steps{{Weight: .3, For: 24 * time.Hour}}}
			leader, follower := b.join(t, true, opts), b.join(t, false, opts)
			both := []*process{leader, follower}
			time.Sleep(2 * time.Second)
			follower.want(rollout.Ramping, 1, .3)
			b.mu.Lock()
			fate := rand.New(rand.NewPCG(seed, 3)) // under the lock of the bus
			b.route = func([]byte) int { return fate.IntN(4) }
			b.mu.Unlock()
			for i, p := range both {
				p.users = 1_000_000 * i
				p.fails(canary.Stable, 9)
				p.fails(canary.Canary, 9)
			}
			for range 40 {
				both[rng.IntN(2)].load(time.Second, 30)
				b.mu.Lock()
				var late []byte
				if n := len(b.kept); n > 0 {
					late = b.kept[rng.IntN(n)]
				}
				b.mu.Unlock()
				if late != nil {
					for _, p := range both {
						if err := p.ro.Ingest(late); err != nil {
							t.Error(err)
						}
					}
				}
			}
			b.lose(false)
			time.Sleep(30 * time.Second)
			for _, p := range both {
				s := p.ro.Status().Judge
				for side, got := range []struct{ requests, bad uint64 }{{s.Stable.Requests, s.Stable.Bad}, {s.Canary.Requests, s.Canary.Bad}} {
					requests, bad := leader.n[side]+follower.n[side], leader.wrong[side]+follower.wrong[side]
					if got.requests != uint64(requests) || got.bad != uint64(bad) {
						t.Errorf("seed %d, %v: %d bad of %d, want %d of %d", seed, canary.Side(side), got.bad, got.requests, bad, requests)
					}
				}
			}
			if x, y := leader.ro.Status().Judge.Evidence, follower.ro.Status().Judge.Evidence; x != y {
				t.Errorf("seed %d: the evidence is %v and %v", seed, x, y)
			}
		})
	}
}

// If the leader dies, the follower leads, and goes on with the same step, its time, and the evidence. Messages of the dead leader that
// come later change nothing.
func TestFollowerGoesOnWhenTheLeaderDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bus
		var sent [][]byte
		b.route = func(m []byte) int { sent = append(sent, m); return 1 }
		leader, follower := b.join(t, true, rollout.Options{}), b.join(t, false, rollout.Options{})
		leader.load(98*time.Second, 20)
		time.Sleep(2 * time.Second)
		leader.want(rollout.Ramping, 2, .25)
		evidence := leader.ro.Status().Judge.Canary
		leader.stop()
		b.mu.Lock()
		dead := sent[:len(sent):len(sent)]
		b.mu.Unlock()

		follower.leads.Store(true)
		if got := follower.ro.Status().Judge.Canary; got != evidence {
			t.Errorf("the canary has %+v, want %+v", got, evidence)
		}
		follower.load(18*time.Second, 20)
		follower.want(rollout.Ramping, 2, .25)
		follower.load(3*time.Second, 20)
		follower.want(rollout.Ramping, 3, .5)
		if err := follower.ro.Pause("lunch"); err != nil {
			t.Error(err)
		}
		for _, message := range dead {
			if err := follower.ro.Ingest(message); err != nil {
				t.Error(err)
			}
		}
		follower.load(2*time.Minute, 20)
		follower.want(rollout.Paused, 3, .5)
	})
}

// A process that takes over without the last counts of the dead one still waits for Step.MinSamples.
func TestMinSamplesHoldAlsoIfCountsAreLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bus
		b.route = func(m []byte) int { // only the state comes, and no evidence
			if _, evidence := opened(t, m); len(evidence) == 0 {
				return 1
			}
			return 0
		}
		opts := rollout.Options{Steps: rollout.Steps{{Weight: .3, For: time.Minute}, {Weight: .5, For: time.Minute, MinSamples: 100}}}
		leader, follower := b.join(t, true, opts), b.join(t, false, opts)
		leader.load(61*time.Second, 20)
		leader.want(rollout.Ramping, 2, .5)
		follower.want(rollout.Ramping, 2, .5)
		leader.stop()
		follower.leads.Store(true)
		follower.load(70*time.Second, 1)
		follower.want(rollout.Ramping, 2, .5)
		if waits := follower.ro.Status().Waits; !strings.Contains(waits, "of 100 requests") || len(waits) > 40 {
			t.Errorf("it waits for %q", waits)
		}
	})
}

// Abort works in a process that follows, also if this process has missed what the leader did, and the leader's Resume undoes it.
func TestAbortInTheFollowerHolds(t *testing.T) {
	for _, missed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var b bus
			leader, follower := b.join(t, true, rollout.Options{}), b.join(t, false, rollout.Options{})
			leader.load(time.Second, 10)
			b.lose(missed)
			leader.load(2*time.Minute+time.Second, 10)
			if err := follower.ro.Abort("no"); err != nil {
				t.Error(err)
			}
			synctest.Wait()
			if w := follower.ro.Weight(); w != 0 {
				t.Errorf("missed %v: the follower has a weight of %v", missed, w)
			}
			b.lose(false)
			leader.load(5*time.Second, 10)
			for _, p := range []*process{leader, follower} {
				if s := p.ro.Status(); s.State != rollout.Aborted || s.Weight != 0 || s.Reason != "no" {
					t.Errorf("missed %v: after the abort: %v, %v, %q", missed, s.State, s.Weight, s.Reason)
				}
			}
			if err := leader.ro.Resume("yes"); err != nil {
				t.Error(err)
			}
			leader.load(5*time.Second, 10)
			leader.want(rollout.Ramping, 1, .05)
			follower.want(rollout.Ramping, 1, .05)
		})
	}
}

// An Abort in the follower counts also if the follower has missed an Abort and a Resume of the leader, which then has as many aborts and
// more changes. The same holds if each of the two processes was aborted and resumed while no message came through.
func TestAbortHoldsThoughAnEarlierAbortWasMissed(t *testing.T) {
	for _, apart := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var b bus
			var told atomic.Value // the reason of the leader's last decision
			leader := b.join(t, true, rollout.Options{Decided: func(_ context.Context, d rollout.Decision) { told.Store(d.Reason) }})
			follower := b.join(t, false, rollout.Options{})
			leader.load(time.Second, 10)
			follower.want(rollout.Ramping, 1, .05)
			follower.deaf.Store(true)
			leader.deaf.Store(apart)
			operate := func(errs ...error) {
				t.Helper()
				for _, err := range errs {
					if err != nil {
						t.Error(err)
					}
				}
				time.Sleep(time.Second)
			}
			operate(leader.ro.Abort("once"), leader.ro.Resume("again"))
			leader.want(rollout.Ramping, 1, .05)
			reason := "no"
			operate(follower.ro.Abort("no"))
			if apart {
				follower.leads.Store(true)
				operate()
				operate(follower.ro.Resume("also again"))
				follower.want(rollout.Ramping, 1, .05)
				follower.leads.Store(false)
				leader.deaf.Store(false)
				reason = "an abort has not reached each process before the rollout was resumed"
				operate()
			}
			leader.want(rollout.Aborted, 1, 0)
			if got := told.Load(); apart && got != reason {
				t.Errorf("Decided was called with %q, want %q", got, reason)
			}
			follower.deaf.Store(false)
			time.Sleep(5 * time.Second)
			for _, p := range []*process{leader, follower} {
				p.want(rollout.Aborted, 1, 0)
				if got := p.ro.Status().Reason; got != reason {
					t.Errorf("the reason is %q, want %q", got, reason)
				}
			}
			operate(leader.ro.Resume("yes"))
			leader.want(rollout.Ramping, 1, .05)
			follower.want(rollout.Ramping, 1, .05)
		})
	}
}

// The external judge of a process that follows moves nothing.
func TestOpinionOfTheFollowerMovesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bus
		leader := b.join(t, true, rollout.Options{})
		follower := b.join(t, false, rollout.Options{Opinion: func(context.Context, rollout.Status) rollout.Opinion {
			return rollout.Opinion{RollBack: true, Reason: "not my business"}
		}})
		leader.load(70*time.Second, 10)
		leader.want(rollout.Ramping, 2, .25)
		follower.want(rollout.Ramping, 2, .25)
	})
}

// The lowered weight of an opinion reaches the process that follows.
func TestOpinionOfTheLeaderReachesTheFollower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bus
		var slow atomic.Bool
		leader := b.join(t, true, rollout.Options{Opinion: func(context.Context, rollout.Status) rollout.Opinion {
			if !slow.Load() {
				return rollout.Opinion{}
			}
			return rollout.Opinion{Most: .01, Reason: "slow"}
		}})
		follower := b.join(t, false, rollout.Options{})
		leader.load(15*time.Second, 10)
		follower.want(rollout.Ramping, 1, .05)
		slow.Store(true)
		leader.load(15*time.Second, 10)
		leader.want(rollout.Ramping, 1, .01)
		follower.want(rollout.Ramping, 1, .01)
	})
}

// A process that takes over without an external judge ends the opinion of the last one, and says so: neither a hold nor a lower weight
// stays for ever. A process that takes over with an external judge asks it, and the opinion stays until the answer.
func TestOpinionEndsWithoutAnExternalJudge(t *testing.T) {
	for name, opinion := range map[string]rollout.Opinion{"a hold": {Hold: true, Reason: "wait"}, "a lower weight": {Most: .01, Reason: "wait"}} {
		for _, judged := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				says := func(o rollout.Opinion) func(context.Context, rollout.Status) rollout.Opinion {
					return func(context.Context, rollout.Status) rollout.Opinion { return o }
				}
				old := newProcess(t, true, rollout.Options{Opinion: says(opinion)})
				old.load(2*time.Minute, 1)
				var opts rollout.Options
				if judged {
					opts.Opinion = says(opinion)
				}
				next := newProcess(t, false, opts, marshal(t, old.ro))
				next.load(time.Minute, 1)
				next.want(rollout.Ramping, 1, old.ro.Weight())
				if o := next.ro.Status().Opinion; o == nil || *o != opinion {
					t.Errorf("%s: the process that follows has the opinion %v", name, o)
				}
				old.stop()
				next.leads.Store(true)
				next.load(time.Second, 1)
				s := next.ro.Status()
				said := slices.ContainsFunc(s.Decisions, func(d rollout.Decision) bool {
					return strings.Contains(d.Reason, "this process has no external judge") && strings.HasSuffix(d.Reason, "wait")
				})
				if said == judged || judged != (s.Opinion != nil) {
					t.Errorf("%s, judged %v: the opinion is %v, and the decisions are %v", name, judged, s.Opinion, s.Decisions)
				}
				if judged {
					next.load(5*time.Minute, 1)
					next.want(rollout.Ramping, 1, old.ro.Weight())
					return
				}
				next.load(57*time.Second, 1)
				next.want(rollout.Ramping, 1, .05)
				next.load(3*time.Second, 1)
				next.want(rollout.Ramping, 2, .25)
				if err := old.ro.UnmarshalBinary(marshal(t, next.ro)); err != nil || old.ro.Status().Opinion != nil {
					t.Errorf("%s: %v, and the old process still has the opinion %v", name, err, old.ro.Status().Opinion)
				}
			})
		}
	}
}

// A message has less than 16 KiB, the most that a broadcast of an Upgrader carries, whatever the program records and however long
// a reason is: a decision always reaches the other processes.
func TestMessagesStaySmall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bus
		greatest := 0
		b.route = func(m []byte) int { greatest = max(greatest, len(m)); return 1 }
		all := []*process{b.join(t, true, rollout.Options{})}
		for len(all) < 20 {
			all = append(all, b.join(t, false, rollout.Options{}))
		}
		for _, p := range all {
			rt := canary.NewRouter(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				for i := range 16 {
					if err := p.ro.Record(r.Context(), strings.Repeat("\x01", 63)+string(rune('a'+i)), true); err != nil {
						t.Error(err)
					}
				}
			}), nil, canary.Options{SideInContext: true})
			rt.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		}
		time.Sleep(5 * time.Second)
		if err := all[7].ro.Abort(strings.Repeat("a long reason \x01", 5000)); err != nil {
			t.Error(err)
		}
		time.Sleep(5 * time.Second)
		for i, p := range all {
			if s := p.ro.Status(); s.State != rollout.Aborted || len(s.Uses) != 16 || s.Uses[0].Stable.All != uint64(len(all)) {
				t.Errorf("process %d: %v, and %d uses", i, s.State, len(s.Uses))
			}
		}
		if greatest >= 16<<10 {
			t.Errorf("a message has %d bytes", greatest)
		}
	})
}

// A rollback that the evidence of the follower causes reaches the follower at once, and not with the next message of a second.
func TestRollbackByTheEvidenceOfTheFollowerReturnsAtOnce(t *testing.T) {
	for run := range 10 {
		synctest.Test(t, func(t *testing.T) {
			var b bus
			long := step(.5, time.Hour)
			leader, follower := b.join(t, true, rollout.Options{Steps: long}), b.join(t, false, rollout.Options{Steps: long})
			follower.users = 1_000_000 * (run + 1)
			time.Sleep(2*time.Second + time.Duration(run)*100*time.Millisecond)
			follower.fails(canary.Canary, 1)
			for i := 0; leader.ro.Weight() != 0 && i < 10_000; i++ {
				follower.load(10*time.Millisecond, 100)
			}
			leader.want(rollout.RolledBack, 1, 0)
			time.Sleep(50 * time.Millisecond)
			follower.want(rollout.RolledBack, 1, 0)
		})
	}
}

// The leader decides within 20 ms after the evidence of another process, and not only at its next look.
func TestEvidenceOfAnotherProcessIsJudgedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leader := newProcess(t, true, rollout.Options{Steps: step(.5, time.Hour)})
		follower := newProcess(t, false, rollout.Options{Steps: step(.5, time.Hour)}, marshal(t, leader.ro))
		follower.fails(canary.Canary, 1)
		follower.load(30*time.Second, 10)
		time.Sleep(10 * time.Millisecond) // the next look of the leader is 90 ms away
		if err := leader.ro.Ingest(marshal(t, follower.ro)); err != nil {
			t.Fatal(err)
		}
		leader.want(rollout.Ramping, 1, .5)
		time.Sleep(21 * time.Millisecond)
		leader.want(rollout.RolledBack, 1, 0)
	})
}
