package main

import (
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// sides returns the sides on which the generations answer, see answers.
func (s *site) sides(generations ...int) string {
	s.t.Helper()
	return strings.Join(s.answers("/cart", generations...), " and ")
}

// answers asks for the path until each of the generations has answered ten times, and returns the different answers in order.
func (s *site) answers(path string, generations ...int) []string {
	s.t.Helper()
	given, seen := map[int]int{}, map[string]bool{}
	testutil.Until(s.t, patience, "each generation answers", func() bool {
		r := s.ask("GET", path, "")
		given[r.generation()]++
		seen[strings.TrimSpace(r.body)] = true
		for _, g := range generations {
			if given[g] < 10 {
				return false
			}
		}
		return true
	})
	return slices.Sorted(maps.Keys(seen))
}

// mustSay fails unless n processes have logged a change of the switch within a while.
func (s *site) mustSay(n int, change string) {
	s.t.Helper()
	began := time.Now()
	testutil.Until(s.t, patience, strconv.Itoa(n)+" processes say: "+change, func() bool {
		return strings.Count(s.Output(), change) >= n
	})
	s.t.Logf("%d processes after %v: %s", n, time.Since(began).Round(time.Millisecond), change)
	if got := strings.Count(s.Output(), change); got != n {
		s.t.Errorf("%q was logged %d times, want %d: once in each process", change, got, n)
	}
}

// A kill reaches the candidate in a bake, and a revival too; an abort brings nothing back that was killed before.
func TestKillReachesACandidate(t *testing.T) {
	s := startSite(t, "-steps", "50%:1h")
	s.weigh("100%")
	s.release()
	outcome := s.later(t.Context(), "/upgrade")
	s.untilPhase("bake")
	if side := s.sides(1, 2); side != "canary" {
		t.Errorf("before the kill the side is %s", side)
	}
	s.post("/kill?reason=wrong+totals", 200)
	s.mustSay(2, "the kill switch is killed")
	if side := s.sides(1, 2); side != "stable" {
		t.Errorf("after the kill the side is %s", side)
	}
	s.post("/revive", 200)
	s.mustSay(2, "the kill switch is open")
	if side := s.sides(1, 2); side != "canary" {
		t.Errorf("after the revival the side is %s", side)
	}
	s.post("/kill", 200)
	s.post("/abort", 200)
	s.decoded(<-outcome, 500)
	if side := s.sides(1); side != "stable" {
		t.Errorf("after the abort the side is %s", side)
	}
}

// A kill reaches two older generations that drain. It holds after a rollback, and after kill -9 of the process that was told.
func TestKillReachesWhoDrainsAndOutlivesProcesses(t *testing.T) {
	s := startSite(t)
	s.weigh("100%")
	for generation := 2; generation <= 3; generation++ {
		s.holdStream()
		s.linkTo(build(t, "v"+strconv.Itoa(generation)))
		s.post("/upgrade", 200)
	}
	if side := s.sides(3); side != "canary" {
		t.Errorf("before the kill the side is %s", side)
	}
	s.post("/kill?reason=wrong+totals", 200)
	s.mustSay(3, "the kill switch is killed")
	if st := s.status(); st.Kill.State != "killed" || st.Kill.Reason != "wrong totals" || st.Canary.DecidedBy != "killed" {
		t.Errorf("the status says %+v, decided by %s", st.Kill, st.Canary.DecidedBy)
	}
	s.post("/rollback", 200)
	if side := s.sides(4); side != "stable" {
		t.Errorf("after the rollback the side is %s", side)
	}
	s.signal(syscall.SIGKILL)
	if side := s.sides(5); side != "stable" {
		t.Errorf("after kill -9 the side is %s", side)
	}
	s.post("/revive", 200)
	if side := s.sides(5); side != "canary" {
		t.Errorf("after the revival the side is %s", side)
	}
}

// holdStream keeps an answer going, so that the process that gives it drains until the end of the test.
func (s *site) holdStream() {
	s.t.Helper()
	res, err := http.Get("http://" + s.addr + "/stream?n=100000&every=20ms")
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := io.ReadFull(res.Body, make([]byte, 1)); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { res.Body.Close() })
}
