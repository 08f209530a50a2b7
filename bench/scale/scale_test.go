//go:build linux

package scale

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

var (
	full      = flag.Bool("midair.full", false, "up to 20,000 idle connections; five commits of each size, whose times decide too")
	onlyConns = flag.Int("midair.conns", 0, "the only number of idle connections; 0: the usual numbers")
)

// sizes returns the numbers of idle connections to test.
func sizes(usual ...int) []int {
	switch {
	case *onlyConns > 0:
		return []int{*onlyConns}
	case *full:
		return append(usual, 5000, 10_000, 20_000)
	}
	return usual
}

// A scenario is what happens to the idle connections.
type scenario struct {
	name  string
	judge bool // the upgrade has a Bake, which the test controls
	play  func(*trial)
}

var scenarios = []scenario{
	{"commit", false, (*trial).commit},
	{"50 % and back, 3 times", true, (*trial).stepAndBack},
	{"abort at 50 %", true, (*trial).abort},
	{"kill -9 at 50 %", true, (*trial).kill},
}

// An upgrade closes no idle keep-alive connection, however many there are. After it each connection is answered by the process
// that has to answer: after a commit by the new one, at the weight 0, after an abort and after the death of the candidate by the
// old one. At 50 % the candidate has half of the connections.
func TestNoIdleConnectionIsClosed(t *testing.T) {
	runs := 1
	if *full {
		runs = 5
	}
	var rows []row
	defer func() { t.Logf("idle connections through an upgrade\n%s", table(rows)) }()
	for _, n := range sizes(100, 600, 2000) {
		for _, sc := range scenarios {
			t.Run(fmt.Sprintf("%d/%s", n, sc.name), func(t *testing.T) {
				testutil.Sample(t)
				var same []row
				for i := range runs {
					if i == 0 || !sc.judge {
						same = append(same, run(t, n, sc, circumstances{}))
					}
				}
				rows = append(rows, median(same))
				if limit := longest(n); *full && !sc.judge && median(same).gone > limit {
					t.Errorf("the old process is gone %v after the commit, median of %d, want %v", median(same).gone, runs, limit)
				}
			})
		}
	}
}

// longest is how long the old process may be there after a commit.
func longest(n int) time.Duration { return 300*time.Millisecond + time.Duration(n)*40*time.Microsecond }

// The same is true while 64 clients send requests and 16 clients open connections. No request of theirs is lost, except those
// that a killed candidate has received.
func TestNothingIsLostUnderLoad(t *testing.T) {
	playAll(t, circumstances{name: ", load", load: true})
}

// The same is true if the candidate has one processor only, which it shares with two busy processes.
func TestSlowCandidateLosesNothingUnderLoad(t *testing.T) {
	playAll(t, circumstances{name: ", load, slow candidate", load: true, busy: 2, env: []string{procsEnv + "=1"}})
}

func playAll(t *testing.T, cs circumstances) {
	t.Helper()
	var rows []row
	defer func() { t.Logf("idle connections through an upgrade\n%s", table(rows)) }()
	for _, n := range sizes(600) {
		for _, sc := range scenarios {
			t.Run(fmt.Sprintf("%d/%s", n, sc.name), func(t *testing.T) {
				testutil.Sample(t)
				rows = append(rows, run(t, n, sc, cs))
			})
		}
	}
}
