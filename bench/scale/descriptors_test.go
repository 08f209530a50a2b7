//go:build linux

package scale

import (
	"strings"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
)

// If a process has only two free descriptors while connections move, no connection is closed and no request is lost: the
// connections that the candidate cannot take stay with the old process. After a commit the old process answers one more request
// over each of them, and ends the connection in the way of HTTP. The log says so once.
func TestNothingIsLostWithTwoDescriptorsLeft(t *testing.T) {
	var rows []row
	defer func() { t.Logf("idle connections through an upgrade\n%s", table(rows)) }()
	n := 200
	if *full {
		n = 20_000
	}
	for _, c := range []shortage{
		{"2 descriptors in candidate, abort", true, true, false},
		{"2 descriptors in candidate, commit", true, true, true},
		{"2 descriptors in candidate, commit at 0 %", true, false, true},
		{"2 descriptors in old process, abort", false, true, false},
		{"2 descriptors in old process, commit", false, true, true},
		{"2 descriptors in old process, commit at 0 %", false, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			testutil.Sample(t)
			rows = append(rows, run(t, n, scenario{c.name, true, c.play}, circumstances{env: []string{quietEnv + "=1m"}}))
		})
	}
}

// A shortage is a scenario in which a process has two free descriptors.
type shortage struct {
	name      string
	candidate bool // which process
	step      bool // to 50 % before the end of the upgrade
	commit    bool
}

func (c shortage) play(x *trial) {
	x.s.upgrade()
	cand := x.s.candidate()
	if c.candidate {
		cand.do(x.T, "squeeze", 2)
	} else {
		x.s.old.do(x.T, "squeeze", 2)
	}
	if c.step && !x.half(cand, c.candidate) {
		return
	}
	if c.commit {
		x.commitShort(cand)
	} else {
		x.s.old.do(x.T, "abort", "")
		x.comeBack("the abort")
	}
	if said := x.complaints(); c.candidate && len(said) != 1 || len(said) > 1 {
		x.Errorf("%d lines of the log are about descriptors, want one:\n%s", len(said), strings.Join(said[:min(3, len(said))], "\n"))
	}
}

// half sets the weight 0.5, and reports whether the candidate lives.
func (x *trial) half(cand *process, short bool) bool {
	x.Helper()
	if short {
		x.overfill(cand)
	} else {
		x.step(cand, 0.5)
	}
	x.askAnyone("at 50 %")
	next, err := cand.tryStatus()
	if err != nil {
		x.Errorf("the candidate has ended at 50 %%, and must live: %s", x.lastError())
		x.comeBack("the end of the candidate")
		return false
	}
	x.moved = next.All
	x.used(x.s.old.status(x.T), next)
	return true
}

// overfill gives a candidate that is short of descriptors half of the connections. It returns when the candidate has some of
// them, or has ended.
func (x *trial) overfill(cand *process) {
	x.Helper()
	x.s.old.do(x.T, "weight", 0.5)
	x.await(func() int {
		next, err := cand.tryStatus()
		if err != nil || next.All > 0 {
			return 0
		}
		return 1
	})
}

// commitShort commits while a process is short of descriptors. The requests after it may be answered by either process.
func (x *trial) commitShort(cand *process) {
	x.Helper()
	x.s.old.do(x.T, "commit", "")
	if !testutil.Within(patience, func() bool { return x.s.pid() == cand.pid }) {
		x.Fatalf("the upgrade is not committed after %v: %s", patience, x.lastError())
	}
	x.askAnyone("after the commit")
	draining := func() bool { old, err := x.s.old.tryStatus(); return err != nil || old.Ended > 0 }
	testutil.Until(x.T, patience, "the old process drains", draining)
	x.askAnyone("in the drain") // the old process ends all connections that it still has by its answers
	gone, last := x.s.left(x.n)
	x.gone = gone
	x.used(last, cand.status(x.T))
}

// lastError returns the last error in the log.
func (x *trial) lastError() (last string) {
	for line := range strings.Lines(x.s.proc.Output()) {
		if strings.Contains(line, "level=ERROR") {
			last = strings.TrimSpace(line)
		}
	}
	return last
}

// askAnyone sends a request over each connection. Each must be answered, by whichever process.
func (x *trial) askAnyone(when string) {
	x.Helper()
	closed := x.conns.closed(x.T)
	r := x.conns.ask()
	x.closed, x.unanswered = max(x.closed, closed), max(x.unanswered, r.failed)
	if closed > 0 || r.failed > 0 {
		x.Errorf("%s the server has closed %d of %d idle connections; one more request over each: %s", when, closed, x.n, r)
	}
}

// complaints returns the warnings and errors in the log that are about descriptors.
func (x *trial) complaints() (lines []string) {
	for line := range strings.Lines(x.s.proc.Output()) {
		serious := strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR")
		if serious && (strings.Contains(line, "descriptor") || strings.Contains(line, "open files")) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}
