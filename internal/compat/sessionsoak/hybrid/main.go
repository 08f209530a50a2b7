// Hybrid is a program for tests: a service with all ways of a release at once. New processes get their connections by
// rollout.Processes, by BlueGreen or by a soak, a canary handler gets visitors by a Rollout, and a flag file has the features.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/canary/judge"
	"github.com/midair-go/midair/canary/rollout"
	"github.com/midair-go/midair/drain"
	"github.com/midair-go/midair/flags"
	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/session"
	"github.com/midair-go/midair/upgrade"
)

// version is what -ldflags "-X main.version=v2" sets.
var version = "dev"

const (
	grace = 10 * time.Second
	// wayFile has the way of the next upgrade: "processes", "blue-green" or "soak".
	wayFile = "way"
	// badShare is the share of requests that a bad canary fails.
	badShare = 0.02
)

func main() {
	if code, ok := upgrade.Supervise(upgrade.Options{Version: version}); ok {
		os.Exit(code)
	}
	if err := run(context.Background()); err != nil {
		slog.Error("stopped", "err", err)
		os.Exit(1)
	}
}

// A cartPlan is the value of the flag "cart-plan".
type cartPlan struct {
	Steps rollout.Steps `json:"steps"`
}

// A service is one process of the service.
type service struct {
	up        *upgrade.Upgrader
	flags     *flags.Flags
	processes *rollout.Processes
	handler   *rollout.Rollout // of the canary handler
	sessions  *session.Manager
	draw      draw
}

func run(ctx context.Context) (err error) {
	s := &service{draw: draw{rng: rand.New(rand.NewPCG(1, 2))}}
	steps := rollout.Steps{{Weight: 0.1, For: time.Second / 2, MinSamples: 60}, {Weight: 0.5, For: time.Second / 2, MinSamples: 200}}
	broadcast := func(name string, data []byte) error { return s.up.Broadcast(name, data) }
	// How long a request takes depends on what else the machine does: it says nothing here.
	noLatency := judge.Options{SlowTolerance: 1000}
	s.processes, err = rollout.NewProcesses(rollout.Options{
		Name: "process", Steps: steps, Judge: noLatency, Broadcast: broadcast,
	}, upgrade.Assigned)
	if err != nil {
		return err
	}
	s.up, err = upgrade.New(upgrade.Options{Version: version, PIDFile: "pid", Bake: s.bake, Soak: time.Second / 2})
	if err != nil {
		return err
	}
	defer s.up.Close()
	s.up.OnBroadcast("process", s.processes.Ingest)
	if err := s.openFlags(); err != nil {
		return err
	}
	defer s.flags.Close()
	released := flags.NewVar(s.flags, "cart-released", false, flags.VarOptions[bool]{})
	plan := flags.NewVar(s.flags, "cart-plan", cartPlan{rollout.Steps{{Weight: 0.01}}}, flags.VarOptions[cartPlan]{})
	s.handler, err = rollout.New(rollout.Options{
		Name: "cart", Judge: noLatency, Broadcast: broadcast,
		Plan:    func() rollout.Steps { return plan.Get().Steps },
		Follows: func() bool { return slices.Contains([]string{"candidate", "draining", "aborted"}, s.up.Status().State) },
		Ready:   func(ctx context.Context) error { return until(ctx, released.Get) },
	})
	if err != nil {
		return err
	}
	s.up.Keep("cart", s.handler)
	s.up.OnBroadcast("cart", s.handler.Ingest)
	s.sessions = session.NewManager(session.Dir("sessions"), session.Options{Timeout: grace})
	s.up.Keep("keys", s.sessions.Keys())
	s.up.Check("sessions", s.sessions.Ready)
	return s.serve(ctx)
}

// until waits until fn returns true.
func until(ctx context.Context, fn func() bool) error {
	tick := time.NewTicker(time.Second / 20)
	defer tick.Stop()
	for !fn() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}

// openFlags opens the flag file of this version.
func (s *service) openFlags() (err error) {
	s.flags, err = flags.Open(version+".json", flags.Options{Poll: time.Second / 20, Broadcast: s.up.Broadcast})
	if err != nil {
		return err
	}
	s.up.Keep("flags", s.flags)
	s.up.OnBroadcast("flags", s.flags.UnmarshalBinary)
	s.up.Check("flags", s.flags.Ready)
	return nil
}

// bake gives the candidate its traffic in the way that the file says. With "soak", only the soak follows.
func (s *service) bake(ctx context.Context, c *upgrade.Candidate) error {
	way, err := os.ReadFile(wayFile)
	switch {
	case err != nil:
		return err
	case string(way) == "processes":
		return s.processes.Bake(ctx, c)
	case string(way) == "blue-green":
		return upgrade.BlueGreen{Standby: time.Minute}.Bake(ctx, c)
	}
	return nil
}

func (s *service) serve(ctx context.Context) error {
	ln, err := s.up.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	adminListener, err := s.up.ListenPinned("unix", "admin.sock")
	if err != nil {
		return err
	}
	journal, err := testutil.OpenJournal("journal")
	if err != nil {
		return err
	}
	defer journal.Close()
	hs := &http.Server{Handler: s.site(journal), ConnContext: s.processes.ConnContext}
	web := drain.NewServer(hs, drain.Options{Grace: grace, Move: s.up.Move, Rebalance: s.up.Rebalance(), Hurry: s.up.Hurry()})
	as := &http.Server{Handler: s.admin()}
	as.SetKeepAlivesEnabled(false) // each request finds the process that is the main one then
	admin := drain.NewServer(as, drain.Options{Grace: grace, After: web})
	return s.up.Run(ctx, func(ctx context.Context) error {
		fmt.Printf("serving at %s\n", ln.Addr())
		drained, end := context.WithCancel(context.WithoutCancel(ctx))
		var all sync.WaitGroup
		defer all.Wait()
		defer end()
		all.Go(func() { _ = s.processes.Report(ctx) }) // ends with ctx
		all.Go(func() { _ = s.handler.Run(drained) })  // ends when all requests have ended: their outcomes count, too
		done := make(chan error, 1)
		go func() { done <- admin.Serve(ctx, adminListener) }() // ends after web
		return errors.Join(web.Serve(ctx, ln), <-done)
	})
}

// site has a page that counts in the session, on two sides, and a page that needs no session.
func (s *service) site(journal *testutil.Journal) http.Handler {
	stable := http.HandlerFunc(s.count)
	bad := flags.NewVar(s.flags, "cart-bad", false, flags.VarOptions[bool]{})
	cart := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if bad.Get() && s.draw.hits(badShare) {
			http.Error(w, "the cart is bad", http.StatusInternalServerError)
			return
		}
		s.count(w, r)
	})
	mux := http.NewServeMux()
	mux.Handle("/count", canary.NewRouter(stable, cart, canary.Options{
		Name: "cart", Salt: s.handler.Salt(), Weight: s.handler.Weight, Begin: s.begin, Observe: s.handler.Observe, Key: s.sessions.Cohort,
	}))
	mux.Handle("/work", journal.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "done") })))
	return s.tag(s.processes.Handler(s.sessions.Middleware(mux)))
}

type headerKey struct{}

// tag adds to each answer which process gives it, and what the flag "banner" is. Further headers come from begin.
func (s *service) tag(next http.Handler) http.Handler {
	who := s.up.Status()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Version", who.Version)
		h.Set("X-Generation", strconv.Itoa(who.Generation))
		h.Set("X-Pid", strconv.Itoa(who.PID))
		h.Set("X-Banner", strconv.FormatBool(s.flags.Bool(r.Context(), "banner", false)))
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), headerKey{}, h)))
	})
}

// begin adds to the answer how the router has decided.
func (s *service) begin(o canary.Outcome) any {
	h, _ := o.Request.Context().Value(headerKey{}).(http.Header)
	h.Set("X-Side", o.Side.String())
	h.Set("X-Weight", strconv.FormatFloat(o.Weight, 'g', -1, 64))
	return s.handler.Begin(o)
}

// count answers with the number of the visitor's counted requests.
func (s *service) count(w http.ResponseWriter, r *http.Request) {
	var n int
	err := session.Update(r.Context(), func(v *session.Values) error {
		n = 0
		_, err := v.Get("count", &n)
		n++
		return errors.Join(err, v.Put("count", n))
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprint(w, n)
}

// admin answers each request of an operator with the status, after the request was done.
func (s *service) admin() http.Handler {
	mux := http.NewServeMux()
	for pattern, do := range map[string]func(context.Context) error{
		"GET /status":    func(context.Context) error { return nil },
		"POST /upgrade":  s.up.Upgrade,
		"POST /rollback": s.up.Rollback,
		"POST /commit":   func(context.Context) error { return s.up.Commit() },
		"POST /abort":    func(context.Context) error { return s.up.Abort("asked for by the test") },
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			var problem string
			if err := do(context.WithoutCancel(r.Context())); err != nil {
				problem = err.Error()
			}
			_ = json.NewEncoder(w).Encode(struct {
				Error              string
				Upgrade            upgrade.Status
				Processes, Handler rollout.Status
			}{problem, s.up.Status(), s.processes.Status(), s.handler.Status()})
		})
	}
	return mux
}

// A draw is a sequence of random numbers that is the same in each process, whoever asks.
type draw struct {
	mu  sync.Mutex
	rng *rand.Rand
}

// hits reports whether the next number is in the share.
func (d *draw) hits(share float64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rng.Float64() < share
}
