package testutil

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// newReport makes a report of one client that has sent a request each millisecond; request i took took(i).
func newReport(n int, took func(i int) time.Duration, change func(i int, e *entry)) *Report {
	who := newRoster()
	log := &entryLog{}
	for i := range n {
		e := entry{start: time.Duration(i) * time.Millisecond, took: uint32(took(i) / tick), status: 200}
		change(i, &e)
		log.add(e, nil)
	}
	for _, v := range []string{"v1", "v2"} {
		who.number(Answerer{Version: v})
	}
	return &Report{Begin: time.Now(), logs: []*entryLog{log}, who: who.list, prefix: "p"}
}

func keep(int, *entry) {}

// A percentile is over the answers that started in its window, fast path only.
func TestPercentileCoversWindow(t *testing.T) {
	r := newReport(1000, func(i int) time.Duration { return time.Duration(i+1) * time.Millisecond }, func(i int, e *entry) {
		e.slow = i == 500
		if i == 600 {
			e.outcome = Reset
		}
	})
	at := func(ms int) time.Time { return r.Begin.Add(time.Duration(ms) * time.Millisecond) }
	for _, tt := range []struct {
		p        float64
		from, to time.Time
		want     time.Duration
	}{
		{0, time.Time{}, time.Time{}, time.Millisecond},
		{100, time.Time{}, time.Time{}, time.Second},
		{50, at(0), at(100), 50 * time.Millisecond},
		{99, at(0), at(100), 99 * time.Millisecond},
		{99.9, at(0), at(100), 100 * time.Millisecond},
		{50, at(100), at(102), 101 * time.Millisecond},
		{50, at(500), at(501), 0},
		{50, at(600), at(601), 0},
		{50, at(2000), time.Time{}, 0},
	} {
		if got := r.Percentile(tt.p, tt.from, tt.to); got != tt.want {
			t.Errorf("percentile %v of %v..%v is %v, want %v", tt.p, tt.from, tt.to, got, tt.want)
		}
	}
}

// The longest gap is the one between two ends of answers.
func TestLongestGapIsBetweenAnswers(t *testing.T) {
	r := newReport(100, func(int) time.Duration { return 0 }, func(i int, e *entry) {
		if i >= 40 && i < 60 {
			e.outcome = DialRefused
		}
	})
	gap, at := r.LongestGap(time.Time{}, time.Time{})
	if gap != 21*time.Millisecond || !at.Equal(r.Begin.Add(39*time.Millisecond)) {
		t.Errorf("gap %v at %v, want 21ms at 39ms", gap, at.Sub(r.Begin))
	}
	if gap, _ := r.LongestGap(r.Begin.Add(70*time.Millisecond), r.Begin.Add(80*time.Millisecond)); gap != time.Millisecond {
		t.Errorf("gap %v in a steady window, want 1ms", gap)
	}
}

// A report knows when a version answered first and last.
func TestReportKnowsSpanOfVersion(t *testing.T) {
	r := newReport(100, func(int) time.Duration { return 500 * time.Microsecond }, func(i int, e *entry) {
		e.who = 1
		if i >= 30 {
			e.who = 2
		}
		if i == 30 {
			e.outcome = Partial
		}
	})
	for version, want := range map[string][2]time.Duration{"v1": {0, 29}, "v2": {31, 99}} {
		for i, got := range []time.Time{r.FirstAnswer(version), r.LastAnswer(version)} {
			if d := got.Sub(r.Begin); d != want[i]*time.Millisecond+500*time.Microsecond {
				t.Errorf("%s: %v after the begin, want %vms and a half", version, d, int(want[i]))
			}
		}
	}
	if !r.FirstAnswer("v3").IsZero() {
		t.Error("a version that never answered has a first answer")
	}
}

// The log keeps every entry in order beyond its chunks, and the text of the first failures.
func TestEntryLogKeepsOrder(t *testing.T) {
	const n = 3*chunkSize + 5
	var log entryLog
	for i := range n {
		var err error
		if i%2 == 1 {
			err = fmt.Errorf("failure %d", i)
		}
		log.add(entry{start: time.Duration(i)}, err)
	}
	next := 0
	for i, e := range log.all() {
		if i != next || e.start != time.Duration(i) {
			t.Fatalf("entry %d is %d, want %d", i, e.start, next)
		}
		next++
	}
	if next != n || log.len() != n {
		t.Errorf("%d entries, length %d, want %d", next, log.len(), n)
	}
	if len(log.errors) != maxErrors || log.errors[1] != "failure 1" {
		t.Errorf("%d failures kept, the first %q", len(log.errors), log.errors[1])
	}
}

// An entry is small enough for millions.
func TestEntryLogIsCompact(t *testing.T) {
	var log entryLog
	perEntry := testing.AllocsPerRun(10, func() {
		for range chunkSize {
			log.add(entry{}, nil)
		}
	}) / chunkSize
	if perEntry > 0.01 {
		t.Errorf("%v allocations an entry", perEntry)
	}
}

// Answerers beyond the last number are nobody, and the numbers given stay.
func TestRosterIsBounded(t *testing.T) {
	r := newRoster()
	for i := range 1 << 17 {
		r.number(Answerer{PID: i + 1})
	}
	if len(r.list) != 1<<16 || r.number(Answerer{PID: 5}) != 5 || r.number(Answerer{PID: 1 << 17}) != 0 {
		t.Errorf("%d answerers, number of 5: %d, of the last: %d", len(r.list), r.number(Answerer{PID: 5}),
			r.number(Answerer{PID: 1 << 17}))
	}
}

// Outcomes, verdicts and reports have words.
func TestEverythingHasAName(t *testing.T) {
	for o := range outcomes + 1 {
		if (o.String() == "?") != (o == outcomes) {
			t.Errorf("outcome %d is named %q", o, o)
		}
	}
	for v := range verdicts + 1 {
		if (v.String() == "?") != (v == verdicts) {
			t.Errorf("verdict %d is named %q", v, v)
		}
	}
	r := newReport(2, func(int) time.Duration { return 0 }, keep)
	r.Counts, r.ByVersion = map[Outcome]int{OK: 1, Reset: 1}, map[string]int{"v1": 2}
	if s := r.String(); !strings.Contains(s, "ok 1, reset 1, version \"v1\" 2") {
		t.Errorf("report %q", s)
	}
	rec := r.record(0, 1, &entry{outcome: Reset})
	r.logs[0].errors = map[int]string{1: errors.ErrUnsupported.Error()}
	if rec.ID != "p-0-1" || !strings.Contains(r.record(0, 1, &entry{outcome: Reset}).String(), "reset") {
		t.Errorf("record %q", rec)
	}
}
