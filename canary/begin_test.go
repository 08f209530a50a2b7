package canary_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/internal/logqueue"
	req "github.com/midair-go/midair/internal/request"
	"github.com/midair-go/midair/internal/testutil"
)

// A beginning is what Begin was called with.
type beginning struct {
	canary.Outcome
	observed int // how often Observe was called with it
}

// pairs compares the calls of Begin with those of Observe.
type pairs struct {
	t     *testing.T
	mu    sync.Mutex
	begun []*beginning
	ended int
}

func (p *pairs) begin(o canary.Outcome) any {
	p.mu.Lock()
	defer p.mu.Unlock()
	if o.Status != 0 || o.Bytes != 0 || o.Duration != 0 || o.Begun != nil || o.Flags&^(canary.Forced|canary.SecondTry) != 0 {
		p.t.Errorf("Begin is called with %+v", o)
	}
	b := &beginning{Outcome: o}
	p.begun = append(p.begun, b)
	return b
}

func (p *pairs) observe(o canary.Outcome) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended++
	b, ok := o.Begun.(*beginning)
	if !ok {
		p.t.Errorf("%s has begun with %v", what(o), o.Begun)
		return
	}
	b.observed++
	const known = canary.Forced | canary.SecondTry
	if o.Request != b.Request || o.Side != b.Side || o.Weight != b.Weight || o.Unit() != b.Unit() || o.Flags&known != b.Flags {
		p.t.Errorf("%s with the unit %q has begun as %s with %q", what(o), o.Unit(), what(b.Outcome), b.Unit())
	}
}

// text waits until everything has ended that has begun, and says what that was.
func (p *pairs) text() string {
	testutil.Until(p.t, 30*time.Second, "the outcomes", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.ended >= len(p.begun)
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for _, b := range p.begun {
		if b.observed != 1 {
			p.t.Errorf("%s was observed %d times", what(b.Outcome), b.observed)
		}
		all = append(all, b.Side.String()+flagNames(b.Outcome))
	}
	return strings.Join(all, ", ")
}

// A brokenHook panics when the header is sent.
type brokenHook struct{}

func (brokenHook) BeforeHeader(http.Header, uint64) { panic("hook") }

// endings are handlers that end in all ways.
var endings = map[string]struct {
	handler http.HandlerFunc
	rescued bool
}{
	"nothing": {func(http.ResponseWriter, *http.Request) {}, false},
	"body":    {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "body") }, false},
	"503":     {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, true},
	"panics":  {func(http.ResponseWriter, *http.Request) { panic("bad") }, true},
	"aborts":  {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, false},
	"Goexit":  {func(http.ResponseWriter, *http.Request) { runtime.Goexit() }, false},
	"panics late": {func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "body")
		panic("bad")
	}, false},
	"503 and panics": {func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(503)
		panic("bad")
	}, true},
	"503 and Goexit": {func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(503)
		runtime.Goexit()
	}, false},
	"wrong status": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(1000) }, true},
	"breaks its request": {func(_ http.ResponseWriter, r *http.Request) {
		*r = http.Request{}
		panic("bad")
	}, true},
	"a hook panics": {func(w http.ResponseWriter, _ *http.Request) {
		req.WriterOf(w).BeforeHeader(brokenHook{}, 0)
	}, false},
	"hijacks": {func(w http.ResponseWriter, _ *http.Request) {
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			conn.Close()
		}
	}, false},
}

// Whatever a handler does, over both protocols, with and without rescue: Begin and Observe are called once for each handler that
// gets the request, and Observe has what Begin has returned.
func TestEachBeginHasOneObserve(t *testing.T) {
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		for name, e := range endings {
			for _, choice := range []string{"", "true", "false"} {
				for _, rescue := range []*canary.Rescue{nil, {Also: always, Status: canary.ServerError}} {
					t.Run(fmt.Sprint(proto, "/", name, "/", choice, "/", rescue != nil), func(t *testing.T) {
						p := &pairs{t: t}
						rt := canary.NewRouter(e.handler, e.handler, headed(canary.Options{
							Weight: canary.Fixed(1 - 1e-9), Key: byHeader, Begin: p.begin, Observe: p.observe, Rescue: rescue, Logger: quiet,
						}, "canary"))
						client, u, _ := serveBoth(t, proto, rt, rt)
						r, err := http.NewRequest("POST", u, nil)
						must(t, err)
						r.Header.Set("User", "somebody")
						want := "canary"
						switch choice {
						case "true":
							want = "canary forced"
						case "false":
							want = "stable forced"
						}
						if choice != "" {
							r.Header.Set("canary", choice)
						}
						if e.rescued && rescue != nil && choice != "false" {
							want += ", stable second try"
						}
						r.Close = strings.HasSuffix(name, "Goexit") // no later request can use the connection
						if res, err := client.Do(r); err == nil {
							io.Copy(io.Discard, res.Body)
							res.Body.Close()
						}
						if got := p.text(); got != want {
							t.Errorf("%q has begun, want %q", got, want)
						}
					})
				}
			}
		}
	}
}

// Of many requests at once each Begin has one Observe, while a Switch changes over.
func TestEachBeginOfManyHasOneObserve(t *testing.T) {
	p := &pairs{t: t}
	sw := newSwitch(canary.SwitchOptions{})
	fails := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e := endings[r.Header.Get("How")]
		e.handler(w, r)
	})
	rt := canary.NewRouter(v1, fails, canary.Options{
		Switch: sw, Begin: p.begin, Observe: p.observe, Rescue: &canary.Rescue{Status: canary.ServerError}, Logger: quiet,
	})
	var running sync.WaitGroup
	for how := range endings {
		for n := range 100 {
			running.Go(func() {
				if n%10 == 0 {
					if n%20 == 0 {
						must(t, sw.Green())
					} else {
						sw.Blue()
					}
				}
				answer(rt, request("How", how))
			})
		}
	}
	running.Wait()
	p.text()
	st := rt.Status()
	if n := uint64(len(p.begun)); n != st.Stable.Requests+st.Canary.Requests || n != uint64(100*len(endings))+st.Rescued {
		t.Errorf("%d have begun: %+v", n, st)
	}
}

// Begin is called before the handler, at the time Start, with which Duration begins too.
func TestBeginComesBeforeTheHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var order []string
		note := func(what string) {
			time.Sleep(time.Second)
			order = append(order, what)
		}
		handler := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { note("handler") })
		rt := canary.NewRouter(handler, nil, canary.Options{
			Begin: func(canary.Outcome) any { note("Begin"); return nil },
			Observe: func(o canary.Outcome) {
				if note("Observe"); o.Duration != 2*time.Second || !o.Start.Add(3*time.Second).Equal(time.Now()) {
					t.Errorf("the handler has run for %v", o.Duration)
				}
			},
			Logger: quiet,
		})
		ask(rt)
		if got := strings.Join(order, ", "); got != "Begin, handler, Observe" {
			t.Error(got)
		}
	})
}

// Begin alone makes the router look at outcomes, and Bad gets what Begin has returned.
func TestBeginNeedsNoObserve(t *testing.T) {
	calls := 0
	opts := canary.Options{Begin: func(canary.Outcome) any { calls++; return calls }, Logger: quiet}
	rt := router(opts)
	ask(rt)
	if st := rt.Status().Stable; calls != 1 || st.Outcomes == nil || st.Outcomes.Ended != 1 || st.Outcomes.Bad != 0 {
		t.Errorf("%d calls: %+v", calls, st)
	}
	opts.Bad = func(o canary.Outcome) bool { return o.Begun == 2 }
	rt = router(opts)
	ask(rt)
	if st := rt.Status().Stable.Outcomes; calls != 2 || st.Bad != 1 {
		t.Errorf("%d calls: %+v", calls, st)
	}
	var s seen
	ask(router(canary.Options{Observe: s.observe}))
	if o := s.take(t, 1)[0]; o.Begun != nil {
		t.Errorf("%v has begun where there is no Begin", o.Begun)
	}
}

// A Begin that panics costs neither the answer nor the outcome. Each panic is counted, and the first is logged.
func TestPanicOfBeginCostsNoRequest(t *testing.T) {
	var log bytes.Buffer
	var s seen
	logger := logqueue.Wrap(slog.New(slog.NewTextHandler(&log, nil)))
	rt := router(canary.Options{Begin: func(canary.Outcome) any { panic("bad") }, Observe: s.observe, Logger: logger})
	for range 3 {
		if got := ask(rt); got != "stable" {
			t.Fatal(got)
		}
	}
	for _, o := range s.take(t, 3) {
		if what(o) != "stable 200 6 bytes" || o.Begun != nil {
			t.Errorf("%s has begun with %v", what(o), o.Begun)
		}
	}
	if st := rt.Status(); st.BeginPanics != 3 || st.ObservePanics != 0 || st.Stable.Panics != 0 || st.Stable.InFlight != 0 {
		t.Errorf("%+v", st)
	}
	logqueue.Flush(logger)
	if n := strings.Count(log.String(), "Options.Begin has panicked"); n != 1 {
		t.Errorf("%d lines in %s", n, log.String())
	}
}

// A Begin that ends the goroutine leaves no request under way: the handler does not get it, so it counts nowhere.
func TestBeginThatEndsTheGoroutineCountsNowhere(t *testing.T) {
	fails := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("bad") })
	for _, last := range []string{"canary", "stable"} {
		for _, rescue := range []*canary.Rescue{nil, {}} {
			var s seen
			rt := canary.NewRouter(v1, fails, canary.Options{
				Weight: canary.Fixed(1), Rescue: rescue, Observe: s.observe, Logger: quiet,
				Begin: func(o canary.Outcome) any {
					if o.Side.String() == last {
						runtime.Goexit()
					}
					return nil
				},
			})
			var left sync.WaitGroup
			left.Go(func() { answer(rt, request()) })
			left.Wait()
			st, want := rt.Status(), uint64(0)
			if last == "stable" {
				want = 1
			}
			if st.Stable.InFlight+st.Canary.InFlight != 0 || st.Stable.Requests != 0 || st.Canary.Requests != want {
				t.Errorf("%s, rescue %v: %+v", last, rescue != nil, st)
			}
			s.take(t, int(want))
		}
	}
}

// A Begin that returns a pointer costs no allocation beside that of observing.
func TestPointerOfBeginCostsNoAllocation(t *testing.T) {
	var began struct{ when time.Time }
	same := 0
	rt := canary.NewRouter(nothing, nothing, canary.Options{
		Weight: half, Begin: func(canary.Outcome) any { return &began },
		Observe: func(o canary.Outcome) {
			if o.Begun == any(&began) {
				same++
			}
		},
	})
	r, w := httptest.NewRequest("POST", "/", nil), discard{http.Header{}}
	if n := testing.AllocsPerRun(1000, func() { rt.ServeHTTP(w, r) }); n != 1 || same != 1001 {
		t.Errorf("%v allocations, and %d of 1001 had the pointer", n, same)
	}
}
