package canary_test

import (
	"bytes"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/internal/logqueue"
)

// A weight that panics is 0, for requests, for the status and for the state, and each panic is counted.
func TestPanicInWeightIsStable(t *testing.T) {
	broken := true
	rt := router(headed(canary.Options{Cookie: newCookie(canary.CookieOptions{}), Weight: func() float64 {
		if broken {
			panic("nil map")
		}
		return 1
	}}, "canary"))
	v := newVisitor(t)
	for range 3 {
		if got := v.visit(rt); got != "stable" || v.minted != 0 {
			t.Fatalf("answered by %s, %d cookies", got, v.minted)
		}
	}
	if ask(rt, "Canary", "true") != "canary" { // asks for no weight
		t.Error("the header is not obeyed")
	}
	if _, err := rt.MarshalBinary(); err != nil {
		t.Error(err)
	}
	s := rt.Status()
	if s.Weight != 0 || s.DecidedBy != "panic" || s.WeightPanics != 5 || s.KeyPanics != 0 || s.Stable.Panics != 0 {
		t.Errorf("status %+v", s)
	}
	broken = false
	if s := rt.Status(); ask(rt) != "canary" || s.Weight != 1 || s.DecidedBy != "weight" {
		t.Errorf("status %+v when the weight is well again", s)
	}
}

// A weight that is not a number is 0. Each is counted, the one of Status too, and the first is logged.
func TestWeightThatIsNotANumberIsStable(t *testing.T) {
	var log bytes.Buffer
	logger := logqueue.Wrap(slog.New(slog.NewTextHandler(&log, nil)))
	rt := router(canary.Options{Weight: canary.Fixed(math.NaN()), Logger: logger})
	for range 3 {
		if ask(rt) != "stable" {
			t.Error("not stable")
		}
	}
	if s := rt.Status(); s.Weight != 0 || s.DecidedBy != "weight" || s.NotNumbers != 4 || s.WeightPanics != 0 {
		t.Errorf("status %+v", s)
	}
	logqueue.Flush(logger)
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "not a number") {
		t.Errorf("log %q", got)
	}
}

// A request for which Key panics is stable: it gets no cookie and is not drawn. Other requests have their keys.
func TestPanicInKeyIsStable(t *testing.T) {
	rt := router(canary.Options{
		Weight: canary.Fixed(0.999999), Cookie: newCookie(canary.CookieOptions{}),
		Key: func(r *http.Request) string {
			if r.Header.Get("User") == "" {
				panic("nil map")
			}
			return r.Header.Get("User")
		},
	})
	for range 20 {
		w := httptest.NewRecorder()
		rt.ServeHTTP(w, request())
		if w.Body.String() != "stable" || len(w.Header()["Set-Cookie"]) != 0 {
			t.Fatalf("answered by %s, %v", w.Body, w.Header())
		}
	}
	if ask(rt, "User", "somebody") != "canary" {
		t.Error("a request with a key is stable too")
	}
	if s := rt.Status(); s.KeyPanics != 20 || s.WeightPanics != 0 || s.Stable.Panics != 0 || s.Stable.Requests != 20 {
		t.Errorf("status %+v", s)
	}
}

// The first panic of each function is one line, with its value and where it began. Later panics are counted only.
func TestPanicsOfOptionsAreLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	logger := logqueue.Wrap(slog.New(slog.NewTextHandler(&log, nil)))
	for _, c := range []struct {
		name string
		opts canary.Options
	}{
		{"Weight", canary.Options{Weight: func() float64 { panic("nil map") }}},
		{"Key", canary.Options{Weight: half, Key: func(*http.Request) string { panic(http.ErrAbortHandler) }}},
	} {
		c.opts.Name, c.opts.Logger = "cart", logger
		rt := router(c.opts)
		for range 3 {
			ask(rt)
		}
		logqueue.Flush(logger)
		got := log.String()
		log.Reset()
		if strings.Count(got, "\n") != 1 {
			t.Errorf("%s: log %q", c.name, got)
		}
		for _, part := range []string{"level=ERROR", "Options." + c.name + " has panicked", "name=cart", "panic=", "TestPanicsOfOptionsAreLoggedOnce"} {
			if !strings.Contains(got, part) {
				t.Errorf("%s: %q does not say %q", c.name, got, part)
			}
		}
	}
}

// A SameForAll that panics costs no request: the answer says to caches what it depends on, as without SameForAll.
func TestSameForAllMayPanic(t *testing.T) {
	rt := router(headed(canary.Options{SameForAll: func(*http.Request) bool { panic("no map") }}, "canary"))
	for range 3 {
		w := httptest.NewRecorder()
		rt.ServeHTTP(w, request("Canary", "true"))
		if got, vary := w.Body.String(), w.Header().Get("Vary"); got != "canary" || vary != "Canary" {
			t.Errorf("answer %q with Vary %q", got, vary)
		}
	}
	if n := rt.Status().SamePanics; n != 3 {
		t.Errorf("%d panics counted, want 3", n)
	}
}
