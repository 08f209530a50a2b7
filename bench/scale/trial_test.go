//go:build linux

package scale

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// A trial is a scenario with a number of connections.
type trial struct {
	*testing.T
	row
	s      *service
	conns  idle
	loaded bool
	began  status // of the old process, before the upgrade

	killed   int // the pid of the candidate that the test has killed; 0: none
	killedAt time.Time
}

// Circumstances are what goes on beside the idle connections.
type circumstances struct {
	name string
	load bool     // clients send requests and open connections
	busy int      // how many processes use a processor
	env  []string // of the service
}

// run plays a scenario in a service of its own.
func run(t *testing.T, n int, sc scenario, cs circumstances) row {
	t.Helper()
	n = allow(t, n)
	env := slices.Clone(cs.env)
	if sc.judge {
		env = append(env, judgeEnv+"=1")
	}
	if cs.load {
		env = append(env, takenEnv+"=1")
	}
	x := &trial{T: t, s: start(t, env...), loaded: cs.load, row: row{n: n, scenario: sc.name + cs.name}}
	x.conns = open(t, x.s, n)
	for range cs.busy {
		busy := testutil.Start(t, "busy", testutil.Cfg{})
		defer busy.Kill()
	}
	var load *testutil.Load
	if cs.load {
		load = testutil.StartLoad(t, testutil.LoadOptions{
			Addr: x.s.addr, KeepAlive: 64, New: 16, SlowEvery: 20, Think: 10 * time.Millisecond, Timeout: 2 * patience,
		})
		testutil.Until(t, patience, "the load runs", func() bool { return load.Total() > 500 })
	}
	x.began = x.s.old.status(t)
	sc.play(x)
	if load != nil {
		x.account(load)
	}
	return x.row
}

// account counts the requests of the load. A candidate that is killed may lose the requests that it has received.
func (x *trial) account(load *testutil.Load) {
	x.Helper()
	a := testutil.Account(x.T, load.Stop(), filepath.Join(x.s.dir, "journal"))
	lost := a.Offenders
	if x.killed != 0 {
		lost = slices.DeleteFunc(a.Except(x.killed), x.wasReading)
	}
	x.requests, x.lost = a.Total, len(lost)
	if len(lost) > 0 || a.Counts[testutil.Twice] > 0 || a.Unknown > 0 {
		x.Errorf("the clients have lost %d requests that %d had not received (0: no process was killed), such as %v\n%s",
			len(lost), x.killed, lost[:min(5, len(lost))], a)
	}
}

// wasReading reports whether the killed candidate may have read a request that no process has executed: the candidate had the
// connection, and the request was under way when the candidate was killed.
func (x *trial) wasReading(o testutil.Offender) bool {
	underWay := !o.Start.After(x.killedAt.Add(time.Second)) && !o.End.Before(x.killedAt)
	if o.Verdict != testutil.NotExecuted || !underWay || o.From() == "" {
		return false
	}
	b, _ := os.ReadFile(takenOf(x.s.dir, x.killed))
	return slices.Contains(strings.Fields(string(b)), o.From())
}

// commit upgrades without a judge.
func (x *trial) commit() {
	x.s.upgrade()
	x.committed()
}

// committed waits for the end of the old process. Afterwards the new process must have all connections.
func (x *trial) committed() {
	x.Helper()
	next := x.s.successor()
	gone, last := x.s.left(x.n)
	x.gone = gone
	x.used(last, next.status(x.T))
	x.moved = x.ask(next.pid)
}

// stepAndBack sets the weight again and again, and commits at the end.
func (x *trial) stepAndBack() {
	x.s.upgrade()
	cand := x.s.candidate()
	x.step(cand, 0.5)
	x.step(cand, 0)
	x.ask(x.s.old.pid)
	x.step(cand, 0.5)
	x.step(cand, 0)
	x.step(cand, 0.5)
	x.askShare(cand)
	x.step(cand, 0) // from now on the candidate has answered a request on each of its connections
	x.ask(x.s.old.pid)
	x.s.old.do(x.T, "commit", "")
	x.committed()
}

// abort aborts at 50 %.
func (x *trial) abort() {
	x.s.upgrade()
	cand := x.s.candidate()
	x.moved = x.step(cand, 0.5)
	x.used(x.s.old.status(x.T), cand.status(x.T))
	x.s.old.do(x.T, "abort", "")
	x.comeBack("the abort")
}

// kill kills the candidate at 50 %.
func (x *trial) kill() {
	x.s.upgrade()
	cand := x.s.candidate()
	x.moved = x.step(cand, 0.5)
	x.used(x.s.old.status(x.T), cand.status(x.T))
	x.killed, x.killedAt = cand.pid, time.Now()
	cand.signal(x.T, syscall.SIGKILL)
	x.comeBack("the death of the candidate")
}

// comeBack waits until the old process has all connections.
func (x *trial) comeBack(after string) {
	x.Helper()
	began := time.Now()
	var have int
	if x.await(func() int { have = x.s.old.status(x.T).All; return max(0, x.n-have) }); have < x.n {
		x.Errorf("after %s the old process has %d connections, want %d", after, have, x.n)
	}
	x.back = time.Since(began)
	x.s.proc.WaitFamily(x.T, 1, patienceFor(x.n))
	x.ask(x.s.old.pid)
}

// step sets the weight, and waits until the candidate has its share of the connections. It returns how many it has.
func (x *trial) step(cand *process, weight float64) int {
	x.Helper()
	began := time.Now()
	x.s.old.do(x.T, "weight", weight)
	var have, all int
	off := x.await(func() int {
		old, next := x.s.old.status(x.T), cand.status(x.T)
		have, all = next.All, old.All+next.All
		return max(x.offShare(have, all, weight), x.n-all)
	})
	if took := time.Since(began); weight > 0 && x.stepped == 0 {
		x.stepped = took
	} else if weight == 0 && x.back == 0 {
		x.back = took
	}
	if off > 0 {
		x.Errorf("weight %v: the candidate has %d of %d connections, want %.0f; the test has opened %d", weight, have, all,
			weight*float64(all), x.n)
	}
	return have
}

// offShare returns how many connections are missing or too many for a share, beyond a tolerance of half a point. While clients
// open connections, the tolerance is greater, since the two processes do not count in the same instant. At the weight 0 there
// is no tolerance.
func (x *trial) offShare(have, all int, weight float64) int {
	tolerance := 0.
	if weight > 0 {
		tolerance = max(1, 0.005*float64(all))
		if x.loaded {
			tolerance += 32
		}
	}
	return max(0, int(math.Ceil(math.Abs(float64(have)-weight*float64(all))-tolerance)))
}

// stall is how long await waits for the distance to become less.
const stall = 3 * time.Second

// await polls the distance to what the test wants until the distance is 0 twice in a row, so that connections that still move
// are noticed. It returns the last distance. It stops when the distance has not become less than ever for the time stall.
func (x *trial) await(distance func() int) (last int) {
	x.Helper()
	last = math.MaxInt
	least, changed := last, time.Now()
	testutil.Within(patienceFor(x.n), func() bool {
		before := last
		if last = distance(); last < least {
			least, changed = last, time.Now()
		}
		return last == 0 && before == 0 || time.Since(changed) > stall
	})
	return last
}

// ask sends a request over each connection. All must be open and answered by one process. ask returns how many were answered by
// this process.
func (x *trial) ask(pid int) int {
	x.Helper()
	closed := x.conns.closed(x.T)
	r := x.conns.ask()
	x.closed, x.unanswered = max(x.closed, closed), max(x.unanswered, r.failed)
	x.wrong += r.wrong(pid) - r.failed
	if closed > 0 || r.wrong(pid) > 0 {
		x.Errorf("of %d idle connections the server has closed %d; one more request over each, which %d had to answer: %s",
			len(x.conns), closed, pid, r)
	}
	return r.answers[pid]
}

// askShare sends a request over each connection at 50 %. Half of the answers must be from the candidate.
func (x *trial) askShare(cand *process) {
	x.Helper()
	closed := x.conns.closed(x.T)
	r := x.conns.ask()
	x.closed, x.unanswered = max(x.closed, closed), max(x.unanswered, r.failed)
	have := r.answers[cand.pid]
	if closed > 0 || have+r.answers[x.s.old.pid] < x.n || !x.loaded && x.offShare(have, x.n, 0.5) > 0 {
		x.Errorf("at 50 %% the server has closed %d of %d idle connections; one more request over each, half of them for %d: %s",
			closed, x.n, cand.pid, r)
	}
}

// used notes what both processes have used since the begin of the upgrade.
func (x *trial) used(old, next status) {
	x.cpuOld, x.cpuNew = old.CPU-x.began.CPU, next.CPU
	x.peakOld, x.peakNew = old.Peak, next.Peak
}
