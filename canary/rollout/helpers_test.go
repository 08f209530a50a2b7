package rollout_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/canary/rollout"
)

// A site is a router with a rollout.
type site struct {
	t      *testing.T
	ro     *rollout.Rollout
	router *canary.Router
	bad    [2]func(n int) bool // whether the n-th request of a side fails
	panics [2]func(n int) bool
	n      [2]int
	users  int
	stop   context.CancelFunc
}

func never(int) bool { return false }

func each(n int) func(int) bool { return func(i int) bool { return i%n == n-1 } }

// plan is a plan of three steps.
var plan = rollout.Steps{{Weight: .05, For: time.Minute}, {Weight: .25, For: time.Minute}, {Weight: .5, For: time.Minute}}

// newSite returns a site whose rollout runs. It has to be called in a bubble of synctest.
func newSite(t *testing.T, opts rollout.Options) *site {
	t.Helper()
	s := &site{t: t, bad: [2]func(int) bool{never, never}, panics: [2]func(int) bool{never, never}}
	if opts.Steps == nil && opts.Plan == nil {
		opts.Steps = plan
	}
	ro, err := rollout.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.ro = ro
	s.router = canary.NewRouter(s.side(canary.Stable), s.side(canary.Canary), canary.Options{
		Salt: ro.Salt(), Weight: ro.Weight, Begin: ro.Begin, Observe: ro.Observe, Kill: opts.Kill, SideInContext: true,
		Key: func(r *http.Request) string { return r.Header.Get("User") },
	})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { // ends with stop
		defer close(done)
		_ = ro.Run(ctx)
	}()
	s.stop = func() {
		stop()
		<-done
	}
	t.Cleanup(s.stop)
	synctest.Wait()
	return s
}

func (s *site) side(side canary.Side) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := s.n[side]
		s.n[side]++
		if d, _ := time.ParseDuration(r.Header.Get("Takes-" + side.String())); d > 0 {
			time.Sleep(d) // of the bubble
		}
		switch {
		case s.panics[side](n):
			panic("for a test")
		case s.bad[side](n):
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
}

// ask sends a request.
func (s *site) ask(header ...string) {
	r := httptest.NewRequest("GET", "/", nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	defer func() { _ = recover() }()
	s.router.ServeHTTP(httptest.NewRecorder(), r)
}

// load sends requests at a rate for a time, each of another user.
func (s *site) load(for_ time.Duration, rate int) {
	for range int(for_.Seconds() * float64(rate)) {
		s.users++
		s.ask("User", "user "+strconv.Itoa(s.users))
		time.Sleep(time.Second / time.Duration(rate))
	}
	synctest.Wait()
}

// want fails the test if the rollout is in another state.
func (s *site) want(state rollout.State, step int, weight float64) {
	s.t.Helper()
	synctest.Wait()
	if got := s.ro.Status(); got.State != state || got.Step != step || s.ro.Weight() != weight || got.Weight != weight {
		s.t.Fatalf("the rollout is %v in step %d with a weight of %v (%s; waits for %q), want %v, %d and %v",
			got.State, got.Step, s.ro.Weight(), got.Reason, got.Waits, state, step, weight)
	}
}
