package service_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/canary/judge"
	"github.com/midair-go/midair/canary/rollout"
	"github.com/midair-go/midair/canary/subprocess"
	"github.com/midair-go/midair/internal/testutil"
)

var releases = flag.Int("midair.releases", 1, "how many canaries of each kind the tests of rollouts start")

// newCart returns the canary of a kind. A kind that ends the process does so some milliseconds after the first request, in each
// process.
func newCart(kind string) http.Handler {
	var first sync.Once
	soon := func(act func()) { first.Do(func() { time.AfterFunc(20*time.Millisecond, act) }) }
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Version", "canary")
		switch kind {
		case "errors":
			if rand.IntN(20) == 0 {
				w.WriteHeader(http.StatusInternalServerError)
			}
		case "exits":
			os.Exit(7)
		case "crashes":
			soon(func() { panic("a goroutine of the canary") })
		case "grows":
			soon(grow)
		case "hangs":
			soon(func() { _ = syscall.Kill(os.Getpid(), syscall.SIGSTOP) })
		case "slow":
			time.Sleep(200 * time.Millisecond)
		}
		_, _ = io.WriteString(w, "canary")
	})
}

// grow allocates memory until the process ends, which is soon: the address space is limited to what it is now and 64 MiB.
func grow() {
	var pages uint64
	b, err := os.ReadFile("/proc/self/statm")
	if err == nil {
		_, err = fmt.Sscan(string(b), &pages)
	}
	if err == nil {
		limit := pages*uint64(os.Getpagesize()) + 64<<20
		err = unix.Setrlimit(unix.RLIMIT_AS, &unix.Rlimit{Cur: limit, Max: limit})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "no limit of memory:", err)
		os.Exit(4)
	}
	for {
		part := make([]byte, 8<<20)
		for i := 0; i < len(part); i += os.Getpagesize() {
			part[i] = 1
		}
		memory = append(memory, part)
	}
}

var memory [][]byte // what grow has allocated

// stable is the handler of the host itself.
func stable(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("X-Version", "stable")
	_, _ = io.WriteString(w, "stable")
}

// A release is a rollout of a canary in a process of its own.
type release struct {
	handler *subprocess.Handler
	ro      *rollout.Rollout
	router  *canary.Router
}

// newRelease starts the process and the rollout. The end of the test ends both.
func newRelease(t *testing.T, cmd func() *exec.Cmd, opts rollout.Options) *release {
	t.Helper()
	h, err := subprocess.Start(t.Context(), subprocess.Options{
		Dir: shortDir(t) + "/s", Cmd: cmd, Silence: 500 * time.Millisecond, Logger: quiet,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	opts.Logger = quiet
	ro, err := rollout.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	router := canary.NewRouter(http.HandlerFunc(stable), h, canary.Options{
		Salt: ro.Salt(), Weight: ro.Weight, Begin: ro.Begin, Observe: ro.Observe, Rescue: &canary.Rescue{Unserved: true}, Logger: quiet,
	})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { // ends with the test
		defer close(ended)
		_ = ro.Run(ctx)
	}()
	t.Cleanup(func() { stop(); <-ended })
	return &release{h, ro, router}
}

var quiet = slog.New(slog.DiscardHandler)

// steps have at least 200 requests of the canary before 25 %, and further 300 before 50 %.
var steps = rollout.Steps{{Weight: .1, MinSamples: 200}, {Weight: .25, MinSamples: 300}, {Weight: .5, MinSamples: 300}}

// roll releases a cart of a kind at a rate of requests per second, until the rollout has ended.
func roll(t *testing.T, kind string, plan rollout.Steps, rate float64) (*release, *testutil.Report) {
	t.Helper()
	fast := 10 * time.Second // a loaded machine makes no other kind slow
	if kind == "slow" {
		fast = 150 * time.Millisecond
	}
	re := newRelease(t, command(t, "cart", kind), rollout.Options{Steps: plan, Judge: judge.Options{Fast: fast}})
	srv := httptest.NewServer(re.router)
	t.Cleanup(srv.Close)
	load := testutil.StartLoad(t, testutil.LoadOptions{
		Addr: srv.Listener.Addr().String(), Method: "GET", KeepAlive: 24, Rate: rate, Timeout: time.Minute,
	})
	testutil.Until(t, time.Minute, "the end of the rollout", func() bool {
		s := re.ro.Status().State
		return s == rollout.Promoted || s == rollout.RolledBack || s == rollout.Aborted
	})
	return re, load.Stop()
}

// A canary that is good behind the way to another process gets all requests, and no request fails.
func TestGoodProcessIsPromoted(t *testing.T) {
	for range *releases {
		re, report := roll(t, "good", steps, 2000)
		s, h := re.ro.Status(), re.handler.Status()
		t.Logf("%s; %d requests of the canary", report, s.Judge.Canary.Requests)
		if s.State != rollout.Promoted || h.Failures != 0 || h.Starts != 1 || s.Judge.Canary.Bad != 0 {
			t.Errorf("the rollout is %v: %s; %+v; %+v", s.State, s.Reason, s.Judge.Canary, h)
		}
		wantNoFailure(t, report)
	}
}

// A canary that answers with errors, ends its process again and again, eats its memory, hangs or is slow is taken back before the
// canary has got half of the requests. Clients see nothing but the errors that the handler itself has answered.
func TestBadProcessIsTakenBack(t *testing.T) {
	long := slices.Clone(steps)
	long[0].For = time.Minute // the process ends meanwhile
	for _, row := range []struct {
		kind string
		ends bool // the process does not live
		plan rollout.Steps
		rate float64
	}{
		{"errors", false, steps, 2000},
		{"slow", false, steps, 2000},
		{"crashes", true, long, 200}, // at so few requests, the evidence comes from several processes
		{"grows", true, long, 200},
		{"hangs", true, long, 2000},
	} {
		t.Run(row.kind, func(t *testing.T) {
			for range *releases {
				re, report := roll(t, row.kind, row.plan, row.rate)
				if row.ends { // the requests may show it before the Handler does
					testutil.Until(t, time.Minute, "the end of the process", func() bool { return re.handler.Status().Failures > 0 })
				}
				s, h := re.ro.Status(), re.handler.Status()
				t.Logf("%s; %d requests of the canary: %s; %d failures: %s", report, s.Judge.Canary.Requests, s.Reason, h.Failures, h.Reason)
				if s.State != rollout.RolledBack || !row.ends && h.Failures > 0 {
					t.Errorf("the rollout is %v: %s; the process: %+v", s.State, s.Reason, h)
				}
				for _, d := range s.Decisions {
					if d.Weight >= .5 {
						t.Errorf("the canary has got the weight %v: %s", d.Weight, d.Reason)
					}
				}
				wantErrorsOfTheHandlerOnly(t, row.kind == "errors", report)
			}
		})
	}
}

func wantErrorsOfTheHandlerOnly(t *testing.T, any bool, r *testutil.Report) {
	t.Helper()
	if !any {
		wantNoFailure(t, r)
	}
	for _, f := range r.Failed {
		if f.Status != http.StatusInternalServerError || f.Version != "canary" {
			t.Errorf("a client has seen a failure that is none of the handler: %v", f)
		}
	}
}

func wantNoFailure(t *testing.T, r *testutil.Report) {
	t.Helper()
	if len(r.Failed) > 0 || r.Total == 0 {
		t.Errorf("%d of %d requests have failed, the first: %v", len(r.Failed), r.Total, r.Failed[:min(3, len(r.Failed))])
	}
}

// A request that the process cannot answer counts once against the canary, also while there is no process, and although stable
// answers the request.
func TestGivenUpRequestsCountAgainstTheCanary(t *testing.T) {
	var started sync.Once
	exits := command(t, "cart", "exits")
	re := newRelease(t, func() (cmd *exec.Cmd) {
		cmd = exec.Command("/missing/program")
		started.Do(func() { cmd = exits() })
		return cmd
	}, rollout.Options{Steps: rollout.Steps{{Weight: .5, For: time.Hour}}, Worse: rollout.Hold})
	testutil.Until(t, time.Minute, "the first step", func() bool { return re.ro.Weight() == .5 })

	ask := func(method string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		re.router.ServeHTTP(w, httptest.NewRequest(method, "/", nil))
		return w
	}
	for re.handler.Status().PID != 0 { // the process ends in a request
		if w := ask("GET"); w.Code != http.StatusOK || w.Body.String() != "stable" {
			t.Fatalf("the answer is %d %q", w.Code, w.Body)
		}
	}
	testutil.Until(t, time.Minute, "a start that has failed", func() bool {
		return strings.Contains(re.handler.Status().Reason, "missing")
	})
	for i := range 400 { // nothing runs
		method := [...]string{"GET", "POST"}[i%2]
		if w := ask(method); w.Code != http.StatusOK || w.Body.String() != "stable" {
			t.Fatalf("the answer to a %s is %d %q", method, w.Code, w.Body)
		}
	}
	s := re.ro.Status()
	if c := s.Judge.Canary; c.Requests != c.Bad || c.Bad < 100 || s.Judge.Stable.Bad != 0 || s.State != rollout.Held {
		t.Errorf("the rollout is %v, the canary has %+v, and stable %+v", s.State, c, s.Judge.Stable)
	}
	if h := re.handler.Status(); h.Starts != 1 || h.PID != 0 {
		t.Errorf("the status is %+v", h)
	}
}
