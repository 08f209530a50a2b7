package rollout_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/canary/rollout"
)

// A healthy canary gets each weight of the plan for its time, and then all requests.
func TestHealthyCanaryIsPromoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, rollout.Options{})
		s.want(rollout.Ramping, 1, .05)
		s.load(59*time.Second, 100)
		s.want(rollout.Ramping, 1, .05)
		s.load(2*time.Second, 100)
		s.want(rollout.Ramping, 2, .25)
		s.load(time.Minute, 100)
		s.want(rollout.Ramping, 3, .5)
		s.load(time.Minute, 100)
		s.want(rollout.Promoted, 3, 1)
	})
}

// A canary with more bad outcomes is rolled back, and the switch is latched when Observe returns, without another goroutine.
func TestBadCanaryIsRolledBackInTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kill := canary.NewKillSwitch("cart", canary.KillSwitchOptions{})
		s := newSite(t, rollout.Options{Kill: kill})
		s.load(10*time.Second, 100)
		s.bad[canary.Canary] = each(1)
		for s.n[canary.Canary] < 10_000 {
			before := s.n[canary.Canary]
			s.ask()
			if s.n[canary.Canary] > before && s.ro.Weight() == 0 {
				break
			}
		}
		if kill.Status().State != "latched" {
			t.Errorf("the switch is %s", kill.Status().State)
		}
		s.want(rollout.RolledBack, 1, 0)
		if n := s.n[canary.Canary]; n > 80 {
			t.Errorf("%d requests of the canary until the rollback", n)
		}
		s.load(10*time.Minute, 10)
		s.want(rollout.RolledBack, 1, 0)
		if err := s.ro.Resume("again"); err != rollout.ErrWorse {
			t.Errorf("Resume = %v", err)
		}
	})
}

// An operator pauses, resumes, promotes and aborts, as often as they like.
func TestOperatorMovesTheRollout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, rollout.Options{})
		for range 2 {
			if err := s.ro.Pause("lunch"); err != nil {
				t.Error(err)
			}
		}
		s.load(time.Hour, 1)
		s.want(rollout.Paused, 1, .05)
		for range 2 {
			if err := s.ro.Resume("back"); err != nil {
				t.Error(err)
			}
		}
		s.load(50*time.Second, 1)
		s.want(rollout.Ramping, 1, .05)
		s.load(15*time.Second, 1)
		s.want(rollout.Ramping, 2, .25)
		for range 2 {
			if err := s.ro.Abort("no"); err != nil {
				t.Error(err)
			}
			s.want(rollout.Aborted, 2, 0)
		}
		if err := s.ro.Resume("yes"); err != nil {
			t.Error(err)
		}
		s.load(time.Second, 1)
		s.want(rollout.Ramping, 1, .05)
		for range 2 {
			if err := s.ro.Promote("yes"); err != nil {
				t.Error(err)
			}
			s.want(rollout.Promoted, 1, 1)
		}
	})
}
