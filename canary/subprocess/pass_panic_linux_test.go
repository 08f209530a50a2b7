package subprocess_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/internal/testutil"
)

// behindRouter serves a handler as the canary of a router with Rescue.
func behindRouter(t testing.TB, h http.Handler) *httptest.Server {
	stable := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "stable %s %s", r.Method, b)
	})
	return front(t, canary.NewRouter(stable, h, canary.Options{Weight: canary.Fixed(1), Logger: quiet, Rescue: &canary.Rescue{Unserved: true}}))
}

func do(t testing.TB, srv *httptest.Server, method, do, body string) string {
	r, _ := http.NewRequestWithContext(t.Context(), method, srv.URL, strings.NewReader(body))
	r.Header.Set("Do", do)
	res, err := srv.Client().Do(r)
	if err != nil {
		return "no answer"
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return "half"
	}
	return string(b)
}

// A panic of the handler in the process is one of the canary: a GET is rescued, the connection of a POST ends, and the process lives.
func TestPanicInTheProcessIsOneOfTheCanary(t *testing.T) {
	h := passing(t, "mirror")
	srv := behindRouter(t, h)
	for _, how := range []string{"panics", "panics with little"} {
		if got := do(t, srv, "GET", how, ""); got != "stable GET " {
			t.Error(got)
		}
		if got := do(t, srv, "POST", how, "body"); got != "no answer" {
			t.Error(got)
		}
	}
	if got := do(t, srv, "GET", "panics after a part", ""); got != "half" {
		t.Error(got)
	}
	if h.Status().Starts != 1 {
		t.Error("the process has ended")
	}
}

// Trailers of a request come through a router that rescues, and so does the body.
func TestTrailersComeThroughARouter(t *testing.T) {
	srv := behindRouter(t, passing(t, "mirror"))
	for _, announced := range []string{"", "Trailer: Sum\r\n"} {
		got := wire(t, srv.Listener.Addr().String(),
			"PUT / HTTP/1.1\r\nHost: a\r\n"+announced+"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nSum: 42\r\n\r\n")
		if !strings.Contains(got, "body: \"body\", whole: true\nSum: [\"42\"]") {
			t.Error(got)
		}
	}
}

// When the process has been killed, the stable handler answers a POST at once, with its body, whatever connections were open.
func TestKilledProcessIsUnserved(t *testing.T) {
	h := passing(t, "mirror")
	srv := behindRouter(t, h)
	pid := h.Status().PID
	if got := do(t, srv, "GET", "length", ""); got != "12345" {
		t.Fatal(got)
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	testutil.Until(t, patience, "the process has ended", func() bool { return syscall.Kill(pid, 0) == syscall.ESRCH })
	for range 20 {
		if got := do(t, srv, "POST", "shows", "whole body"); got != "stable POST whole body" && !strings.Contains(got, `body: "whole body"`) {
			t.Fatal(got)
		}
	}
}

// A body that panics in Read, such as that of a middleware, does not end the host: the handler in the process finds that the body ends
// too early.
func TestPanicOfABodyDoesNotEndTheHost(t *testing.T) {
	h := passing(t, "streams")
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = panics{r.Body}
		h.ServeHTTP(w, r)
	}))
	defer srv.Close()
	res, err := srv.Client().Post(srv.URL+"/count", "", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, _ := io.ReadAll(res.Body); string(b) != "0 unexpected EOF" {
		t.Errorf("%q", b)
	}
}

// panics is a body that panics.
type panics struct{ io.Closer }

func (panics) Read([]byte) (int, error) { panic("a body") }
