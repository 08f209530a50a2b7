package session_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"

	"github.com/midair-go/midair/session"
)

// serve starts a server and asks it once.
func serve(t *testing.T, h2 bool, h http.HandlerFunc) (*site, *http.Response) {
	t.Helper()
	s := dirSite(t)
	srv := httptest.NewUnstartedServer(s.sm.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.sm.Cohort(r) // the answer has to carry the cookie
		h(w, r)
	})))
	srv.EnableHTTP2 = h2
	if h2 {
		srv.StartTLS()
	} else {
		srv.Start()
	}
	t.Cleanup(srv.Close)
	res, err := srv.Client().Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return s, res
}

// However the header goes out, the cookie goes with it, once.
func TestTheCookieGoesOutWithTheHeader(t *testing.T) {
	ways := map[string]http.HandlerFunc{
		"Nothing":     func(http.ResponseWriter, *http.Request) {},
		"WriteHeader": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) },
		"Write":       func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("x")) },
		"WriteString": func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "x") },
		"Copy": func(w http.ResponseWriter, _ *http.Request) {
			io.Copy(w, struct{ io.Reader }{strings.NewReader("xyz")})
		},
		"Flush":      func(w http.ResponseWriter, _ *http.Request) { w.(http.Flusher).Flush() },
		"Controller": func(w http.ResponseWriter, _ *http.Request) { http.NewResponseController(w).Flush() },
		"Error":      func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) },
		"Cleared": func(w http.ResponseWriter, _ *http.Request) {
			clear(w.Header())
			w.Write([]byte("x"))
		},
		"Twice": func(w http.ResponseWriter, r *http.Request) {
			session.Renew(r.Context())
			session.Destroy(r.Context())
			w.Write([]byte("x"))
			w.Write([]byte("y"))
			w.(http.Flusher).Flush()
		},
	}
	for name, h := range ways {
		for _, h2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s h2=%v", name, h2), func(t *testing.T) {
				_, res := serve(t, h2, h)
				if n := len(res.Header.Values("Set-Cookie")); n != 1 {
					t.Errorf("%d cookies", n)
				}
			})
		}
	}
}

// An informational answer carries no cookie and leaves it to the one that follows.
func TestEarlyHintsCarryNoCookie(t *testing.T) {
	s := dirSite(t)
	srv := httptest.NewServer(s.sm.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>")
		w.WriteHeader(http.StatusEarlyHints)
		if err := session.Renew(r.Context()); err != nil {
			t.Error(err)
		}
	})))
	defer srv.Close()
	hints := 0
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(_ int, h textproto.MIMEHeader) error {
			hints++
			if h.Get("Set-Cookie") != "" || h.Get("Link") == "" {
				t.Errorf("103 with %v", h)
			}
			return nil
		},
	})
	r, _ := http.NewRequestWithContext(ctx, "GET", srv.URL, nil)
	res, err := srv.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if hints != 1 || !setsCookie(res) {
		t.Errorf("%d hints, header %v", hints, res.Header)
	}
}

// A connection can be taken over, and what was put before is in the store.
func TestAHijackedRequestKeepsItsSession(t *testing.T) {
	s := dirSite(t)
	s.mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		if _, err := count(r.Context()); err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusSwitchingProtocols)
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		if _, err := count(r.Context()); err != nil {
			t.Error(err)
		}
		if err := session.Renew(r.Context()); !errors.Is(err, session.ErrHeaderSent) {
			t.Errorf("Renew = %v", err)
		}
		io.WriteString(c, "done")
	})
	srv := httptest.NewServer(s)
	defer srv.Close()
	c, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n")
	in := bufio.NewReader(c)
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if tail, err := io.ReadAll(in); string(tail) != "done" || err != nil {
		t.Errorf("%q, %v", tail, err)
	}
	v := newVisitor(t, s)
	v.cookie = res.Cookies()[0].Value
	v.want("/count", "3")
}

// Who writes the header himself, over a connection that was taken over, finds the cookie in it, and gets no other one.
func TestAHijackComesWithTheCookie(t *testing.T) {
	s := dirSite(t)
	s.mux.HandleFunc("/raw", func(w http.ResponseWriter, r *http.Request) {
		s.sm.Cohort(r)
		if _, _, err := w.(http.Hijacker).Hijack(); err == nil {
			t.Error("not the writer of the test")
		}
		if n := len(w.Header().Values("Set-Cookie")); n != 1 {
			t.Errorf("%d cookies", n)
		}
		if err := session.Renew(r.Context()); !errors.Is(err, session.ErrHeaderSent) {
			t.Errorf("Renew = %v", err)
		}
	})
	s.ServeHTTP(hijackable{httptest.NewRecorder()}, httptest.NewRequest("GET", "/raw", nil))
}

// A stream writes to its session in the middle; what needs another cookie is refused then, and does nothing.
func TestAStreamWritesInItsMiddle(t *testing.T) {
	s := dirSite(t)
	s.handle("/stream", func(r *http.Request) (string, error) { return "", nil })
	s.mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		if _, err := count(r.Context()); err != nil {
			t.Error(err)
		}
		if err := session.Renew(r.Context()); !errors.Is(err, session.ErrHeaderSent) {
			t.Errorf("Renew = %v", err)
		}
	})
	v := newVisitor(t, s)
	v.get("/cohort")
	v.get("/events")
	v.want("/count", "2")
}

// Destroy works after the header too; what is put then would be nobody's, and is refused.
func TestADestroyAfterTheHeaderIsFinal(t *testing.T) {
	s := dirSite(t)
	s.mux.HandleFunc("/late", func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		if err := session.Destroy(r.Context()); err != nil {
			t.Error(err)
		}
		if err := session.Put(r.Context(), "k", 1); !errors.Is(err, session.ErrHeaderSent) {
			t.Errorf("Put = %v", err)
		}
	})
	v := newVisitor(t, s)
	v.get("/put?k=k&v=1")
	v.get("/late")
	v.want("/get?k=k", " false")
}

// The context of a request serves its session also after the handler has returned.
func TestASessionCanBeUsedAfterTheAnswer(t *testing.T) {
	s := dirSite(t)
	var kept context.Context
	s.handle("/keep", func(r *http.Request) (string, error) {
		kept = r.Context()
		return "", nil
	})
	v := newVisitor(t, s)
	v.get("/cohort")
	v.get("/keep")
	if _, err := count(kept); err != nil {
		t.Fatal(err)
	}
	if err := session.Renew(kept); !errors.Is(err, session.ErrHeaderSent) {
		t.Errorf("Renew = %v", err)
	}
	v.want("/count", "2")
}

// A hijackable writer is asked for its connection and has none.
type hijackable struct{ http.ResponseWriter }

func (hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, errors.New("no connection")
}
