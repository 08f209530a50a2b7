package testutil

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Verdict is what happened to a request, according to its client and the journal.
type Verdict uint8

// The verdicts. With any verdict but AnsweredOnce the request counts as lost.
const (
	AnsweredOnce Verdict = iota // answered and executed once
	AnsweredBad                 // answered with a status of 400 or above, executed at most once
	Refused                     // connection refused
	NotExecuted                 // failed in another way before it was executed
	Unanswered                  // executed once, and the answer did not come
	Twice                       // executed more than once, answered or not
	Unjournaled                 // answered, but never executed according to the journal
	verdicts                    // the number of verdicts
)

// String names the verdict.
func (v Verdict) String() string {
	return [verdicts + 1]string{"answered once", "answered with an error", "connection refused", "lost before execution",
		"executed without answer", "executed twice", "answered, not in the journal", "?"}[min(v, verdicts)]
}

// Offender is a request that was not answered exactly once.
type Offender struct {
	Record
	Verdict Verdict
	RanOn   []int // the pids of the processes that executed the request: none, one, or the first and the last
}

// By reports whether the process had received the request: the process has executed the request, or no process has, and the
// process gave the previous answer on the same connection.
func (o Offender) By(pid int) bool {
	return slices.Contains(o.RanOn, pid) || len(o.RanOn) == 0 && o.Verdict == NotExecuted && o.PID == pid
}

// String shows the offender on one line.
func (o Offender) String() string {
	return fmt.Sprintf("%s (executed by %v): %s", o.Verdict, o.RanOn, o.Record)
}

// Accounting classifies every request of a report.
type Accounting struct {
	Total     int
	Counts    map[Verdict]int
	Offenders []Offender // all requests with another verdict than AnsweredOnce, in the order of their ends
	Unknown   int        // the number of journal lines for requests of this load that no client has sent
}

// Account compares a report with the journal that the server wrote during the load. The journal may contain requests of other
// loads too.
func Account(t testing.TB, r *Report, journalPath string) Accounting {
	t.Helper()
	runs, unknown, err := readJournal(journalPath, r)
	if err != nil {
		t.Fatalf("account: %v", err)
	}
	a := Accounting{Total: r.Total, Counts: map[Verdict]int{}, Unknown: unknown}
	for c, log := range r.logs {
		for n, e := range log.all() {
			run := runs[c][n]
			v := judge(e.outcome, run.times)
			a.Counts[v]++
			if v != AnsweredOnce {
				a.Offenders = append(a.Offenders, Offender{r.record(c, n, e), v, run.pids()})
			}
		}
	}
	slices.SortFunc(a.Offenders, func(x, y Offender) int { return x.End.Compare(y.End) })
	return a
}

func judge(o Outcome, times uint8) Verdict {
	switch {
	case times > 1:
		return Twice
	case o == BadStatus:
		return AnsweredBad
	case o == OK && times == 1:
		return AnsweredOnce
	case o == OK:
		return Unjournaled
	case times == 1:
		return Unanswered
	case o == DialRefused:
		return Refused
	}
	return NotExecuted
}

func (e execution) pids() []int {
	switch e.times {
	case 0:
		return nil
	case 1:
		return []int{int(e.pid)}
	}
	return []int{int(e.pid), int(e.again)}
}

// Clean reports whether every request was answered once, and the journal has no unknown request.
func (a Accounting) Clean() bool { return len(a.Offenders) == 0 && a.Unknown == 0 }

// Except lists the offenders that none of the processes had received.
func (a Accounting) Except(pids ...int) []Offender {
	return slices.DeleteFunc(slices.Clone(a.Offenders), func(o Offender) bool {
		return slices.ContainsFunc(pids, o.By)
	})
}

// MustBeClean ends the test, and lists the first ten offenders, unless Clean is true.
func (a Accounting) MustBeClean(t testing.TB) {
	t.Helper()
	if !a.Clean() {
		t.Fatalf("requests were lost\n%s%s", a, list(a.Offenders))
	}
}

// MustHaveLostOnly ends the test if a request was lost that none of the processes had received, if a request was executed
// twice, or if the journal has an unknown request.
func (a Accounting) MustHaveLostOnly(t testing.TB, pids ...int) {
	t.Helper()
	if others := a.Except(pids...); len(others) > 0 || a.Counts[Twice] > 0 || a.Unknown > 0 {
		t.Fatalf("requests were lost that %v had not received\n%s%s", pids, a, list(others))
	}
}

func list(offenders []Offender) string {
	const most = 10
	var b strings.Builder
	for i, o := range offenders {
		if i == most {
			fmt.Fprintf(&b, "and %d more\n", len(offenders)-most)
			break
		}
		fmt.Fprintln(&b, o)
	}
	return b.String()
}

// String shows the counts as a table.
func (a Accounting) String() string {
	var b strings.Builder
	for v := range verdicts {
		fmt.Fprintf(&b, "%-30s %9d\n", v, a.Counts[v])
	}
	fmt.Fprintf(&b, "%-30s %9d\n", "unknown to the clients", a.Unknown)
	fmt.Fprintf(&b, "%-30s %9d\n", "total", a.Total)
	return b.String()
}
