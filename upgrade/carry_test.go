//go:build linux

package upgrade_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// A hook of the program moves raw connections and WebSockets, with their state, to another process, at any byte of a message:
// after a new weight, an abort or a commit. Each client sees a connection that never ends, and loses no number.
func TestTalksGoOnInAnotherProcess(t *testing.T) {
	t.Parallel()
	r := startTalks(t, func(s *plan.Settings) { s.Bake, s.Soak = plan.BakeToggles, 0 })
	var running sync.WaitGroup
	var moves, asked atomic.Int64
	stop := make(chan struct{})
	for i := range 16 {
		running.Go(func() {
			s, err := newSpeaker(r, i)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			for !isOver(stop) {
				before := s.moves
				if err := s.say(); err != nil {
					t.Errorf("client %d, WebSocket %v: %v", i, s.web, err)
					return
				}
				moves.Add(int64(s.moves - before))
			}
			asked.Add(int64(s.asked))
		})
	}
	for round := range 4 {
		done := r.BeginUpgrade()
		r.WaitPhase("bake")
		want := moves.Load() + 200
		testutil.Until(t, patience, "they move", func() bool { return moves.Load() >= want || t.Failed() })
		end := []string{"/abort", "/commit"}[round%2]
		r.Ask("POST", end)
		if a := <-done; a.Committed != (end == "/commit") {
			t.Errorf("upgrade: %+v", a)
		}
		r.WaitFamily(t, 1, patience)
	}
	close(stop)
	running.Wait()
	t.Logf("%d numbers, %d moves", asked.Load(), moves.Load())
}

// If a candidate dies, the old process serves the moved connections that have sent nothing since the move. The old process
// knows the state of these connections from the move.
func TestTalksOutliveTheCandidate(t *testing.T) {
	for _, how := range []string{"kill", "stop", "abort"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			r := startTalks(t, func(s *plan.Settings) { byWeights(0, 1)(s); s.Silence = time.Second }) // at 0 none moves
			all := speakers(t, r, 20)
			done := r.BeginUpgrade()
			r.AtStep(0)
			pid := r.Candidate()
			own := testclient.OpenSockets(pid)
			r.GoOn()
			testutil.Until(t, patience, "the candidate has all of them", func() bool { return testclient.OpenSockets(pid) >= own+len(all) })
			switch how {
			case "abort":
				r.Ask("POST", "/abort")
			case "kill":
				_ = syscall.Kill(pid, syscall.SIGKILL)
			case "stop":
				_ = syscall.Kill(pid, syscall.SIGSTOP)
			}
			if a := <-done; a.Committed {
				t.Fatalf("upgrade: %+v", a)
			}
			for i, s := range all {
				if err := s.say(); err != nil || s.pid != r.PID() {
					t.Errorf("client %d, WebSocket %v: answered by %d: %v", i, s.web, s.pid, err)
				}
			}
		})
	}
}

// If a candidate is killed at any moment, connections may be lost with it. But no connection goes on in the old process if the
// candidate has changed the state of the connection.
func TestTalksNeverGoOnWithAnotherState(t *testing.T) {
	testutil.AlsoWithoutRace()
	t.Parallel()
	r := startTalks(t, func(s *plan.Settings) { s.Bake, s.Soak = plan.BakeToggles, 0 })
	var running sync.WaitGroup
	var moves, closed atomic.Int64
	stop := make(chan struct{})
	for i := range 48 {
		running.Go(func() {
			for n := i; !isOver(stop); n += 48 {
				s, err := newSpeaker(r, n)
				for err == nil && !isOver(stop) {
					before := s.moves
					err = s.say()
					moves.Add(int64(s.moves - before))
				}
				if s != nil {
					s.Close()
				}
				if err != nil && strings.Contains(err.Error(), "want the sum") {
					t.Errorf("client %d, WebSocket %v: %v", i, s.web, err)
				} else if err != nil {
					closed.Add(1)
				}
			}
		})
	}
	for range 30 {
		done := r.BeginUpgrade()
		r.WaitPhase("bake")
		pid := r.Candidate()
		want := moves.Load() + 100
		testutil.Until(t, patience, "they move", func() bool { return moves.Load() >= want })
		_ = syscall.Kill(pid, syscall.SIGKILL)
		if a := <-done; a.Committed {
			t.Fatalf("upgrade: %+v", a)
		}
	}
	close(stop)
	running.Wait()
	t.Logf("%d moves, %d connections closed by 30 deaths", moves.Load(), closed.Load())
}

// A commit moves any number of connections with a state, and closes none.
func TestCommitMovesManyTalks(t *testing.T) {
	t.Parallel()
	r := startTalks(t, nil)
	all := speakers(t, r, 300)
	for range 2 {
		r.Upgrade()
		r.WaitFamily(t, 1, patience)
	}
	for i, s := range all {
		if err := s.say(); err != nil || s.pid != r.MainPID() {
			t.Fatalf("client %d, WebSocket %v: answered by %d: %v", i, s.web, s.pid, err)
		}
	}
}
