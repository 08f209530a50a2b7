package rollout_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/canary/rollout"
	"github.com/midair-go/midair/internal/kept"
)

// An upgrade in the middle of a step changes neither the evidence nor the time in the step, and neither does an abort of the upgrade,
// which gives the state back.
func TestUpgradeAndAbortLoseNoTimeAndNoEvidence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := newProcess(t, true, rollout.Options{})
		old.fails(canary.Stable, 20)
		old.fails(canary.Canary, 20)
		old.load(40*time.Second, 100)

		next := newProcess(t, false, rollout.Options{}, marshal(t, old.ro))
		same := func(a, b *process) {
			t.Helper()
			if x, y := a.ro.Status(), b.ro.Status(); x.Judge.Evidence != y.Judge.Evidence || x.Judge.Evidence == 1 ||
				x.Judge.Canary != y.Judge.Canary || x.Judge.Stable != y.Judge.Stable || x.Waits != y.Waits {
				t.Fatalf("the evidence is %v, %+v, %q on one side and %v, %+v, %q on the other one",
					x.Judge.Evidence, x.Judge.Canary, x.Waits, y.Judge.Evidence, y.Judge.Canary, y.Waits)
			}
		}
		same(old, next)
		old.leads.Store(false)
		next.leads.Store(true)
		next.load(19*time.Second, 100)
		next.want(rollout.Ramping, 1, .05)
		next.load(2*time.Second, 100)
		next.want(rollout.Ramping, 2, .25)
		next.load(39*time.Second, 100)

		if err := old.ro.UnmarshalBinary(marshal(t, next.ro)); err != nil {
			t.Fatal(err)
		}
		same(old, next)
		next.stop()
		old.leads.Store(true)
		old.want(rollout.Ramping, 2, .25)
		old.load(18*time.Second, 100)
		old.want(rollout.Ramping, 2, .25)
		old.load(3*time.Second, 100)
		old.want(rollout.Ramping, 3, .5)
	})
}

// States go to and fro between two processes that both have requests, in any order, also old ones and more than once: each outcome
// counts once.
func TestEachOutcomeCountsOnceWhateverStatesCome(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			long := rollout.Steps{{Weight: .3, For: 24 * time.Hour}}
			a := newProcess(t, true, rollout.Options{Steps: long, Worse: rollout.Hold})
			b := newProcess(t, false, rollout.Options{Steps: long, Worse: rollout.Hold}, marshal(t, a.ro))
			both := []*process{a, b}
			for i, p := range both {
				p.users = 1_000_000 * i // other users
				p.fails(canary.Stable, 7)
				p.fails(canary.Canary, 7)
			}
			states := [][]byte{marshal(t, a.ro)}
			give := func(p *process, state []byte) {
				if err := p.ro.UnmarshalBinary(state); err != nil {
					t.Fatal(err)
				}
			}
			for range 60 {
				p := both[rng.IntN(2)]
				switch rng.IntN(4) {
				case 0, 1:
					p.load(time.Duration(rng.IntN(3000))*time.Millisecond, 50)
				case 2:
					states = append(states, marshal(t, p.ro))
				case 3:
					give(p, states[rng.IntN(len(states))])
				}
			}
			give(a, marshal(t, b.ro))
			give(b, marshal(t, a.ro))
			for _, p := range both {
				s := p.ro.Status().Judge
				for side, got := range []struct{ requests, bad uint64 }{{s.Stable.Requests, s.Stable.Bad}, {s.Canary.Requests, s.Canary.Bad}} {
					requests, bad := a.n[side]+b.n[side], a.wrong[side]+b.wrong[side]
					if got.requests != uint64(requests) || got.bad != uint64(bad) {
						t.Errorf("seed %d, %v: %d bad of %d, want %d of %d", seed, canary.Side(side), got.bad, got.requests, bad, requests)
					}
				}
			}
			if x, y := a.ro.Status().Judge.Evidence, b.ro.Status().Judge.Evidence; x != y {
				t.Errorf("seed %d: the evidence is %v and %v", seed, x, y)
			}
		})
	}
}

// A state that is older than that of this process changes nothing, whatever it says.
func TestOlderStateChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(t, true, rollout.Options{})
		var states [][]byte
		keep := func() { states = append(states, marshal(t, p.ro)) }
		p.load(30*time.Second, 20)
		keep()
		p.load(40*time.Second, 20)
		keep()
		_ = p.ro.Pause("lunch")
		keep()
		_ = p.ro.Resume("back")
		p.load(5*time.Second, 20)
		keep()
		_ = p.ro.Abort("no")
		synctest.Wait()
		want := marshal(t, p.ro)
		for i, state := range states {
			if err := p.ro.UnmarshalBinary(state); err != nil {
				t.Error(err)
			}
			if err := p.ro.Ingest(state); err != nil {
				t.Error(err)
			}
			if !bytes.Equal(marshal(t, p.ro), want) {
				t.Errorf("the older state %d has changed the rollout", i)
			}
		}
	})
}

// A state and a message that are damaged, cut off, of another kind or of a later version are refused with an error, and one with
// another salt is ignored. Nothing has changed then, neither the state nor the evidence.
func TestRefusedStatesChangeNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newProcess(t, true, rollout.Options{})
		source.fails(canary.Stable, 10)
		source.load(70*time.Second, 20)
		good := marshal(t, source.ro)
		head, evidence := opened(t, good)
		p := newProcess(t, false, rollout.Options{})
		want := marshal(t, p.ro)

		refused := map[string][]byte{"nothing": nil, "text": []byte("hello"), "damaged in the head": bytes.Replace(good, []byte("ramping"), []byte("ramPing"), 1)}
		for _, n := range []int{1, 7, 8, 12, len(head), len(head) + 20, len(good) / 2, len(good) - 1} {
			refused[fmt.Sprintf("cut off at %d", n)] = good[:n]
		}
		later := layout
		later.Version++
		refused["a later version"] = sealed(later, head, evidence)
		inner := bytes.Clone(evidence[:len(evidence)-sha256.Size])
		inner[len("midair-judge\x00")]++
		sum := sha256.Sum256(inner)
		refused["evidence of a later version"] = sealed(layout, head, append(inner, sum[:]...))
		refused["damaged evidence"] = sealed(layout, head, evidence[:len(evidence)-1])
		for name, from := range map[string]string{
			"a state of a later version": `"state":"frozen"`, "a number as the state": `"state":1`, "a state of JSON that is cut": `"state":"ram`,
		} {
			refused[name] = sealed(layout, strings.Replace(head, `"state":"ramping"`, from, 1), evidence)
		}
		refused["a negative step"] = sealed(layout, strings.Replace(head, `"step":2`, `"step":-2`, 1), evidence)
		refused["ramping before the first step"] = sealed(layout, strings.Replace(head, `"step":2`, `"step":0`, 1), evidence)
		refused["a negative time"] = sealed(layout, strings.Replace(head, `"spent":`, `"spent":-`, 1), evidence)
		refused["an opinion above 1"] = sealed(layout, strings.Replace(head, `"step":2`, `"step":2,"opinion":{"Most":2}`, 1), evidence)
		for name, state := range refused {
			if p.ro.UnmarshalBinary(state) == nil {
				t.Errorf("%s: no error of UnmarshalBinary", name)
			}
			if name == "damaged evidence" || !strings.Contains(name, "evidence") {
				if h, _, _ := bytes.Cut(state, nil); h == nil && p.ro.Ingest(state) == nil {
					t.Errorf("%s: no error of Ingest", name)
				}
			}
			if !bytes.Equal(marshal(t, p.ro), want) {
				t.Errorf("%s: something has changed", name)
			}
		}
		if err := p.ro.UnmarshalBinary(refused["a later version"]); !errors.Is(err, kept.ErrLater) {
			t.Errorf("a later version: %v", err)
		}
		if err := p.ro.UnmarshalBinary(refused["evidence of a later version"]); !errors.Is(err, kept.ErrLater) {
			t.Errorf("evidence of a later version: %v", err)
		}
		other := newProcess(t, true, rollout.Options{Salt: "another"})
		other.load(time.Second, 20)
		for _, take := range []func([]byte) error{p.ro.UnmarshalBinary, p.ro.Ingest} {
			if err := take(marshal(t, other.ro)); err != nil || !bytes.Equal(marshal(t, p.ro), want) {
				t.Errorf("another salt: %v, or something has changed", err)
			}
		}
		if err := p.ro.UnmarshalBinary(good); err != nil {
			t.Fatal(err)
		}
		p.want(rollout.Ramping, 2, .25)
	})
}

// Two processes that both decide for a while, as at a handover, agree on each step, end each step once, and end no step before its time.
// A canary that is worse is held or taken back in both, whichever process finds that.
func TestTwoProcessesMayDecideAtOnce(t *testing.T) {
	for apart := range 5 {
		for _, worse := range []rollout.Policy{rollout.Hold, rollout.RollBack} {
			synctest.Test(t, func(t *testing.T) {
				var b bus
				both := []*process{b.join(t, true, rollout.Options{Worse: worse})}
				time.Sleep(time.Duration(apart) * 20 * time.Millisecond) // the looks of the two are apart
				both = append(both, b.join(t, true, rollout.Options{Worse: worse}))
				want := func(state rollout.State, step int, weight float64) {
					t.Helper()
					for _, p := range both {
						p.want(state, step, weight)
					}
				}
				time.Sleep(2 * time.Second)
				want(rollout.Ramping, 1, .05)
				time.Sleep(57 * time.Second)
				want(rollout.Ramping, 1, .05)
				time.Sleep(2 * time.Second)
				want(rollout.Ramping, 2, .25)
				time.Sleep(58 * time.Second)
				want(rollout.Ramping, 2, .25)
				time.Sleep(2 * time.Second)
				want(rollout.Ramping, 3, .5)
				for _, p := range both {
					p.fails(canary.Canary, 1)
				}
				both[apart%2].load(10*time.Second, 10)
				time.Sleep(2 * time.Second)
				if worse == rollout.Hold {
					want(rollout.Held, 3, .5)
				} else {
					want(rollout.RolledBack, 3, 0)
				}
			})
		}
	}
}

// Whatever a message with a right checksum says, nothing panics, and the weight is a share.
func FuzzState(f *testing.F) {
	ro, err := rollout.New(rollout.Options{Steps: plan, Logger: quiet})
	if err != nil {
		f.Fatal(err)
	}
	head, evidence := opened(f, marshal(f, ro))
	f.Add([]byte(head), evidence)
	f.Add([]byte(head), []byte{})
	for _, more := range []string{
		`{"salt":"canary","state":"ramping","step":-7,"turn":9}`, `{"salt":"canary","state":"held","step":0,"turn":18446744073709551615}`,
		`{"salt":"canary","state":"gated","step":4000000000,"spent":9223372036854775807,"began":18446744073709551615,"turn":3}`,
		`{"salt":"canary","state":"paused","step":2,"turn":3,"opinion":{"Most":-1,"Hold":true},"uses":{"":{"":[1,2,3,4]},"a":null}}`,
	} {
		f.Add([]byte(more), []byte{})
		f.Add([]byte(more), evidence)
	}
	f.Fuzz(func(t *testing.T, head, evidence []byte) {
		state := sealed(layout, string(head), evidence)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for _, take := range []func(*rollout.Rollout) error{
			func(ro *rollout.Rollout) error { return ro.Ingest(state) }, func(ro *rollout.Rollout) error { return ro.UnmarshalBinary(state) },
		} {
			ro, err := rollout.New(rollout.Options{Steps: plan, Logger: quiet, Deadline: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			err = take(ro)
			_ = ro.Run(ctx) // looks once
			s := ro.Status()
			if w := ro.Weight(); !(w >= 0 && w <= 1) || err != nil && s.Step > 1 {
				t.Errorf("error %v, weight %v, step %d", err, w, s.Step)
			}
			if again, err := rollout.New(rollout.Options{Steps: plan, Logger: quiet}); err != nil {
				t.Error(err)
			} else if err := again.UnmarshalBinary(marshal(t, ro)); err != nil {
				t.Errorf("its own state is refused: %v", err)
			}
		}
	})
}
