package canary_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/internal/logqueue"
	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/session"
)

// seen keeps outcomes.
type seen struct {
	mu  sync.Mutex
	all []canary.Outcome
}

func (s *seen) observe(o canary.Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, o)
}

// take waits for n outcomes, and returns them.
func (s *seen) take(t *testing.T, n int) []canary.Outcome {
	t.Helper()
	testutil.Until(t, 30*time.Second, "the outcomes", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.all) >= n
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) != n {
		t.Errorf("%d outcomes, want %d", len(s.all), n)
	}
	all := s.all
	s.all = nil
	return all
}

// what says what is in an outcome, without its duration.
func what(o canary.Outcome) string {
	return fmt.Sprintf("%v %d %d bytes%s", o.Side, o.Status, o.Bytes, flagNames(o))
}

func flagNames(o canary.Outcome) (names string) {
	for _, f := range []struct {
		flag canary.OutcomeFlags
		name string
	}{
		{canary.Forced, " forced"}, {canary.Panicked, " panicked"}, {canary.Aborted, " aborted"}, {canary.TimedOut, " timed out"},
		{canary.Canceled, " canceled"}, {canary.Rescued, " rescued"}, {canary.SecondTry, " second try"},
	} {
		if o.Has(f.flag) {
			names += f.name
		}
	}
	return names
}

// Whatever a handler does, over both protocols: the outcome says what the client got, and whether it was bad.
func TestOutcomeIsWhatTheHandlerDid(t *testing.T) {
	cases := map[string]struct {
		handler http.HandlerFunc
		want    string
		bad     bool
	}{
		"nothing":   {func(http.ResponseWriter, *http.Request) {}, "stable 200 0 bytes", false},
		"body":      {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "body") }, "stable 200 4 bytes", false},
		"not found": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", 404) }, "stable 404 3 bytes", false},
		"hints": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(103)
			w.WriteHeader(204)
		}, "stable 204 0 bytes", false},
		"500":    {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, "stable 500 0 bytes", true},
		"panics": {func(http.ResponseWriter, *http.Request) { panic("bad") }, "stable 0 0 bytes panicked", true},
		"panics late": {func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "body")
			panic("bad")
		}, "stable 200 4 bytes panicked", true},
		"aborts": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "stable 0 0 bytes aborted", true},
		"out of time": {func(w http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			io.WriteString(w, "late")
		}, "stable 200 4 bytes timed out", true},
	}
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		for name, c := range cases {
			t.Run(proto+"/"+name, func(t *testing.T) {
				var s seen
				rt := canary.NewRouter(c.handler, v2, canary.Options{Observe: s.observe, Logger: quiet})
				h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if name == "out of time" {
						ctx, cancel := context.WithTimeout(r.Context(), time.Millisecond)
						defer cancel()
						r = r.WithContext(ctx)
					}
					rt.ServeHTTP(w, r)
				})
				client, url, _ := serveBoth(t, proto, h, h)
				res, err := client.Post(url, "", nil)
				if err == nil {
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				o := s.take(t, 1)[0]
				if what(o) != c.want || o.Failed() != c.bad {
					t.Errorf("%s, failed %v; want %s, %v", what(o), o.Failed(), c.want, c.bad)
				}
				st := rt.Status().Stable.Outcomes
				if st.Ended != 1 || (st.Bad == 1) != c.bad || st.Bytes != uint64(o.Bytes) || st.P50 < o.Duration || o.Duration <= 0 {
					t.Errorf("after %v: %+v", o.Duration, st)
				}
			})
		}
	}
}

// A client that goes away is no failure of the handler, even if it answers 502 then, as a proxy does.
func TestClientThatGoesAwayIsNoFailure(t *testing.T) {
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(proto, func(t *testing.T) {
			var s seen
			began := make(chan struct{}, 1)
			waits := func(w http.ResponseWriter, r *http.Request) {
				began <- struct{}{}
				<-r.Context().Done()
				w.WriteHeader(http.StatusBadGateway)
			}
			rt := canary.NewRouter(http.HandlerFunc(waits), v2, canary.Options{Observe: s.observe, Logger: quiet})
			client, url, _ := serveBoth(t, proto, rt, rt)
			ctx, leave := context.WithCancel(t.Context())
			r, _ := http.NewRequestWithContext(ctx, "GET", url, nil)
			done := make(chan struct{})
			go func() { // ends when the client has gone
				defer close(done)
				if _, err := client.Do(r); err == nil {
					t.Error("the client has got an answer")
				}
			}()
			<-began
			leave()
			<-done
			if o := s.take(t, 1)[0]; what(o) != "stable 502 0 bytes canceled" || o.Failed() {
				t.Errorf("%s, failed %v", what(o), o.Failed())
			}
			if st := rt.Status().Stable.Outcomes; st.Bad != 0 || st.Canceled != 1 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// A connection that a handler takes over has the status 101.
func TestHijackedConnectionIsAnOutcome(t *testing.T) {
	var s seen
	takes := func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n")
	}
	rt := canary.NewRouter(http.HandlerFunc(takes), v2, canary.Options{Observe: s.observe, Logger: quiet})
	server := httptest.NewServer(rt)
	defer server.Close()
	res, err := http.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if o := s.take(t, 1)[0]; what(o) != "stable 101 0 bytes" {
		t.Error(what(o))
	}
}

// A rescued request has two outcomes: the bad one of the canary, and that of stable, which is no evidence. The weight and the choice
// are those of the decision.
func TestRescuedRequestHasTwoOutcomes(t *testing.T) {
	fails := map[string]http.HandlerFunc{
		"canary 0 0 bytes panicked rescued": func(http.ResponseWriter, *http.Request) { panic("bad") },
		"canary 503 0 bytes rescued":        func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "bad", http.StatusServiceUnavailable) },
		"canary 404 0 bytes rescued":        func(w http.ResponseWriter, _ *http.Request) { http.NotFound(w, nil) },
	}
	for want, fail := range fails {
		for _, forced := range []bool{false, true} {
			t.Run(fmt.Sprint(want, forced), func(t *testing.T) {
				var s seen
				refuses := func(status int) bool { return status >= 400 }
				opts := headed(canary.Options{Weight: canary.Fixed(1 - 1e-9), Observe: s.observe, Logger: quiet, Rescue: &canary.Rescue{Status: refuses}}, "canary")
				rt := canary.NewRouter(v1, fail, opts)
				r, mark := request(), ""
				if forced {
					r, mark = request("canary", "true"), " forced"
				}
				rt.ServeHTTP(httptest.NewRecorder(), r)
				all := s.take(t, 2)
				first := strings.Replace(want, " bytes", " bytes"+mark, 1)
				if what(all[0]) != first || !all[0].Failed() || all[0].Drawn() == forced {
					t.Errorf("first %s, want %s", what(all[0]), first)
				}
				if what(all[1]) != "stable 200 6 bytes second try" || all[1].Failed() || all[1].Drawn() {
					t.Errorf("second %s", what(all[1]))
				}
				st := rt.Status()
				if st.Canary.Outcomes.Bad != 1 || st.Canary.Outcomes.Ended != 1 || st.Stable.Outcomes.Bad != 0 || st.Stable.Outcomes.Ended != 1 || st.Rescued != 1 || st.Stable.Forced != 0 {
					t.Errorf("%+v, %+v, %+v", st, st.Canary.Outcomes, st.Stable.Outcomes)
				}
			})
		}
	}
}

// Only outcomes whose side the weight has drawn are evidence, and they have the weight of their decision.
func TestOnlyDrawnRequestsAreEvidence(t *testing.T) {
	var s seen
	var weight atomic.Value
	weight.Store(0.0)
	rt := router(headed(canary.Options{Weight: func() float64 { return weight.Load().(float64) }, Observe: s.observe}, "canary"))
	for _, c := range []struct {
		weight float64
		header string
		want   bool
	}{{0, "", false}, {0.25, "", true}, {0.25, "true", false}, {0.25, "false", false}, {1, "", false}} {
		weight.Store(c.weight)
		h := []string{}
		if c.header != "" {
			h = []string{"canary", c.header}
		}
		ask(rt, h...)
		o := s.take(t, 1)[0]
		if o.Drawn() != c.want || o.Has(canary.Forced) != (c.header != "") {
			t.Errorf("%+v: drawn %v,%s", c, o.Drawn(), flagNames(o))
		}
		if c.header == "" && o.Weight != c.weight {
			t.Errorf("weight %v, want %v", o.Weight, c.weight)
		}
	}
}

// A function that panics costs neither the answer nor the count, and the first panic is logged.
func TestPanicsOfObserversCostNoRequest(t *testing.T) {
	var log bytes.Buffer
	wrapped := logqueue.Wrap(slog.New(slog.NewTextHandler(&log, nil)))
	rt := router(canary.Options{
		Observe: func(canary.Outcome) { panic("observer") }, Bad: func(canary.Outcome) bool { panic("bad") }, Logger: wrapped,
	})
	for range 3 {
		if got := ask(rt); got != "stable" {
			t.Fatal(got)
		}
	}
	st := rt.Status()
	if st.BadPanics != 3 || st.ObservePanics != 3 || st.Stable.Outcomes.Ended != 3 || st.Stable.Outcomes.Bad != 0 || st.Stable.Panics != 0 {
		t.Errorf("%+v", st)
	}
	logqueue.Flush(wrapped)
	for _, text := range []string{"Options.Observe has panicked", "Options.Bad has panicked"} {
		if n := strings.Count(log.String(), text); n != 1 {
			t.Errorf("%d lines with %q in %s", n, text, log.String())
		}
	}
}

// What is bad, a function of the program may say; and the function alone lets Status count.
func TestProgramSaysWhatIsBad(t *testing.T) {
	notFound := func(w http.ResponseWriter, _ *http.Request) { http.NotFound(w, nil) }
	rt := canary.NewRouter(http.HandlerFunc(notFound), v2, canary.Options{Bad: func(o canary.Outcome) bool { return o.Status == 404 && o.Request.URL.Path == "/" }})
	ask(rt)
	if st := rt.Status().Stable.Outcomes; st.Bad != 1 {
		t.Errorf("%+v", st)
	}
	if st := router(canary.Options{}).Status(); st.Stable.Outcomes != nil {
		t.Errorf("outcomes are counted where nobody asks: %+v", st.Stable.Outcomes)
	}
}

// Of many requests at once each is counted once, on the side that has answered.
func TestEachOutcomeIsCountedOnce(t *testing.T) {
	var outcomes, bad, bytes [2]atomic.Uint64
	fails := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("User") == "7" {
			http.Error(w, "bad", 500)
			return
		}
		v2.ServeHTTP(w, r)
	})
	rt := canary.NewRouter(v1, fails, canary.Options{Weight: half, Logger: quiet, Observe: func(o canary.Outcome) {
		outcomes[o.Side].Add(1)
		bytes[o.Side].Add(uint64(o.Bytes))
		if o.Failed() {
			bad[o.Side].Add(1)
		}
	}})
	var left sync.WaitGroup
	for range 8 {
		left.Go(func() {
			for i := range 2000 {
				ask(rt, "User", fmt.Sprint(i%10))
			}
		})
	}
	left.Wait()
	st := rt.Status()
	for side, got := range []*canary.OutcomeStatus{st.Stable.Outcomes, st.Canary.Outcomes} {
		if got.Ended != outcomes[side].Load() || got.Bad != bad[side].Load() || got.Bytes != bytes[side].Load() {
			t.Errorf("side %d: %+v, but %d outcomes, %d bad, %d bytes", side, got, outcomes[side].Load(), bad[side].Load(), bytes[side].Load())
		}
	}
	if st.Stable.Outcomes.Ended+st.Canary.Outcomes.Ended != 16_000 || st.Canary.Outcomes.Bad == 0 {
		t.Errorf("%+v, %+v", st.Stable.Outcomes, st.Canary.Outcomes)
	}
}

// An observed request costs the allocation of its writer, and no other; a request that nobody observes gets the writer of the server.
func TestObservingCostsOneAllocation(t *testing.T) {
	var got http.ResponseWriter
	keeps := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { got = w })
	for observed, want := range map[bool]float64{false: 0, true: 1} {
		opts := canary.Options{Weight: half}
		if observed {
			opts.Observe = func(canary.Outcome) {}
		}
		rt, r, w := canary.NewRouter(keeps, keeps, opts), request(), discard{http.Header{}}
		r.Method = "POST"
		if n := testing.AllocsPerRun(1000, func() { rt.ServeHTTP(w, r) }); n != want {
			t.Errorf("observed %v: %v allocations, want %v", observed, n, want)
		}
		if _, own := got.(discard); own == observed {
			t.Errorf("observed %v: the handler gets %T", observed, got)
		}
	}
}

// A canary whose goroutine ends within the handler leaves no request under way, on neither side.
func TestGoroutineThatEndsLeavesNoRequestUnderWay(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"at once":      func(http.ResponseWriter, *http.Request) { runtime.Goexit() },
		"after a 503":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503); runtime.Goexit() },
		"after a byte": func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "x"); runtime.Goexit() },
	} {
		t.Run(name, func(t *testing.T) {
			var s seen
			rt := canary.NewRouter(v1, handler, canary.Options{
				Weight: canary.Fixed(1), Rescue: &canary.Rescue{Status: canary.ServerError}, Observe: s.observe, Logger: quiet,
			})
			var left sync.WaitGroup
			left.Go(func() { rt.ServeHTTP(httptest.NewRecorder(), request()) })
			left.Wait()
			st := rt.Status()
			if st.Stable.InFlight != 0 || st.Stable.Requests != 0 || st.Canary.InFlight != 0 || st.Canary.Requests != 1 || st.Rescued != 0 {
				t.Errorf("%+v", st)
			}
			if n := len(s.take(t, 1)); n != 1 {
				t.Errorf("%d outcomes", n)
			}
		})
	}
}

// A request whose Key has panicked is stable for certain, so its outcome is no evidence.
func TestPanicOfKeyIsNoEvidence(t *testing.T) {
	var s seen
	rt := router(canary.Options{Weight: half, Key: func(*http.Request) string { panic("no user") }, Observe: s.observe})
	ask(rt)
	if o := s.take(t, 1)[0]; o.Drawn() {
		t.Errorf("%s with the weight %v is drawn", what(o), o.Weight)
	}
}

// The weight of an outcome is in [0, 1], whatever Options.Weight returns.
func TestWeightOfAnOutcomeIsAShare(t *testing.T) {
	for returned, want := range map[float64]float64{-3: 0, 7: 1} {
		var s seen
		ask(router(canary.Options{Weight: canary.Fixed(returned), Observe: s.observe}))
		if o := s.take(t, 1)[0]; o.Weight != want {
			t.Errorf("weight %v, want %v", o.Weight, want)
		}
	}
}

// Bytes are those of the handler of the router, also if others write to the same answer.
func TestBytesAreThoseOfTheHandler(t *testing.T) {
	var s seen
	rt := router(canary.Options{Observe: s.observe})
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "<html>")
		rt.ServeHTTP(w, r)
		rt.ServeHTTP(w, r)
	})
	sm := session.NewManager(session.Memory(), session.Options{Logger: quiet})
	for name, h := range map[string]http.Handler{"router": page, "in a session": sm.Middleware(page)} {
		answer(h, request())
		for n, o := range s.take(t, 2) {
			if o.Bytes != int64(len(v1)) {
				t.Errorf("%s, fragment %d: %s", name, n, what(o))
			}
		}
	}
	if st := rt.Status().Stable.Outcomes; st.Bytes != 4*uint64(len(v1)) {
		t.Errorf("%d bytes in the status", st.Bytes)
	}
}

// A handler whose goroutine ends gives no answer: net/http closes the connection. That is no success with status 200.
func TestHandlerWhoseGoroutineEndsIsNoSuccess(t *testing.T) {
	ends := func(http.ResponseWriter, *http.Request) { runtime.Goexit() }
	for name, rescue := range map[string]*canary.Rescue{"plain": nil, "rescue": {}} {
		t.Run(name, func(t *testing.T) {
			var s seen
			rt := canary.NewRouter(v1, http.HandlerFunc(ends), canary.Options{Weight: canary.Fixed(1), Rescue: rescue, Observe: s.observe, Logger: quiet})
			client, u, _ := serveBoth(t, "HTTP/1.1", rt, rt)
			r, err := http.NewRequest("GET", u, nil)
			must(t, err)
			r.Close = true
			if res, err := client.Do(r); err == nil {
				res.Body.Close()
				t.Fatalf("the client has got %s", res.Status)
			}
			if o := s.take(t, 1)[0]; o.Status == 200 || !o.Failed() {
				t.Errorf("%s, failed %v", what(o), o.Failed())
			}
		})
	}
}

// A client that goes away is no failure of the canary where it is none of stable: both answer 502 to it, as proxies do. Otherwise
// Rescue.Status makes the canary look worse than an equal stable handler.
func TestClientThatGoesAwayIsNoFailureOfTheCanaryOnly(t *testing.T) {
	for _, side := range []string{"stable", "canary"} {
		t.Run(side, func(t *testing.T) {
			var s seen
			waits := func(w http.ResponseWriter, r *http.Request) {
				<-r.Context().Done()
				w.WriteHeader(http.StatusBadGateway)
			}
			rt := canary.NewRouter(http.HandlerFunc(waits), http.HandlerFunc(waits), headed(canary.Options{
				Rescue: &canary.Rescue{Status: canary.ServerError}, Observe: s.observe, Logger: quiet,
			}, "canary"))
			ctx, leave := context.WithCancel(t.Context())
			leave()
			answer(rt, request("canary", fmt.Sprint(side == "canary")).WithContext(ctx))
			st := rt.Status()
			if bad := st.Stable.Outcomes.Bad + st.Canary.Outcomes.Bad; bad != 0 {
				t.Errorf("%d bad outcomes, the first: %s", bad, what(s.all[0]))
			}
			if s.all[0].Side == canary.Canary && st.Stable.Requests != 0 {
				t.Error("stable answers a client that has gone")
			}
		})
	}
}

// A status that the server does not take is not sent: the outcome has 0 after the panic, or the status that is sent instead.
func TestStatusThatIsNotSentIsNoStatus(t *testing.T) {
	var s seen
	wrong := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/recovers" {
			defer func() {
				recover()
				http.Error(w, "bad", 500)
			}()
		}
		w.WriteHeader(1000)
	}
	rt := canary.NewRouter(http.HandlerFunc(wrong), nil, canary.Options{Observe: s.observe, Logger: quiet})
	client, u, _ := serveBoth(t, "HTTP/1.1", rt, rt)
	if _, err := client.Get(u); err == nil {
		t.Error("an answer")
	}
	for _, o := range s.take(t, 1) {
		if o.Status != 0 || !o.Has(canary.Panicked) {
			t.Error(what(o))
		}
	}
	res, err := client.Get(u + "/recovers")
	must(t, err)
	res.Body.Close()
	if o := s.take(t, 1)[0]; o.Status != res.StatusCode {
		t.Errorf("%s, but the client got %s", what(o), res.Status)
	}
}

// A context that a handler puts into its request, and cancels when it returns, is not the client's.
func TestContextOfTheHandlerIsNotTheClients(t *testing.T) {
	var s seen
	fails := func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), time.Hour)
		defer cancel()
		*r = *r.WithContext(ctx)
		w.WriteHeader(500)
	}
	ask(canary.NewRouter(http.HandlerFunc(fails), nil, canary.Options{Observe: s.observe, Logger: quiet}))
	if o := s.take(t, 1)[0]; what(o) != "stable 500 0 bytes" || !o.Failed() {
		t.Errorf("%s, failed %v", what(o), o.Failed())
	}
}

// The status of an outcome is that of its handler, also if the handler is a part of a canary whose answer another router drops.
func TestStatusInADroppedAnswerIsThatOfTheHandler(t *testing.T) {
	var s seen
	bad := func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "bad", http.StatusServiceUnavailable) }
	inner := canary.NewRouter(http.HandlerFunc(bad), nil, canary.Options{Name: "inner", Observe: s.observe, Logger: quiet})
	outer := rescued(v1.ServeHTTP, inner.ServeHTTP, canary.Rescue{Status: canary.ServerError})
	if got := ask(outer); got != "stable" {
		t.Error(got)
	}
	if o := s.take(t, 1)[0]; o.Status != 503 || !o.Failed() {
		t.Errorf("%s, failed %v", what(o), o.Failed())
	}
}

// A client of gRPC cancels its call at its deadline, mostly a moment before that of the server. That is no client that has gone: a
// handler that hangs would have no bad outcome.
func TestCancelAtTheDeadlineIsATimeout(t *testing.T) {
	for _, c := range []struct {
		deadline, cancel, ends time.Duration // ends: how long after the cancel the handler ends
		want                   string
	}{
		{time.Second, 500 * time.Millisecond, 0, "canceled"},
		{time.Second, 999 * time.Millisecond, 0, "timed out"},
		{time.Second, 980 * time.Millisecond, 0, "timed out"},
		{time.Second, 960 * time.Millisecond, 0, "canceled"},
		{time.Minute, 59 * time.Second, 0, "timed out"},
		{time.Second, 500 * time.Millisecond, time.Second, "timed out"},
		{0, time.Second, 0, "canceled"},
		{time.Second, 2 * time.Second, 0, "timed out"},
	} {
		synctest.Test(t, func(t *testing.T) {
			var s seen
			hangs := func(_ http.ResponseWriter, r *http.Request) {
				<-r.Context().Done()
				time.Sleep(c.ends)
			}
			ctx, cancel := context.WithCancel(context.Background())
			if c.deadline > 0 {
				ctx, cancel = context.WithTimeout(ctx, c.deadline)
			}
			time.AfterFunc(c.cancel, cancel)
			rt := canary.NewRouter(http.HandlerFunc(hangs), nil, canary.Options{Observe: s.observe, Logger: quiet})
			rt.ServeHTTP(httptest.NewRecorder(), request().WithContext(ctx))
			o := s.all[0]
			if got := strings.TrimSpace(flagNames(o)); got != c.want || o.Failed() != (c.want == "timed out") {
				t.Errorf("deadline %v, canceled after %v: %s, failed %v; want %s", c.deadline, c.cancel, got, o.Failed(), c.want)
			}
		})
	}
}
