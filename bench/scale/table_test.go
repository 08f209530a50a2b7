//go:build linux

package scale

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// A row is the result of a trial.
type row struct {
	n                int
	scenario         string
	moved            int           // connections that the new process has had at the same time, of the idle ones if there is no load
	closed           int           // idle connections that the server has closed
	unanswered       int           // idle connections over which one more request was not answered
	wrong            int           // idle connections whose next request was answered by the wrong process
	stepped          time.Duration // from the first call of SetWeight until the candidate has its share
	back             time.Duration // from the abort, the death or the weight 0 until the old process has all connections
	gone             time.Duration // from the commit until the end of the old process
	cpuOld, cpuNew   time.Duration
	peakOld, peakNew int // KiB
	requests, lost   int // of the load
}

// median returns the row whose time is the median, with the counts of the worst row.
func median(rows []row) row {
	if len(rows) == 0 {
		return row{}
	}
	sorted := slices.SortedFunc(slices.Values(rows), func(a, b row) int { return int(a.gone - b.gone) })
	m := sorted[len(sorted)/2]
	for _, r := range rows {
		m.closed, m.unanswered, m.wrong = max(m.closed, r.closed), max(m.unanswered, r.unanswered), max(m.wrong, r.wrong)
	}
	return m
}

// table shows rows in the format of a page of the documentation.
func table(rows []row) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 1, ' ', 0)
	fmt.Fprintln(w, "| conns\t| scenario\t| moved\t| closed\t| unanswered\t| wrong\t| 50 % after\t| back after\t| old gone after\t"+
		"| CPU old\t| CPU new\t| peak old\t| peak new\t| requests\t| lost\t|")
	fmt.Fprintln(w, strings.Repeat("| ---\t", 15)+"|")
	for _, r := range rows {
		fmt.Fprintf(w, "| %d\t| %s\t| %d\t| %d\t| %d\t| %d\t", r.n, r.scenario, r.moved, r.closed, r.unanswered, r.wrong)
		for _, d := range []time.Duration{r.stepped, r.back, r.gone, r.cpuOld, r.cpuNew} {
			fmt.Fprintf(w, "| %s\t", ms(d))
		}
		fmt.Fprintf(w, "| %d MiB\t| %d MiB\t| %d\t| %d\t|\n", r.peakOld>>10, r.peakNew>>10, r.requests, r.lost)
	}
	w.Flush()
	if len(rows) > 0 {
		most := slices.MaxFunc(rows, func(a, b row) int { return a.n - b.n }).n
		fmt.Fprintf(&b, "%d connections need %d descriptors in each of three processes: the test, the old process, the new process",
			most, needed(most))
	}
	return b.String()
}

func ms(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return fmt.Sprintf("%d ms", d.Milliseconds())
}
