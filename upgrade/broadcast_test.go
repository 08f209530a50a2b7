//go:build linux

package upgrade_test

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// talking makes every process of a service broadcast on the orders of the test. Candidates stay in the soak.
func talking(s *plan.Settings) { s.Broadcasts, s.NoMove, s.Soak = true, true, 1<<40 }

// supervisedTalking is talking under a supervisor.
func supervisedTalking(s *plan.Settings) {
	talking(s)
	always(s)
}

// mustTalk makes each process broadcast, and ends the test unless every other process gets the message, once, and the sender
// does not.
func mustTalk(t *testing.T, r *testclient.Service, pids ...int) {
	t.Helper()
	for _, from := range pids {
		before := len(r.Heard(from, plan.News))
		text := fmt.Sprint("from ", from, " to ", pids)
		if err := r.Say(from, plan.News, text, text+"!"); err != "" {
			t.Fatalf("%s: %s", text, err)
		}
		for _, to := range pids {
			if to != from {
				r.MustHear(to, text, text+"!")
			}
		}
		if now := len(r.Heard(from, plan.News)); now != before {
			t.Errorf("process %d has got its own message", from)
		}
	}
}

// held begins a request to the main generation, and upgrades the service. The request keeps the old process until the end of the
// test.
func held(t *testing.T, r *testclient.Service) (old int) {
	t.Helper()
	old = r.MainPID()
	request := r.Dial().Begin()
	t.Cleanup(func() { request.Close() })
	r.UpgradeNow()
	return old
}

// A message passes between the two processes of a bake in both directions. What a candidate has said that is taken back then
// has arrived, and the old process goes on alone.
func TestBroadcastInABake(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) {
		talking(s)
		s.Bake = plan.BakeHangs
	})
	old := r.MainPID()
	if err := r.Say(old, plan.News, "nobody else lives"); err != "" {
		t.Error(err)
	}
	done := r.BeginUpgrade()
	r.WaitPhase("bake")
	candidate := r.Candidate()
	mustTalk(t, r, old, candidate)
	r.Ask("POST", "/abort")
	if a := <-done; a.Committed {
		t.Fatal("committed")
	}
	r.WaitFamily(t, 1, patience)
	mustTalk(t, r, old)
	done = r.BeginUpgrade()
	r.WaitPhase("bake")
	candidate = r.Candidate()
	mustTalk(t, r, old, candidate)
	// A function that blocks or panics delays no other one, and neither does one that broadcasts itself.
	for _, name := range []string{plan.Blocks, plan.Panics, plan.Blocks, plan.Panics} {
		if err := r.Say(old, name, "x"); err != "" {
			t.Error(err)
		}
	}
	if err := r.Say(old, plan.Asks, "the answer"); err != "" {
		t.Error(err)
	}
	r.MustHear(old, "the answer")
	mustTalk(t, r, old, candidate)
	r.Touch("go")
	r.Ask("POST", "/commit")
	if a := <-done; !a.Committed {
		t.Fatal(a.Error)
	}
	r.WaitFamily(t, 1, patience)
	mustTalk(t, r, candidate)
	if n := strings.Count(r.Output(), "a function of OnBroadcast has failed"); n != 1 {
		t.Errorf("two panics in a row are in %d lines of the log", n)
	}
}

// Every generation reaches every other one: two that drain, the main one and a candidate. The death of a generation between two
// others does not part them, and neither does the death of the supervisor.
func TestBroadcastReachesEveryGeneration(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*plan.Settings){"supervised": supervisedTalking, "unsupervised": talking} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, change)
			first, second := held(t, r), held(t, r)
			main := r.MainPID()
			mustTalk(t, r, first, second, main)
			candidate, done := r.Soaking()
			mustTalk(t, r, first, second, main, candidate)
			left := 3
			if r.Set.Supervisor != "" {
				r.Signal(syscall.SIGKILL)
				left = 3
			}
			if err := syscall.Kill(second, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			testutil.Until(t, patience, "the end of the second generation", func() bool { return testclient.Gone(second) || testclient.Parent(second) == 0 })
			mustTalk(t, r, first, main, candidate)
			r.Ask("POST", "/abort")
			<-done
			testutil.Until(t, patience, "the end of the candidate", func() bool { return len(r.Family()) < left+1 && !slices.Contains(r.Family(), candidate) })
			mustTalk(t, r, first, main)
		})
	}
}

// After a rollback both builds reach each other.
func TestBroadcastAfterARollback(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, talking)
	r.Release("other")
	first := held(t, r)
	second := r.MainPID()
	request := r.Dial().Begin()
	defer request.Close()
	r.Rollback()
	r.MustRun("original")
	mustTalk(t, r, first, second, r.MainPID())
}

// A process that the supervisor starts after a crash and the generations that still drain reach each other. A message from the
// time in between gets to the new process.
func TestBroadcastAfterACrash(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, supervisedTalking)
	first, second := held(t, r), held(t, r)
	r.WaitKnown()
	main := r.MainPID()
	if err := syscall.Kill(main, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	testutil.Until(t, patience, "the end of the main generation", func() bool { return testclient.Gone(main) || testclient.Parent(main) == 0 })
	if err := r.Say(first, plan.News, "in between"); err != "" {
		t.Error(err)
	}
	r.MustHear(second, "in between")
	testutil.Until(t, patience, "another process serves", func() bool { return r.ServesWithout(main) })
	r.MustHear(r.MainPID(), "in between")
	mustTalk(t, r, first, second, r.MainPID())
}

// A thousand messages come in order, from a generation that drains, while an upgrade goes on; and all have arrived although the
// sender is killed right after the last one.
func TestBroadcastOutlivesItsSender(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, talking)
	first := held(t, r)
	main := r.MainPID()
	candidate, done := r.Soaking()
	var all []string
	for n := range 1000 {
		all = append(all, fmt.Sprint(n))
	}
	r.Order(first, plan.Say{Name: plan.News, Data: all, Dies: true})
	r.MustHear(main, all...)
	r.MustHear(candidate, all...)
	for _, pid := range []int{main, candidate} {
		if got := r.Heard(pid, plan.News); len(got) != len(all) {
			t.Errorf("process %d has got %d messages, want %d", pid, len(got), len(all))
		}
	}
	r.Ask("POST", "/commit")
	<-done
	mustTalk(t, r, candidate)
}

// A candidate gets every message that is sent from its start on: those that come before it has called OnBroadcast, too.
func TestBroadcastWaitsForACandidate(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) {
		talking(s)
		s.Bad = plan.WaitsAtStart
	})
	first := r.MainPID()
	done := r.BeginUpgrade()
	r.WaitPhase("start")
	for _, name := range []string{plan.News, plan.Late} {
		if err := r.Say(first, name, "1", "2", "3"); err != "" {
			t.Fatal(err)
		}
	}
	r.Touch("release")
	r.WaitPhase("soak")
	candidate := r.Candidate()
	r.MustHear(candidate, "1", "2", "3")
	if got := r.Heard(candidate, plan.Late); len(got) != 0 {
		t.Fatalf("before OnBroadcast: %q", got)
	}
	r.Touch("register")
	testutil.Until(t, patience, "the messages that came before OnBroadcast", func() bool {
		return slices.Equal(r.Heard(candidate, plan.Late), []string{"1", "2", "3"})
	})
	r.Ask("POST", "/commit")
	<-done
}

// A generation with tableflip only gets no message, and the error names it as long as it lives.
func TestBroadcastNamesWhoIsNotReached(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) {
		anyFile(s)
		s.Broadcasts, s.NoMove = true, true
	})
	first := r.MainPID()
	request := r.Dial().Begin()
	defer request.Close()
	r.Flip(true)
	r.Upgrade()
	plain := r.MainPID()
	testutil.Until(t, patience, "an error of Broadcast", func() bool {
		return strings.Contains(r.Say(first, plan.News, "x"), fmt.Sprintf("generation 2 (pid %d) has no broadcast socket", plain))
	})
}
