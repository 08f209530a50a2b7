package testutil_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
)

func openJournal(t testing.TB) (j *testutil.Journal, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "journal")
	j, err := testutil.OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j, path
}

// misbehave returns a handler that treats the requests of each client in turn in six ways.
func misbehave(j *testutil.Journal) http.HandlerFunc {
	ok := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	bad := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusBadGateway) })
	abort := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	ways := []http.Handler{
		j.Handler(ok),            // answered once
		j.Handler(j.Handler(ok)), // twice
		ok,                       // unjournaled
		j.Handler(abort),         // unanswered
		abort,                    // not executed
		j.Handler(bad),           // answered with an error
	}
	return func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get("X-Request-Id")
		n, _ := strconv.Atoi(id[strings.LastIndexByte(id, '-')+1:])
		ways[n%len(ways)].ServeHTTP(w, r)
	}
}

// Every request is classified by what client and journal say together.
func TestAccountClassifiesRequests(t *testing.T) {
	j, path := openJournal(t)
	l := testutil.StartLoad(t, testutil.LoadOptions{Addr: newServer(t, misbehave(j)), KeepAlive: 2, New: 1})
	testutil.Until(t, patience, "60 requests", func() bool { return l.Total() >= 60 })
	r := l.Stop()
	a := testutil.Account(t, r, path)
	sum := 0
	for _, n := range a.Counts {
		sum += n
	}
	if sum != r.Total || a.Total != r.Total || a.Counts[testutil.AnsweredOnce]+len(a.Offenders) != r.Total {
		t.Errorf("%d requests are not all accounted for:\n%s", r.Total, a)
	}
	byWay := []testutil.Verdict{testutil.AnsweredOnce, testutil.Twice, testutil.Unjournaled, testutil.Unanswered,
		testutil.NotExecuted, testutil.AnsweredBad}
	for _, o := range a.Offenders {
		n, _ := strconv.Atoi(o.ID[strings.LastIndexByte(o.ID, '-')+1:])
		if o.Verdict != byWay[n%len(byWay)] {
			t.Errorf("request %d: %s, want %s", n, o.Verdict, byWay[n%len(byWay)])
		}
		if ran := slices.Contains(o.RanOn, os.Getpid()); ran == (o.Verdict == testutil.NotExecuted || o.Verdict == testutil.Unjournaled) {
			t.Errorf("executed by %v: %s", o.RanOn, o)
		}
	}
}

// A load that lost nothing is clean, and one that lost something fails with a table and its offenders.
func TestMustBeCleanShowsOffenders(t *testing.T) {
	j, path := openJournal(t)
	good := newServer(t, j.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP)
	testutil.Account(t, runUntil(t, 100, testutil.LoadOptions{Addr: good, KeepAlive: 2, New: 2}), path).MustBeClean(t)

	bad := runUntil(t, 100, testutil.LoadOptions{Addr: newServer(t, misbehave(j)), KeepAlive: 2})
	got := failure(t, func(t testing.TB) { testutil.Account(t, bad, path).MustBeClean(t) })
	for _, want := range []string{"answered once", "executed twice", "by [" + strconv.Itoa(os.Getpid()), "more\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("failure does not show %q:\n%s", want, got)
		}
	}
}

// Lines for requests that nobody sent are counted, whatever they look like, and those of other loads are not.
func TestAccountCountsUnknownLines(t *testing.T) {
	j, path := openJournal(t)
	work := j.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP
	addr := newServer(t, work)
	r := runUntil(t, 10, testutil.LoadOptions{Addr: addr, KeepAlive: 1})
	runUntil(t, 10, testutil.LoadOptions{Addr: addr, KeepAlive: 1})
	var prefix string
	for rec := range r.Records() {
		prefix, _, _ = strings.Cut(rec.ID, "-")
	}
	for _, id := range []string{prefix + "-0-9999999", prefix + "-7-0", prefix + "--1-0", prefix + "-x", prefix + "9-0-0", "other"} {
		if err := j.Begin(id); err != nil {
			t.Fatal(err)
		}
	}
	if a := testutil.Account(t, r, path); a.Unknown != 4 || len(a.Offenders) > 0 || a.Clean() {
		t.Errorf("want 4 unknown lines:\n%s", a)
	}
}

// Two processes share a journal, and one that is killed is the only one to lose requests: those it had received.
func TestAccountNamesProcessThatLostRequests(t *testing.T) {
	dir := t.TempDir()
	journal := filepath.Join(dir, "journal")
	procs, loads := make([]*testutil.Proc, 2), make([]*testutil.Load, 2)
	for i := range procs {
		addr := filepath.Join(dir, fmt.Sprint("socket", i))
		procs[i] = testutil.Start(t, "server", testutil.Cfg{Args: []string{addr, journal}})
		procs[i].WaitOutput(patience, "serving")
		loads[i] = testutil.StartLoad(t, testutil.LoadOptions{Network: "unix", Addr: addr, KeepAlive: 4})
	}
	for i, l := range loads {
		testutil.Until(t, patience, fmt.Sprintf("requests of server %d", i), func() bool { return l.Total() >= 500 })
	}
	procs[0].Kill()
	testutil.Until(t, patience, "refused connections", func() bool { return loads[0].Failures() >= 20 })

	testutil.Account(t, loads[1].Stop(), journal).MustBeClean(t)
	r := loads[0].Stop()
	a := testutil.Account(t, r, journal)
	for _, o := range a.Except(procs[0].PID()) {
		queued := o.Verdict == testutil.NotExecuted && o.PID == 0 // in the accept queue when it died
		if o.Verdict != testutil.Refused && !queued {
			t.Errorf("not received by %d: %s", procs[0].PID(), o)
		}
	}
	if r.ByPID[procs[0].PID()] != r.Answered || a.Counts[testutil.Refused] == 0 {
		t.Errorf("want answers of %d and refusals: %s\n%s", procs[0].PID(), r, a)
	}
	if got := failure(t, func(t testing.TB) { a.MustHaveLostOnly(t, procs[0].PID()) }); !strings.Contains(got, "refused") {
		t.Errorf("refusals are not reported: %q", got)
	}
}

// A loss is allowed to the process that had received the request: it executed it, or it had answered on the connection.
func TestMustHaveLostOnlyAsksWhoReceived(t *testing.T) {
	j, path := openJournal(t)
	addr := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Pid", strconv.Itoa(os.Getpid()))
		id := r.Header.Get("X-Request-Id")
		switch {
		case strings.HasSuffix(id, "5"): // never the first of a connection
			panic(http.ErrAbortHandler)
		case strings.HasSuffix(id, "7"):
			j.Begin(id)
			panic(http.ErrAbortHandler)
		}
		j.Begin(id)
	})
	a := testutil.Account(t, runUntil(t, 50, testutil.LoadOptions{Addr: addr, KeepAlive: 2}), path)
	if a.Counts[testutil.Unanswered] == 0 || a.Counts[testutil.NotExecuted] == 0 {
		t.Errorf("want losses before and after execution:\n%s", a)
	}
	a.MustHaveLostOnly(t, 1, os.Getpid())
	if got := failure(t, func(t testing.TB) { a.MustHaveLostOnly(t, 1) }); !strings.Contains(got, "[1] had not received") {
		t.Errorf("losses of another process pass: %q", got)
	}
}

// A request that cannot be recorded is not executed.
func TestJournalRefusesWhatItCannotRecord(t *testing.T) {
	j, _ := openJournal(t)
	j.Close()
	addr := newServer(t, j.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "executed")
	})).ServeHTTP)
	r := runUntil(t, 1, testutil.LoadOptions{Addr: addr, KeepAlive: 1})
	mustFailWith(t, r, testutil.BadStatus)
}

// Recording a request allocates nothing.
func TestJournalDoesNotAllocate(t *testing.T) {
	j, _ := openJournal(t)
	if n := testing.AllocsPerRun(1000, func() { j.Begin("12345.6-7-89") }); n >= 1 {
		t.Errorf("%v allocations a line", n)
	}
}
