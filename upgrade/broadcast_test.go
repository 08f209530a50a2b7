//go:build linux

package upgrade_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
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

// talks numbers the messages of mustTalk.
var talks atomic.Int64

// mustTalk makes each process broadcast, and ends the test unless every other process gets the message, once, and the sender
// does not.
func mustTalk(t *testing.T, r *testclient.Service, pids ...int) {
	t.Helper()
	for _, from := range pids {
		before := len(r.Heard(from, plan.News))
		text := fmt.Sprint(talks.Add(1), " from ", from, " to ", pids)
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

// A candidate gets every message that is sent from its start on: those that come before it has called New or OnBroadcast, too.
func TestBroadcastWaitsForACandidate(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, talking)
	first := held(t, r)
	main := r.MainPID()
	r.Change(func(s *plan.Settings) { s.Bad = plan.WaitsAtStart })
	done := r.BeginUpgrade()
	r.WaitPhase("start")
	testutil.Until(t, patience, "the candidate", func() bool { return r.Status().Candidate.PID != 0 })
	for from, text := range map[int]string{first: "first", main: "main"} {
		for _, name := range []string{plan.News, plan.Late} {
			if err := r.Say(from, name, text+" 1", text+" 2", text+" 3"); err != "" {
				t.Fatal(err)
			}
		}
	}
	r.Touch("release")
	r.WaitPhase("soak")
	candidate := r.Candidate()
	mustHaveAll := func(name string) {
		testutil.Until(t, patience, "all messages", func() bool { return len(r.Heard(candidate, name)) == 6 })
		mustBeInOrder(t, r.Heard(candidate, name), "first", 1, 3)
		mustBeInOrder(t, r.Heard(candidate, name), "main", 1, 3)
	}
	mustHaveAll(plan.News)
	if got := r.Heard(candidate, plan.Late); len(got) != 0 {
		t.Fatalf("before OnBroadcast: %q", got)
	}
	r.Touch("register")
	mustHaveAll(plan.Late)
	r.Ask("POST", "/commit")
	<-done
}

// mustBeInOrder fails the test unless the messages of a sender are numbered up to last without a gap. The first one may have any
// number up to the given one.
func mustBeInOrder(t *testing.T, all []string, sender string, first, last int) {
	t.Helper()
	next := 0
	for _, text := range all {
		n, err := strconv.Atoi(strings.TrimPrefix(text, sender+" "))
		switch {
		case err != nil: // of another sender
		case next == 0 && n <= first, n == next:
			next = n + 1
		default:
			t.Fatalf("%s: %d comes, want %d", sender, n, max(next, first))
		}
	}
	if next != last+1 {
		t.Errorf("%s: the last message is %d, want %d", sender, next-1, last)
	}
}

// A candidate that is started while others broadcast all the time misses nothing from the first message on that it gets.
func TestBroadcastDuringAStart(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, talking)
	first := held(t, r)
	main := r.MainPID()
	const most = 1000
	for pid, sender := range map[int]string{first: "first", main: "main"} {
		var all []string
		for n := range most {
			all = append(all, fmt.Sprint(sender, " ", n+1))
		}
		r.Order(pid, plan.Say{Name: plan.News, Data: all})
	}
	candidate, done := r.Soaking()
	testutil.Until(t, patience, "the last messages", func() bool {
		all := r.Heard(candidate, plan.News)
		return slices.Contains(all, fmt.Sprint("first ", most)) && slices.Contains(all, fmt.Sprint("main ", most))
	})
	for _, sender := range []string{"first", "main"} {
		mustBeInOrder(t, r.Heard(candidate, plan.News), sender, most, most)
	}
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
