package canary_test

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/internal/logqueue"
	req "github.com/midair-go/midair/internal/request"
	"github.com/midair-go/midair/session"
)

var panics = flag.Int("midair.panics", 10_000, "how many panics TestEveryPanicBeforeTheFirstByteIsRescued makes for each protocol; a tenth with -short")

// rescued returns a router whose canary always has the request, with rescue.
func rescued(stable, canaryHandler http.HandlerFunc, rescue canary.Rescue) *canary.Router {
	return canary.NewRouter(stable, canaryHandler, canary.Options{Weight: canary.Fixed(1), Rescue: &rescue, Logger: quiet})
}

// An oracle knows which requests were executed by whom, by their number.
type oracle struct {
	mu   sync.Mutex
	runs map[string]string // S for stable, C for canary
}

func (o *oracle) note(r *http.Request, who string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.runs[r.Header.Get("Number")] += who
}

// stable answers with what it has got.
func (o *oracle) stable(w http.ResponseWriter, r *http.Request) {
	o.note(r, "S")
	body, err := io.ReadAll(r.Body)
	w.Header().Set("Content-Type", "text/stable")
	w.Header().Add("Set-Cookie", "by=stable")
	if r.URL.Query().Get("how") == "created" {
		w.WriteHeader(http.StatusCreated)
	}
	fmt.Fprintf(w, "stable answers %s %s %s: %s %v", r.Method, r.URL, r.Header.Get("Number"), body, err)
}

// canary fails as the request says.
func (o *oracle) canary(w http.ResponseWriter, r *http.Request) {
	o.note(r, "C")
	w.Header().Set("Content-Type", "text/canary")
	w.Header().Set("X-Canary", "true")
	w.Header().Add("Set-Cookie", "by=canary")
	r.Header.Set("Number", "changed by the canary")
	r.URL.Path = "/changed"
	switch r.URL.Query().Get("how") {
	case "reads":
		io.ReadFull(r.Body, make([]byte, 7))
	case "reads all":
		io.Copy(io.Discard, r.Body)
		r.Body.Close()
	case "form":
		r.ParseMultipartForm(1 << 10)
	case "writes":
		io.WriteString(w, "half of an answer of the canary")
		http.NewResponseController(w).Flush()
	case "informs":
		w.WriteHeader(http.StatusEarlyHints)
	case "503":
		http.Error(w, "canary", http.StatusServiceUnavailable)
		return
	case "answers":
		io.WriteString(w, "canary")
		return
	case "aborts":
		panic(http.ErrAbortHandler)
	}
	panic("the canary is bad")
}

// Whatever a canary does before it panics, as long as nothing was sent: the answer of a request that may run twice is that of the
// stable handler, byte for byte. A request that may not is executed once, and its connection or stream ends.
func TestEveryPanicBeforeTheFirstByteIsRescued(t *testing.T) {
	most := *panics
	if testing.Short() {
		most /= 10
	}
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(proto, func(t *testing.T) {
			o := &oracle{runs: map[string]string{}}
			also := func(r *http.Request) bool { return r.Method == http.MethodPut }
			rt := rescued(o.stable, o.canary, canary.Rescue{Also: also, Status: canary.ServerError})
			client, url, plainURL := serveBoth(t, proto, rt, http.HandlerFunc(o.stable))
			kinds := []struct{ method, how, body, want string }{
				{"GET", "now", "", "CS"}, {"GET", "created", "", "CS"}, {"GET", "503", "", "CS"}, {"HEAD", "now", "", "CS"},
				{"PUT", "reads", "0123456789", "CS"}, {"PUT", "reads all", "0123456789", "CS"}, {"PUT", "form", "0123456789", "CS"},
				{"PUT", "now", strings.Repeat("long", 10_000), "CS"}, {"OPTIONS", "now", "", "CS"},
				{"POST", "now", "x", "C"}, {"DELETE", "now", "", "C"}, {"POST", "reads all", "0123456789", "C"},
				{"GET", "writes", "", "C"}, {"GET", "informs", "", "C"}, {"GET", "aborts", "", "C"},
				{"GET", "answers", "", "C"}, {"POST", "503", "x", "C"},
			}
			eligible := 0
			for n := 0; eligible < most; n++ {
				k := kinds[n%len(kinds)]
				if n/len(kinds) > 20 && k.want == "C" { // each of these costs a connection
					continue
				}
				number := "r" + strconv.Itoa(n)
				got, err := do(client, url, k.method, k.how, number, k.body)
				if k.want == "CS" {
					eligible++
					plain := "p" + strconv.Itoa(n)
					want, wantErr := do(client, plainURL, k.method, k.how, plain, k.body)
					if want = strings.ReplaceAll(want, plain, number); err != nil || wantErr != nil || got != want {
						t.Fatalf("%v: %q, %v, want %q, %v", k, got, err, want, wantErr)
					}
				} else if fine := k.how == "answers" || k.how == "503"; fine != (err == nil) {
					t.Fatalf("%v: %q, %v", k, got, err)
				}
				if runs := o.runs[number]; runs != k.want {
					t.Fatalf("%v was executed by %s, want %s", k, runs, k.want)
				}
			}
			s := rt.Status()
			if s.Rescued != uint64(eligible) || s.RescuePanics != 0 || s.Stable.Requests != s.Rescued || s.Stable.InFlight+s.Canary.InFlight != 0 {
				t.Errorf("%d were eligible: %+v", eligible, s)
			}
			t.Logf("%d requests were rescued, %d not", s.Rescued, s.Canary.Requests-s.Rescued)
		})
	}
}

// serveBoth serves two handlers, and returns a client that never sends a request twice.
func serveBoth(t *testing.T, proto string, one, other http.Handler) (client *http.Client, url, otherURL string) {
	t.Helper()
	for _, h := range []http.Handler{one, other} {
		srv := httptest.NewUnstartedServer(h)
		srv.Config.ErrorLog = log.New(io.Discard, "", 0)
		srv.EnableHTTP2 = proto == "HTTP/2.0"
		srv.StartTLS()
		t.Cleanup(srv.Close)
		if client == nil {
			client, url = srv.Client(), srv.URL
		}
		otherURL = srv.URL
	}
	return client, url, otherURL
}

// do sends a request, and returns the answer as a text.
func do(client *http.Client, url, method, how, number, body string) (string, error) {
	r, err := http.NewRequest(method, url+"/page?how="+strings.ReplaceAll(how, " ", "+"), once{strings.NewReader(body)})
	if err != nil {
		return "", err
	}
	r.ContentLength = int64(len(body))
	if body == "" {
		r.Body = nil
	}
	r.Header.Set("Number", number)
	if how == "form" {
		r.Header.Set("Content-Type", "multipart/form-data; boundary=b")
	}
	res, err := client.Do(r)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	res.Header.Del("Date")
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(res.Header)) {
		lines = append(lines, fmt.Sprint(name, res.Header[name]))
	}
	return fmt.Sprint(res.Status, lines, string(b)), err
}

// once is a body that cannot be sent twice.
type once struct{ io.Reader }

// A body is replayed up to the limit, and a canary that has read more is not rescued. What the canary has not read comes from the
// client.
func TestBodiesAreReplayedUpToTheLimit(t *testing.T) {
	const limit = 1000
	text := strings.Repeat("0123456789", 1000)
	for _, v := range []struct {
		reads   int
		rescued bool
	}{{0, true}, {1, true}, {limit - 1, true}, {limit, true}, {limit + 1, false}, {len(text), false}} {
		for _, status := range []bool{false, true} {
			body := strings.NewReader(text)
			rt := rescued(echo, func(w http.ResponseWriter, r *http.Request) {
				for left := v.reads; left > 0; {
					n, err := r.Body.Read(make([]byte, min(left, 300)))
					if left -= n; err != nil {
						t.Error(err)
					}
				}
				if !status {
					panic("bad")
				}
				w.WriteHeader(http.StatusInternalServerError)
				before := body.Len()
				if n, err := r.Body.Read(make([]byte, 10)); v.rescued && (n != 0 || !errors.Is(err, req.ErrDropped) || body.Len() != before) {
					t.Errorf("after the end of its try the canary has read %d bytes, %v, and %d from the client", n, err, before-body.Len())
				}
			}, canary.Rescue{Also: always, Status: canary.ServerError, Body: limit})
			w, p := answer(rt, httptest.NewRequest("PUT", "/", body))
			if got := w.Body.String() == text; got != v.rescued || (p == nil) != (v.rescued || status) {
				t.Errorf("the canary has read %d bytes: status %d, %d bytes, panic %v", v.reads, w.Code, w.Body.Len(), p)
			}
		}
	}
}

func always(*http.Request) bool { return true }

// echo answers with the body.
func echo(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }

// answer returns the answer, and the value of a panic.
func answer(h http.Handler, r *http.Request) (w *httptest.ResponseRecorder, p any) {
	w = httptest.NewRecorder()
	defer func() { p = recover() }()
	h.ServeHTTP(w, r)
	return w, nil
}

// A goroutine that a failed canary leaves behind reads and writes nothing that is the stable handler's, and gets errors.
func TestGoroutinesOfAFailedCanaryReachNobody(t *testing.T) {
	body := strings.Repeat("x", 100)
	var running sync.WaitGroup
	var wrote, read atomic.Int64
	var dropped chan struct{} // closed: the stable handler answers
	rt := rescued(func(w http.ResponseWriter, r *http.Request) {
		close(dropped)
		w.Header().Set("By", "stable")
		echo(w, r)
		running.Wait()
	}, func(w http.ResponseWriter, r *http.Request) {
		begun, hasty := make(chan struct{}), r.Header.Get("Hasty") != ""
		running.Go(func() {
			buf := make([]byte, 1)
			for n := range 1000 {
				if n == 10 {
					close(begun)
				}
				if n == 20 && !hasty {
					<-dropped
				}
				w.Header().Set("By", "a goroutine")
				r.Header.Set("By", "a goroutine")
				r.Form = nil
				if n > 20 || hasty && n > 10 {
					if n, err := w.Write(buf); err == nil {
						wrote.Add(int64(n))
					}
				}
				if n, err := r.Body.Read(buf); err == nil {
					read.Add(int64(n))
				}
			}
		})
		<-begun
		panic("bad")
	}, canary.Rescue{Also: always})
	refused, answered := 0, 0
	for n := range 200 {
		wrote.Store(0)
		dropped = make(chan struct{})
		r := httptest.NewRequest("PUT", "/", strings.NewReader(body))
		if n%2 == 0 {
			r.Header.Set("Hasty", "true")
		}
		w, p := answer(rt, r)
		switch {
		case p != nil: // the goroutine was faster
			refused++
			running.Wait()
		case w.Body.String() != body || w.Header().Get("By") != "stable" || wrote.Load() != 0:
			t.Fatalf("%q with %v, the goroutine has written %d bytes", w.Body, w.Header(), wrote.Load())
		default:
			answered++
		}
	}
	if answered < 100 {
		t.Errorf("%d of 200 were rescued", answered)
	}
	t.Logf("%d answered, %d that the goroutine has answered first", answered, refused)
}

// What a failed canary has done to the session is taken back before the stable handler reads it, and so is its cookie.
func TestRescueTakesTheSessionBack(t *testing.T) {
	sm := session.NewManager(session.Memory(), session.Options{Logger: quiet})
	fails := true
	rt := rescued(func(w http.ResponseWriter, r *http.Request) {
		n, _, err := session.Get[int](r.Context(), "n")
		err = errors.Join(err, session.Put(r.Context(), "n", n+1))
		fmt.Fprintf(w, "stable %d %v", n, err)
	}, func(w http.ResponseWriter, r *http.Request) {
		must(t, session.Renew(r.Context()))
		must(t, session.Put(r.Context(), "n", 100))
		if fails {
			panic("bad")
		}
		fmt.Fprint(w, "canary")
	}, canary.Rescue{Attempt: sm.Attempt})
	h, cookie := sm.Middleware(rt), ""
	for _, want := range []string{"stable 0 <nil>", "stable 1 <nil>", "stable 2 <nil>", "canary", "stable 100 <nil>"} {
		fails = want != "canary"
		w := httptest.NewRecorder()
		h.ServeHTTP(w, from(cookie))
		if w.Body.String() != want {
			t.Errorf("%s, want %s", w.Body, want)
		}
		for _, c := range w.Result().Cookies() {
			cookie = c.Name + "=" + c.Value
		}
	}
	if s := rt.Status(); s.Rescued != 4 || s.RescuePanics != 0 {
		t.Errorf("%+v", s)
	}
}

func from(cookie string) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	if cookie != "" {
		r.Header.Set("Cookie", cookie)
	}
	return r
}

// Inside a rescue the handlers know their side, and what the router has to say to caches and visitors is said once.
func TestRescueKeepsWhatTheRouterSays(t *testing.T) {
	var sides []string
	tell := func(fail bool) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			side, ok := canary.SideFromContext(r.Context())
			sides = append(sides, fmt.Sprint(side, ok))
			w.Header().Add("Vary", "Accept")
			if fail {
				panic("bad")
			}
		}
	}
	rt := canary.NewRouter(tell(false), tell(true), canary.Options{
		Weight: canary.Fixed(0.999999999), Cookie: newCookie(canary.CookieOptions{}), Rescue: &canary.Rescue{}, SideInContext: true, Logger: quiet,
	})
	for _, h := range []http.Handler{rt, session.NewManager(session.Memory(), session.Options{Logger: quiet}).Middleware(rt)} {
		w, p := answer(h, httptest.NewRequest("GET", "/", nil))
		if p != nil || !slices.Equal(sides, []string{"canary true", "stable true"}) {
			t.Errorf("panic %v, sides %q", p, sides)
		}
		if got := w.Header()["Vary"]; len(w.Result().Cookies()) != 1 || !slices.Equal(got, []string{"Accept, Cookie"}) || w.Header().Get("Cache-Control") != "private" {
			t.Errorf("%v", w.Header())
		}
		sides = nil
	}
}

// An answer that stands is the canary's, with its status, its trailers and its own writes, as without rescue.
func TestRescueChangesNoGoodAnswer(t *testing.T) {
	good := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "Sum")
		w.Header().Set("X-Own", "1")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("X-Own", "2")
		w.WriteHeader(http.StatusAccepted)
		w.Header().Set("X-Own", "late")
		io.Copy(w, strings.NewReader("the answer"))
		http.NewResponseController(w).Flush()
		w.Header().Set("Sum", "42")
		w.Header().Set(http.TrailerPrefix+"More", "43")
	}
	var got []string
	for _, h := range []http.Handler{http.HandlerFunc(good), rescued(echo, good, canary.Rescue{})} {
		srv := httptest.NewServer(h)
		res, err := srv.Client().Get(srv.URL)
		must(t, err)
		body, err := io.ReadAll(res.Body)
		must(t, cmp.Or(err, res.Body.Close()))
		res.Header.Del("Date")
		got = append(got, fmt.Sprint(res.Status, res.Header, string(body), res.Trailer))
		srv.Close()
	}
	if got[0] != got[1] {
		t.Errorf("%s\nwant %s", got[1], got[0])
	}
}

// A panic in a function of Rescue costs no request that the canary answers, and is counted.
func TestPanicsInRescueAreCounted(t *testing.T) {
	bad := func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
		io.WriteString(w, "canary")
	}
	for name, c := range map[string]struct {
		rescue canary.Rescue
		method string
		want   string
	}{
		"Also":    {canary.Rescue{Also: func(*http.Request) bool { panic(1) }, Status: canary.ServerError}, "PUT", "canary"},
		"Status":  {canary.Rescue{Status: func(int) bool { panic(1) }}, "GET", "canary"},
		"Attempt": {canary.Rescue{Status: canary.ServerError, Attempt: func(*http.Request) func() { panic(1) }}, "GET", "canary"},
		"undo":    {canary.Rescue{Status: canary.ServerError, Attempt: func(*http.Request) func() { return func() { panic(1) } }}, "GET", "stable"},
	} {
		rt := rescued(v1.ServeHTTP, bad, c.rescue)
		w, p := answer(rt, httptest.NewRequest(c.method, "/", nil))
		if s := rt.Status(); p != nil || w.Body.String() != c.want || s.RescuePanics != 1 {
			t.Errorf("%s: %q, panic %v, %+v", name, w.Body, p, s)
		}
	}
}

// Once Idle has told that the stable handler has no request, nothing is rescued there, until the switch has come back.
func TestNothingIsRescuedToWhatMayHaveEnded(t *testing.T) {
	sw := newSwitch(canary.SwitchOptions{})
	bad := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("bad") })
	rt := canary.NewRouter(v1, bad, canary.Options{Switch: sw, Rescue: &canary.Rescue{}, Logger: quiet})
	wantRescue := func(want bool) {
		t.Helper()
		w, p := answer(rt, httptest.NewRequest("GET", "/", nil))
		if (p == nil) != want || (w.Body.String() == "stable") != want {
			t.Errorf("%q, panic %v", w.Body, p)
		}
	}
	<-sw.Idle(canary.Stable) // in a moment without requests, before the switch
	must(t, sw.Green())
	wantRescue(true)
	<-sw.Idle(canary.Stable)
	wantRescue(false)
	sw.Blue()
	wantRescue(true)
	must(t, sw.Green())
	wantRescue(true)
	if s := rt.Status(); s.Stable.InFlight+s.Canary.InFlight != 0 || s.Rescued != 2 {
		t.Errorf("%+v", s)
	}
}

// A router without a stable handler, and one whose canary is not asked, rescue nothing. The log has the stack of a rescued panic.
func TestRescueIsLogged(t *testing.T) {
	bad := func(http.ResponseWriter, *http.Request) { panic("bad cart") }
	var lines bytes.Buffer
	logger := logqueue.Wrap(slog.New(slog.NewTextHandler(&lines, nil)))
	rt := canary.NewRouter(v1, http.HandlerFunc(bad), canary.Options{Name: "cart", Weight: canary.Fixed(1), Rescue: &canary.Rescue{}, Logger: logger})
	ask(rt)
	logqueue.Flush(logger)
	for _, part := range []string{"level=ERROR", "name=cart", "panic=\"bad cart\"", "rescue_test.go"} {
		if got := lines.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, part) {
			t.Errorf("%q does not say %q", got, part)
		}
	}
	none := canary.NewRouter(nil, http.HandlerFunc(bad), canary.Options{Weight: canary.Fixed(1), Rescue: &canary.Rescue{}, Logger: quiet})
	if _, p := answer(none, httptest.NewRequest("GET", "/", nil)); p != "bad cart" {
		t.Errorf("panic %v", p)
	}
}
