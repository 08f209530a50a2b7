package canary_test

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/internal/logqueue"
)

// backend serves h, and returns a proxy to it.
func backend(t *testing.T, h http.HandlerFunc) *httputil.ReverseProxy {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	to, err := url.Parse(srv.URL)
	must(t, err)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }, Transport: transport, ErrorLog: log.New(io.Discard, "", 0),
	}
}

// The stable handler answers also if the canary ends with http.ErrAbortHandler after its answer was dropped, as a
// httputil.ReverseProxy does when it cannot write the body.
func TestProxyWhoseStatusIsRefusedIsRescued(t *testing.T) {
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(proto, func(t *testing.T) {
			var s seen
			sw := newSwitch(canary.SwitchOptions{})
			must(t, sw.Green())
			proxy := backend(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "bad", http.StatusServiceUnavailable) })
			rt := canary.NewRouter(v1, proxy, canary.Options{
				Switch: sw, Rescue: &canary.Rescue{Status: canary.ServerError}, Observe: s.observe, Logger: quiet,
			})
			client, u, _ := serveBoth(t, proto, rt, rt)
			res, err := client.Get(u)
			if err != nil {
				t.Errorf("no answer: %v", err)
			} else {
				body, _ := io.ReadAll(res.Body)
				res.Body.Close()
				if string(body) != "stable" {
					t.Errorf("%s %q", res.Status, body)
				}
			}
			if st := rt.Status(); st.Stable.InFlight != 0 {
				t.Errorf("%d requests under way on stable for ever: Idle never tells", st.Stable.InFlight)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if len(s.all) != 2 || !s.all[0].Has(canary.Rescued) {
				t.Errorf("%d outcomes, the first: %s", len(s.all), what(s.all[0]))
			}
		})
	}
}

// What a goroutine writes that an aborted canary has left behind starts nothing on stable.
func TestLateAnswerOfAnAbortedCanaryCountsNowhere(t *testing.T) {
	for name, end := range map[string]func(){"abort": func() { panic(http.ErrAbortHandler) }, "goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			var late http.ResponseWriter
			aborts := func(w http.ResponseWriter, _ *http.Request) {
				late = w
				end()
			}
			rt := canary.NewRouter(v1, http.HandlerFunc(aborts), canary.Options{
				Weight: canary.Fixed(1), Rescue: &canary.Rescue{Status: canary.ServerError}, Bad: canary.Outcome.Failed, Logger: quiet,
			})
			var left sync.WaitGroup
			left.Go(func() { answer(rt, request()) })
			left.Wait()
			late.WriteHeader(http.StatusServiceUnavailable)
			if st := rt.Status(); st.Stable.Requests != 0 || st.Stable.InFlight != 0 {
				t.Errorf("stable has %d requests, %d under way", st.Stable.Requests, st.Stable.InFlight)
			}
		})
	}
}

// The same while the router looks at the outcome: run with -race.
func TestLateAnswerOfAnAbortedCanaryIsNoRace(t *testing.T) {
	for range 200 {
		var running sync.WaitGroup
		aborts := func(w http.ResponseWriter, _ *http.Request) {
			running.Go(func() { w.WriteHeader(http.StatusServiceUnavailable) })
			panic(http.ErrAbortHandler)
		}
		rt := canary.NewRouter(v1, http.HandlerFunc(aborts), canary.Options{
			Weight: canary.Fixed(1), Rescue: &canary.Rescue{Status: canary.ServerError}, Bad: canary.Outcome.Failed, Logger: quiet,
		})
		answer(rt, request())
		running.Wait()
	}
}

// A refused status that stands, because stable may have ended, leaves the body to the canary.
func TestAnswerThatCannotBeReplacedKeepsItsBody(t *testing.T) {
	sw := newSwitch(canary.SwitchOptions{})
	must(t, sw.Green())
	<-sw.Idle(canary.Stable)
	echoes := func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		if _, err := io.Copy(w, r.Body); err != nil {
			t.Error(err)
		}
	}
	rt := canary.NewRouter(v1, http.HandlerFunc(echoes), canary.Options{
		Switch: sw, Rescue: &canary.Rescue{Also: always, Status: canary.ServerError}, Logger: quiet,
	})
	w, p := answer(rt, httptest.NewRequest("PUT", "/", strings.NewReader("the body")))
	if p != nil || w.Code != 500 || w.Body.String() != "the body" {
		t.Errorf("%d %q, panic %v", w.Code, w.Body, p)
	}
}

// A status that net/http refuses with a panic has sent nothing: the request is rescued.
func TestWrongStatusIsRescued(t *testing.T) {
	for _, status := range []int{0, 99, 1000} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			rt := rescued(v1.ServeHTTP, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }, canary.Rescue{})
			client, u, _ := serveBoth(t, "HTTP/1.1", rt, rt)
			res, err := client.Get(u)
			must(t, err)
			defer res.Body.Close()
			if body, _ := io.ReadAll(res.Body); string(body) != "stable" {
				t.Errorf("%s %q", res.Status, body)
			}
		})
	}
}

// A function of the options that ends the goroutine, as t.Fatal does in a test, leaves no request under way.
func TestFunctionThatEndsTheGoroutineLeavesNoRequestUnderWay(t *testing.T) {
	also := func(*http.Request) bool { runtime.Goexit(); return true }
	attempt := func(*http.Request) func() { runtime.Goexit(); return nil }
	undo := func(*http.Request) func() { return runtime.Goexit }
	for name, opts := range map[string]canary.Options{
		"Observe": {Rescue: &canary.Rescue{}, Observe: func(canary.Outcome) { runtime.Goexit() }},
		"Bad":     {Rescue: &canary.Rescue{}, Bad: func(canary.Outcome) bool { runtime.Goexit(); return true }},
		"Also":    {Rescue: &canary.Rescue{Also: also}},
		"Attempt": {Rescue: &canary.Rescue{Also: always, Attempt: attempt}},
		"undo":    {Rescue: &canary.Rescue{Also: always, Attempt: undo}},
	} {
		t.Run(name, func(t *testing.T) {
			opts.Weight, opts.Logger = canary.Fixed(1), quiet
			rt := canary.NewRouter(v1, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("bad") }), opts)
			var left sync.WaitGroup
			left.Go(func() {
				r := request()
				if name == "Also" {
					r.Method = "PUT"
				}
				answer(rt, r)
			})
			left.Wait()
			if st := rt.Status(); st.Stable.InFlight+st.Canary.InFlight != 0 {
				t.Errorf("under way: %d on stable, %d on canary", st.Stable.InFlight, st.Canary.InFlight)
			}
		})
	}
}

// A canary that fails because its time is over is not answered by stable: the http.TimeoutHandler around has answered.
func TestNobodyIsRescuedAfterTheDeadline(t *testing.T) {
	ended := make(chan struct{})
	fails := func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		panic("out of time")
	}
	rt := rescued(v1.ServeHTTP, fails, canary.Rescue{})
	h := http.TimeoutHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		defer func() { recover() }()
		rt.ServeHTTP(w, r)
	}), time.Millisecond, "late")
	if w, p := answer(h, request()); w.Code != 503 || p != nil {
		t.Errorf("%d, panic %v", w.Code, p)
	}
	<-ended
	if st := rt.Status(); st.Stable.Requests != 0 {
		t.Errorf("stable has run %d requests whose time is over", st.Stable.Requests)
	}
}

// While a switch is thrown and each canary fails, every request and every outcome is counted once, and none is rescued to a handler
// of which Idle has said that it is free.
func TestRescuesAndSwitchesAreCountedOnce(t *testing.T) {
	sw := newSwitch(canary.SwitchOptions{})
	blue := &halves{name: "blue"}
	fails := func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("How") == "status" {
			http.Error(w, "bad", http.StatusServiceUnavailable)
			return
		}
		runtime.Gosched()
		panic("bad")
	}
	rt := canary.NewRouter(blue, http.HandlerFunc(fails), canary.Options{
		Switch: sw, Rescue: &canary.Rescue{Status: canary.ServerError}, Bad: canary.Outcome.Failed, Logger: quiet,
	})
	var running sync.WaitGroup
	stop := make(chan struct{})
	for n := range 4 {
		running.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					answer(rt, request("How", []string{"status", "panic"}[n%2]))
				}
			}
		})
	}
	for range 300 {
		must(t, sw.Green())
		<-sw.Idle(canary.Stable)
		blue.freed.Store(true)
		runtime.Gosched()
		blue.freed.Store(false)
		sw.Blue()
		<-sw.Idle(canary.Canary)
	}
	close(stop)
	running.Wait()
	st := rt.Status()
	if n := blue.late.Load(); n > 0 || st.Stable.InFlight+st.Canary.InFlight != 0 || st.Stable.Requests != st.Stable.Outcomes.Ended || st.Canary.Requests != st.Canary.Outcomes.Ended {
		t.Errorf("%d late, %+v, %+v, %+v", n, st, st.Stable.Outcomes, st.Canary.Outcomes)
	}
	t.Logf("%d rescued of %d", st.Rescued, st.Canary.Requests)
}

// A canary that has broken its own request before it panics is rescued, and the log has the request as it came.
func TestCanaryThatBreaksItsRequestIsRescued(t *testing.T) {
	var log bytes.Buffer
	logger := logqueue.Wrap(slog.New(slog.NewTextHandler(&log, nil)))
	breaks := func(_ http.ResponseWriter, r *http.Request) {
		*r = http.Request{}
		panic("bad")
	}
	rt := canary.NewRouter(v1, http.HandlerFunc(breaks), canary.Options{Weight: canary.Fixed(1), Rescue: &canary.Rescue{}, Logger: logger, Bad: canary.Outcome.Failed})
	r := request()
	r.URL.Path = "/cart"
	if w, p := answer(rt, r); p != nil || w.Body.String() != "stable" {
		t.Errorf("%q, panic %v", w.Body, p)
	}
	logqueue.Flush(logger)
	if !strings.Contains(log.String(), "method=GET path=/cart") {
		t.Error(log.String())
	}
}

// A request whose body was too long to be kept is not rescued, and does not count as under way on stable.
func TestRequestThatCannotBeReplayedCountsNowhere(t *testing.T) {
	for name, how := range map[string]http.HandlerFunc{
		"panic":  func(http.ResponseWriter, *http.Request) { panic("bad") },
		"status": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
	} {
		reads := func(w http.ResponseWriter, r *http.Request) {
			io.ReadFull(r.Body, make([]byte, 20))
			how(w, r)
		}
		rt := rescued(v1.ServeHTTP, reads, canary.Rescue{Also: always, Status: canary.ServerError, Body: 10})
		answer(rt, httptest.NewRequest("PUT", "/", strings.NewReader(strings.Repeat("x", 30))))
		if st := rt.Status(); st.Rescued != 0 || st.Stable.Requests != 0 || st.Stable.InFlight != 0 || st.Canary.InFlight != 0 {
			t.Errorf("%s: %+v", name, st)
		}
	}
}

// The stable handler of a rescued request has the path values that came to the router, whatever the canary has set.
func TestPathValuesOfTheCanaryAreItsOwn(t *testing.T) {
	breaks := func(_ http.ResponseWriter, r *http.Request) {
		r.SetPathValue("id", "changed")
		r.SetPathValue("more", "changed")
		panic("bad")
	}
	shows := func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.PathValue("id"), r.PathValue("more")) }
	mux := http.NewServeMux()
	mux.Handle("/item/{id}", rescued(shows, breaks, canary.Rescue{}))
	if w, p := answer(mux, httptest.NewRequest("GET", "/item/7", nil)); p != nil || w.Body.String() != "7" {
		t.Errorf("%q, panic %v", w.Body, p)
	}
}

// A body that panics in Read does not let the stable handler wait for the end of that Read.
func TestPanicOfABodyIsRescued(t *testing.T) {
	router := rescued(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "stable %s %v", b, err)
	}, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.ReadAll(r.Body) }, canary.Rescue{})
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
	r.Body, r.ContentLength = io.NopCloser(&panicsOnce{next: strings.NewReader("body")}), 4
	router.ServeHTTP(w, r)
	if got := w.Body.String(); got != "stable body <nil>" {
		t.Error(got)
	}
}

// panicsOnce is a body whose first Read panics.
type panicsOnce struct {
	done bool
	next io.Reader
}

func (p *panicsOnce) Read(b []byte) (int, error) {
	if !p.done {
		p.done = true
		panic("a body")
	}
	return p.next.Read(b)
}
