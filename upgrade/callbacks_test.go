//go:build linux

package upgrade_test

import (
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// callback is a function of the program that blocks or panics in one of the two processes of an upgrade.
type callback struct {
	name   string
	in     plan.Callback
	first  bool // the old process calls the function, and not the candidate
	times  int  // which call of the function blocks or panics: 1 is the first
	change func(*plan.Settings)
	begin  func(r *testclient.Service) <-chan plan.Answer // begins the upgrade; nil: as usual
	byHand bool                                           // the function has no time limit: an operator has to abort

	except []string // the cases that cannot happen
}

// The cases of a callback.
const (
	blocks      = "blocks"
	panics      = "panics"
	blocksAlone = "blocks, and the other process dies"
	panicsAlone = "panics, and the other process dies"
	stopped     = "blocks, and SIGTERM comes"
)

// soaked begins an upgrade and aborts it when both processes accept.
func soaked(r *testclient.Service) <-chan plan.Answer {
	_, done := r.Soaking()
	r.Ask("POST", "/abort")
	return done
}

func locking(s *plan.Settings) { s.Lock = plan.LockBackground }

// dividing begins an upgrade whose candidate gets a share of the connections, and opens a connection.
func dividing(r *testclient.Service) <-chan plan.Answer {
	done := r.BeginUpgrade()
	r.AtStep(0)
	go r.Connect() // Split is called
	return done
}

// callbacks has every function of the program that the library calls.
var callbacks = []callback{
	{name: "MarshalBinary at the start", in: plan.InMarshal, first: true, times: 1},
	{name: "MarshalBinary at the commit", in: plan.InMarshal, first: true, times: 2},
	{name: "UnmarshalBinary at the start", in: plan.InUnmarshal, times: 1},
	{name: "UnmarshalBinary at the commit", in: plan.InUnmarshal, times: 2},
	{name: "UnmarshalBinary of what comes back", in: plan.InUnmarshal, first: true, times: 1, change: long, begin: soaked},
	{name: "Check", in: plan.InCheck, times: 1},
	{name: "Verify", in: plan.InVerify, first: true, times: 1, change: func(s *plan.Settings) { s.Verify = plan.VerifyPasses },
		except: []string{blocksAlone, panicsAlone}}, // no other process runs
	{name: "Smoke", in: plan.InSmoke, first: true, times: 1, byHand: true, change: func(s *plan.Settings) { s.Smoke = plan.SmokePasses }},
	{name: "Bake", in: plan.InBake, first: true, times: 1, byHand: true, change: func(s *plan.Settings) { s.Bake = plan.BakePasses }},
	{name: "Subscribe", in: plan.InSubscribe, first: true, times: 1, change: func(s *plan.Settings) { s.Bake = plan.BakeHearsNews }},
	{name: "Split", in: plan.InSplit, first: true, times: 1, change: byWeights(0.5), begin: dividing, byHand: true,
		except: []string{blocks, blocksAlone, stopped}}, // Split is called where connections are accepted, and must not block
	{name: "Acquire", in: plan.InAcquire, times: 1, change: locking},
	{name: "Acquire of what was released", in: plan.InAcquire, first: true, times: 2, change: func(s *plan.Settings) {
		locking(s)
		s.Bad = plan.AcquireFails
	}},
	{name: "Release", in: plan.InRelease, first: true, times: 1, change: locking},
	{name: "Release after a failed Acquire", in: plan.InRelease, times: 1, change: func(s *plan.Settings) {
		locking(s)
		s.Bad = plan.AcquireSecondFails
	}},
	{name: "serve", in: plan.InServe, times: 1,
		except: []string{blocksAlone, panicsAlone}}, // if the other process is dead, no process serves without this serve
}

// If a function of the program blocks or panics, only the upgrade fails, whether the other process lives or dies at that
// moment. The upgrade ends in time, the service serves, and SIGTERM ends the service.
func TestNoCallbackStopsTheService(t *testing.T) {
	t.Parallel()
	for _, c := range callbacks {
		for _, how := range []string{blocks, panics, blocksAlone, panicsAlone, stopped} {
			if slices.Contains(c.except, how) {
				continue
			}
			t.Run(c.name+" "+how, func(t *testing.T) {
				testutil.Sample(t)
				t.Parallel()
				if how == stopped {
					c.stop(t)
					return
				}
				c.run(t, how == panics || how == panicsAlone, how == blocksAlone || how == panicsAlone)
			})
		}
	}
}

// start starts a service and an upgrade, and waits until the callback is called.
func (c *callback) start(t *testing.T, timeout time.Duration, panics bool) (r *testclient.Service, old int, done <-chan plan.Answer) {
	r = testclient.Start(t, func(s *plan.Settings) {
		s.Timeout, s.AbortGrace = timeout, 500*time.Millisecond
		s.Trouble = plan.Trouble{In: c.in, First: c.first, Times: c.times, Panics: panics}
		if c.change != nil {
			c.change(s)
		}
	})
	old = r.MainPID()
	if c.begin != nil {
		done = c.begin(r)
	} else {
		done = r.BeginUpgrade()
	}
	r.WaitOutput(patience, plan.SaysTrouble(c.in))
	return r, old, done
}

// stop ends the service while the callback blocks, long before the time of the callback is over.
func (c *callback) stop(t *testing.T) {
	r, old, _ := c.start(t, 5*time.Minute, false)
	if err := syscall.Kill(old, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	r.WaitFamily(t, 0, patience)
}

func (c *callback) run(t *testing.T, panics, dies bool) {
	r, old, done := c.start(t, 1200*time.Millisecond, panics)
	if dies {
		c.killOther(t, r, old)
	}
	if panics {
		r.Touch("go")
	}
	if c.byHand && !dies {
		r.Ask("POST", "/abort") // too late if a panic has ended the upgrade
	}
	survivor, by := old, "g1"
	if dies && !c.first {
		survivor, by = 0, "g2"
	} else {
		select {
		case a := <-done:
			if a.Committed {
				t.Errorf("upgrade: %+v", a)
			}
		case <-time.After(patience):
			t.Fatal("the upgrade does not end")
		}
	}
	r.DialTo(by).Close()
	for _, pid := range r.Generations() {
		if survivor == 0 && pid != old {
			survivor = pid
		}
	}
	if err := syscall.Kill(survivor, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	r.WaitFamily(t, 0, patience)
}

// killOther kills the process that is not in the callback.
func (c *callback) killOther(t *testing.T, r *testclient.Service, old int) {
	t.Helper()
	other := old
	if c.first {
		for _, pid := range r.Generations() {
			if pid != old {
				other = pid
			}
		}
		if other == old { // it has ended by itself
			return
		}
	}
	if err := syscall.Kill(other, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	testutil.Until(t, patience, "the other process is dead", func() bool { return testclient.Gone(other) })
}
