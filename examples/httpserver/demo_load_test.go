package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// seen is a server that remembers the bodies that it was sent.
type seen struct {
	mu     sync.Mutex
	bodies []string
}

func (s *seen) handler(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		s.bodies = append(s.bodies, string(b))
		s.mu.Unlock()
		w.Header().Set("X-Version", "v1")
		r.Body = io.NopCloser(strings.NewReader(string(b)))
		next(w, r)
	})
}

// A client sends each request once, and takes nothing for an answer but a complete one with its own id.
func TestClientCountsLosses(t *testing.T) {
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		lost   bool
	}{
		"its own id": {echo, false},
		"another id": {func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "request-9-9") }, true},
		"an error":   {func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", 500) }, true},
		"half of it": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "99")
			fmt.Fprint(w, "x")
		}, true},
		"no answer":     {func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }, true},
		"the last word": {func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Connection", "close"); echo(w, r) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			var s seen
			srv := httptest.NewServer(s.handler(c.answer))
			defer srv.Close()
			l := startLoad(srv.Listener.Addr().String(), "only", 2, 1)
			testutil.Until(t, patience, "some requests", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.bodies) > 20 })
			p := l.stop()[0]
			if good := p.answered["v1"]; good+p.lost != p.sent || (good == 0) != c.lost || (p.lost > 0) != c.lost {
				t.Errorf("%+v\n%v", p, l.losses)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			slices.Sort(s.bodies)
			if n := len(slices.Compact(slices.Clone(s.bodies))); n != len(s.bodies) || n != p.sent {
				t.Errorf("%d requests were sent, %d arrived, %d different ones", p.sent, len(s.bodies), n)
			}
		})
	}
}

// Where nobody listens every request is lost, and the first few say why.
func TestClientRefused(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	l := startLoad(ln.Addr().String(), "only", 1, 1)
	testutil.Until(t, patience, "some requests", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.phases[0].lost > mostLosses })
	p := l.stop()[0]
	if p.lost != p.sent || len(l.losses) != mostLosses || !strings.Contains(l.losses[0], "refused") {
		t.Errorf("%+v\n%q", p, l.losses)
	}
}

// A client that keeps its connection does so until it is told that it should not.
func TestClientKeepsItsConnection(t *testing.T) {
	var s seen
	var mu sync.Mutex
	from := map[string]int{}
	srv := httptest.NewServer(s.handler(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		from[r.RemoteAddr]++
		if from[r.RemoteAddr] == 3 {
			w.Header().Set("Connection", "close")
		}
		mu.Unlock()
		echo(w, r)
	}))
	defer srv.Close()
	l := startLoad(srv.Listener.Addr().String(), "only", 1, 0)
	testutil.Until(t, patience, "three connections", func() bool { mu.Lock(); defer mu.Unlock(); return len(from) == 3 })
	if p := l.stop()[0]; p.lost > 0 {
		t.Errorf("%+v\n%v", p, l.losses)
	}
	for addr, n := range from {
		if n > 3 {
			t.Errorf("%d requests on the connection from %s", n, addr)
		}
	}
}

// A request belongs to the phase in which it was sent.
func TestPhases(t *testing.T) {
	l := &load{}
	l.begin("first")
	p := l.sent()
	l.begin("second")
	l.ended(p, "a", "", time.Second, os.ErrDeadlineExceeded)
	l.ended(l.sent(), "b", "v1", time.Millisecond, nil)
	l.rename("last")
	first, second := l.phases[0], l.phases[1]
	if first.lost != 1 || first.sent != 1 || first.slowest != time.Second || second.answered["v1"] != 1 || second.lost != 0 {
		t.Errorf("%+v, %+v", first, second)
	}
	if first.name != "first" || second.name != "last" || first.took <= 0 {
		t.Errorf("%+v, %+v", first, second)
	}
	if len(l.losses) != 1 || !strings.Contains(l.losses[0], `a, sent in "first"`) {
		t.Errorf("%q", l.losses)
	}
}

// The demo fails if a request was lost or answered by a version that must not serve.
func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		total phase
		want  string
	}{
		{phase{sent: 5, answered: map[string]int{"v1": 2, "v2": 3}}, ""},
		{phase{sent: 5, lost: 1, answered: map[string]int{"v1": 2, "v2": 2}}, "of 5 requests 1 were lost, and 0 answered by a bad version; why"},
		{phase{sent: 5, answered: map[string]int{"v1": 2, "v4": 3}}, "of 5 requests 0 were lost, and 3 answered by a bad version; why"},
	} {
		if got := strings.Join(verdict(c.total, []string{"why"}), "; "); got != c.want {
			t.Errorf("%+v: %q, want %q", c.total, got, c.want)
		}
	}
}
