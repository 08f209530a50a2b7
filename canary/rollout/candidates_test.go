package rollout_test

import (
	"context"
	"errors"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/canary/judge"
	"github.com/midair-go/midair/canary/rollout"
	"github.com/midair-go/midair/internal/testutil"
)

// nowhere is a Broadcast without other processes.
func nowhere(string, []byte) error { return nil }

// A candidate is the new process of an upgrade that is not there. It notes its weights.
type candidate struct {
	mu      sync.Mutex
	weights []float64
	takes   time.Duration // how long SetWeight takes
}

func (c *candidate) SetWeight(w float64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.weights = append(c.weights, w)
	time.Sleep(c.takes)
	return nil
}

func (c *candidate) PID() int { return 7 }

// last returns the weight that was set last.
func (c *candidate) last() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.weights[len(c.weights)-1]
}

// unassigned says that chance has not decided about a connection.
func unassigned(net.Conn) (unit string, weight float64, ok bool) { return "", 0, false }

// newProcesses returns the rollouts of an old process.
func newProcesses(t *testing.T, opts rollout.Options) *rollout.Processes {
	t.Helper()
	opts.Name, opts.Logger = "web", quiet
	if opts.Broadcast == nil {
		opts.Broadcast = nowhere
	}
	p, err := rollout.NewProcesses(opts, unassigned)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The candidate learns that it is promoted, also though Bake returns at once.
func TestPromotionReachesTheCandidate(t *testing.T) {
	for range 20 { // the order of the goroutines is by chance
		synctest.Test(t, func(t *testing.T) {
			next, err := rollout.New(rollout.Options{Salt: "web of 7", Steps: plan, Logger: quiet, Follows: func() bool { return true }})
			if err != nil {
				t.Fatal(err)
			}
			p := newProcesses(t, rollout.Options{
				Steps: step(.5, time.Second), Broadcast: func(_ string, message []byte) error { return next.Ingest(message) },
			})
			if err := p.Bake(t.Context(), new(candidate)); err != nil {
				t.Error(err)
			}
			if s := next.Status(); s.State != rollout.Promoted {
				t.Errorf("the candidate is %v", s.State)
			}
		})
	}
}

// The last decision of a Bake is told, and its context has not ended.
func TestLastDecisionOfBakeIsTold(t *testing.T) {
	for range 20 { // the order of the goroutines is by chance
		synctest.Test(t, func(t *testing.T) {
			last := rollout.Waiting
			p := newProcesses(t, rollout.Options{Steps: step(.5, time.Second), Decided: func(ctx context.Context, d rollout.Decision) {
				if ctx.Err() == nil {
					last = d.State
				}
			}})
			if err := p.Bake(t.Context(), new(candidate)); err != nil {
				t.Error(err)
			}
			if last != rollout.Promoted {
				t.Errorf("the last decision that was told is %v", last)
			}
		})
	}
}

// A candidate that is taken back while SetWeight runs loses its weight then, though Decided blocks and Bake cannot return.
func TestDecidedThatBlocksLeavesACandidateNoWeight(t *testing.T) {
	for range 20 { // the order of the goroutines is by chance
		synctest.Test(t, func(t *testing.T) {
			hold := make(chan struct{})
			c := &candidate{takes: 2 * time.Second}
			p := newProcesses(t, rollout.Options{
				Steps: rollout.Steps{{Weight: .5, MinSamples: 1}}, Deadline: time.Second,
				Decided: func(context.Context, rollout.Decision) { <-hold },
			})
			done := make(chan error, 1)
			go func() { done <- p.Bake(t.Context(), c) }() // ends at the deadline of the step
			time.Sleep(5 * time.Second)
			if w := c.last(); w != 0 {
				t.Errorf("the candidate has a weight of %v", w)
			}
			close(hold)
			if err := <-done; err == nil {
				t.Error("no error of Bake")
			}
		})
	}
}

// A request that runs on a connection about which chance has not decided is no evidence about the processes, though a Router has drawn
// its side.
func TestDrawOfARouterIsNoEvidenceAboutProcesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProcesses(t, rollout.Options{Steps: step(.5, time.Hour), Judge: judge.Options{Slow: time.Second}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Bake(ctx, new(candidate)) }() // ends with ctx
		time.Sleep(time.Second)
		slow := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(time.Minute) }) // of the bubble
		rt := canary.NewRouter(slow, slow, canary.Options{Weight: func() float64 { return .5 }, Begin: p.Begin, Observe: p.Observe})
		var requests sync.WaitGroup
		for range 30 {
			requests.Go(func() {
				r := httptest.NewRequest("GET", "/", nil)
				rt.ServeHTTP(httptest.NewRecorder(), r.WithContext(p.ConnContext(r.Context(), &net.TCPConn{})))
			})
		}
		time.Sleep(10 * time.Second)
		if s := p.Status().Judge; math.Abs(s.Evidence-1) > .001 {
			t.Errorf("the evidence is %v", s)
		}
		requests.Wait()
		cancel()
		<-done
	})
}

// Report runs the rollout in which this process is the candidate, also if this process judges another candidate now.
func TestReportDoesNotRunTheRolloutOfAnotherCandidate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		p := newProcesses(t, rollout.Options{Steps: step(.5, time.Hour), Opinion: func(context.Context, rollout.Status) rollout.Opinion {
			asked.Add(1)
			return rollout.Opinion{}
		}})
		ctx, cancel := context.WithCancel(t.Context())
		var both sync.WaitGroup // end with ctx
		both.Go(func() { _ = p.Bake(ctx, new(candidate)) })
		time.Sleep(time.Second)
		both.Go(func() { _ = p.Report(ctx) })
		time.Sleep(95 * time.Second)
		if n := asked.Load(); n != 10 {
			t.Errorf("Opinion was called %d times, want 10", n)
		}
		cancel()
		both.Wait()
	})
}

// The first request without a connection in its context is in the log, as the candidate would pass without evidence.
func TestMissingConnContextIsInTheLog(t *testing.T) {
	log := &lines{}
	p, err := rollout.NewProcesses(rollout.Options{Logger: log.logger(), Broadcast: nowhere}, unassigned)
	if err != nil {
		t.Fatal(err)
	}
	h := p.Handler(http.NotFoundHandler())
	for range 3 {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	}
	testutil.Until(t, 10*time.Second, "the line", func() bool { return log.count("pass ConnContext to its server") > 0 })
	if n := log.count("pass ConnContext to its server"); n != 1 {
		t.Errorf("%d lines", n)
	}
}

// NewProcesses without what brings the evidence is refused.
func TestProcessesNeedTheAssignmentAndABroadcast(t *testing.T) {
	all := func(net.Conn) (string, float64, bool) { return "", 0, false }
	_, err := rollout.NewProcesses(rollout.Options{Logger: quiet, Broadcast: nowhere}, nil)
	if err == nil || !strings.Contains(err.Error(), "upgrade.Assigned") {
		t.Errorf("got %v", err)
	}
	if _, err = rollout.NewProcesses(rollout.Options{Logger: quiet}, all); err == nil || !strings.Contains(err.Error(), "has no Broadcast") {
		t.Errorf("got %v", err)
	}
}

// If a bake ends before the rollout, because the candidate has died or an operator has decided, the rollout ends too, and says why.
func TestRolloutEndsWithTheBake(t *testing.T) {
	for reason, cause := range map[string]error{"an operator": errors.New("an operator"), "the candidate has died": nil} {
		synctest.Test(t, func(t *testing.T) {
			p := newProcesses(t, rollout.Options{Steps: step(.5, time.Hour)})
			ctx, end := context.WithCancelCause(t.Context())
			done := make(chan error, 1)
			go func() { done <- p.Bake(ctx, &candidate{}) }() // ends with ctx
			time.Sleep(time.Minute)
			if s := p.Status(); s.State != rollout.Ramping || s.Weight != .5 {
				t.Fatalf("the rollout is %v with a weight of %v", s.State, s.Weight)
			}
			end(cause)
			if err := <-done; err == nil {
				t.Error("the bake has passed")
			}
			if s := p.Status(); s.State != rollout.Aborted || s.Weight != 0 || !strings.Contains(s.Reason, reason) {
				t.Errorf("the rollout is %v with a weight of %v: %s", s.State, s.Weight, s.Reason)
			}
		})
	}
}
