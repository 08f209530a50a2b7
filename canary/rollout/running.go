package rollout

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	"github.com/midair-go/midair/canary"
)

// running has the requests that are under way. A request that runs for too long is an event before it ends: otherwise a canary
// that hangs would have no outcome, and would pass.
type running struct{ shards []shard }

// A shard has a part of the requests, so that goroutines seldom wait for each other.
type shard struct {
	mu   sync.Mutex
	all  []*slot
	free []*slot
	_    [64]byte // another shard is on another cache line
}

// A slot has a request that is under way. A slot is used again for other requests.
type slot struct {
	shard    *shard
	recorder *recorder // counts the request
	used     bool
	out      canary.Outcome
	route    route
	reported time.Duration // how long the request had run at the last report
}

func newRunning() *running {
	n := 1
	for n < 4*runtime.GOMAXPROCS(0) {
		n *= 2
	}
	return &running{make([]shard, n)}
}

// begin returns a slot for a request.
func (rn *running) begin(r *recorder, o canary.Outcome, to route) *slot {
	sh := &rn.shards[rand.Uint32()&uint32(len(rn.shards)-1)]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	var s *slot
	if n := len(sh.free); n > 0 {
		s, sh.free = sh.free[n-1], sh.free[:n-1]
	} else {
		s = &slot{shard: sh}
		sh.all = append(sh.all, s)
	}
	s.used, s.recorder, s.out, s.route, s.reported = true, r, o, to, 0
	return s
}

// end frees the slot of a request that has ended. It returns the route, and how long the request had run at the last report.
func (s *slot) end() (to route, reported time.Duration) {
	s.shard.mu.Lock()
	defer s.shard.mu.Unlock()
	to, reported = s.route, s.reported
	s.used, s.out, s.route = false, canary.Outcome{}, route{}
	s.shard.free = append(s.shard.free, s)
	return to, reported
}

// report calls fn for each request that has run for at least one of the thresholds, and was not reported since. fn must not begin
// or end a request.
func (rn *running) report(now time.Time, thresholds []time.Duration, fn func(s *slot, took time.Duration)) {
	for i := range rn.shards {
		rn.shards[i].report(now, thresholds, fn)
	}
}

func (sh *shard) report(now time.Time, thresholds []time.Duration, fn func(s *slot, took time.Duration)) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for _, s := range sh.all {
		if !s.used {
			continue
		}
		took := now.Sub(s.out.Start)
		for _, threshold := range thresholds {
			if s.reported < threshold && threshold <= took {
				fn(s, took)
				s.reported = took
				break
			}
		}
	}
}
