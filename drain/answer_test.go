package drain_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/midair-go/midair/drain"
)

// inDrain begins the drain of a service of h with a connection that has sent nothing yet.
func inDrain(t *testing.T, h http.Handler) (*service, *client) {
	t.Helper()
	s := serve(t, &http.Server{Handler: h}, drain.Options{})
	c := s.dial()
	s.until("accepted", func() bool { return s.Status().New == 1 })
	s.stop()
	return s, c
}

// Every answer to a request in the drain announces the end, in whatever way the handler writes the answer, and even if the
// handler sets the field Connection itself.
func TestLastAnswersAnnounceTheEnd(t *testing.T) {
	for name, write := range map[string]func(http.ResponseWriter){
		"nothing":     func(http.ResponseWriter) {},
		"Write":       func(w http.ResponseWriter) { w.Write([]byte("x")) },
		"WriteString": func(w http.ResponseWriter) { io.WriteString(w, "x") },
		"WriteHeader": func(w http.ResponseWriter) { w.WriteHeader(http.StatusTeapot) },
		"ReadFrom":    func(w http.ResponseWriter) { io.Copy(w, io.LimitReader(zeros{}, 10_000)) },
		"Flush":       func(w http.ResponseWriter) { w.(http.Flusher).Flush() },
		"FlushError":  func(w http.ResponseWriter) { http.NewResponseController(w).Flush() },
		"nothing, then an error": func(w http.ResponseWriter) {
			io.Copy(w, io.LimitReader(zeros{}, 0))
			w.Header().Set("Connection", "keep-alive")
			http.Error(w, "late", http.StatusInternalServerError)
		},
		"informational": func(w http.ResponseWriter) {
			w.Header().Set("Link", "</style.css>")
			w.WriteHeader(http.StatusEarlyHints)
			clear(w.Header())
			io.WriteString(w, "x")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, c := inDrain(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Connection", "keep-alive")
				write(w)
			}))
			c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			a := c.answer()
			if a.status == http.StatusEarlyHints {
				a = c.answer()
			}
			if !a.close {
				t.Errorf("answer %+v", a)
			}
			c.closed()
			s.clean()
		})
	}
}

// back starts a server to which a proxy passes requests on.
func back(t *testing.T, h http.HandlerFunc) *httputil.ReverseProxy {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	to, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return &httputil.ReverseProxy{Transport: tr, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}
}

// A proxy clears the header after it has passed on an informational response. The answer still announces the end.
func TestLastAnswersOfAProxyAnnounceTheEnd(t *testing.T) {
	s, c := inDrain(t, back(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		io.WriteString(w, "hello")
	}))
	if a := c.get("/"); a.status != http.StatusEarlyHints {
		t.Errorf("answer %+v", a)
	}
	wantBody(t, c.answer(), "hello", true)
	c.closed()
	s.clean()
}

// An answer with status 101 does not announce the end, because the connection has another protocol from then on.
func TestSwitchingProtocolsIsNoLastAnswer(t *testing.T) {
	s, c := inDrain(t, back(t, func(w http.ResponseWriter, _ *http.Request) {
		nc, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		io.WriteString(nc, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello")
		nc.Close()
	}))
	c.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	all, err := io.ReadAll(c.r)
	if err != nil {
		t.Fatal(err)
	}
	contains(t, string(all), "101 Switching Protocols", "Connection: Upgrade", "hello")
	if strings.Contains(string(all), "close") {
		t.Errorf("it announces an end: %q", all)
	}
	c.Close()
	s.clean()
}

// The ResponseWriter of a request in a drain has the same methods as before the drain.
func TestLastAnswersKeepTheAbilitiesOfTheWriter(t *testing.T) {
	tried := make(chan struct{})
	s, c := inDrain(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		defer close(tried)
		ctl := http.NewResponseController(w)
		for name, err := range map[string]error{
			"EnableFullDuplex": ctl.EnableFullDuplex(), "Flush": ctl.Flush(),
			"SetReadDeadline": ctl.SetReadDeadline(noDeadline), "SetWriteDeadline": ctl.SetWriteDeadline(noDeadline),
		} {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, ok := w.(interface{ CloseNotify() <-chan bool }); !ok {
			t.Error("CloseNotify is hidden")
		}
		nc, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		nc.Close()
	}))
	c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-tried
	c.ends()
	s.clean()
}

// The kernel copies files in a drain too.
func TestLastAnswersAreCopiedByTheKernel(t *testing.T) {
	var copied atomic.Int64
	s := serveWrapped(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100000")
		io.Copy(w, io.LimitReader(zeros{}, 100_000))
	}), drain.Options{}, func(c *net.TCPConn) net.Conn { return copyConn{c, &copied} })
	c := s.dial()
	s.until("accepted", func() bool { return s.Status().New == 1 })
	s.stop()
	a := c.get("/")
	c.closed()
	s.clean()
	if len(a.body) != 100_000 || !a.close || copied.Load() < 90_000 {
		t.Errorf("%d bytes, %d of them copied, close %v", len(a.body), copied.Load(), a.close)
	}
}

// A WebSocket server that hijacks the connection in a drain gets the bytes that net/http has read ahead.
func TestLastAnswersAreHijacked(t *testing.T) {
	s, c := inDrain(t, hijack)
	c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\nhello")
	got, err := bufio.NewReader(io.LimitReader(c, 5)).ReadString(0)
	if err != io.EOF || got != "hello" {
		t.Errorf("%q, %v", got, err)
	}
	c.Conn.(*net.TCPConn).CloseWrite()
	c.closed()
	s.clean()
}

// An answer that net/http itself gives does not announce the end. The connection is served on, and closed when it is due.
func TestOptionsOfTheServerAreAnswered(t *testing.T) {
	s := serve(t, &http.Server{Handler: echo}, drain.Options{IdleGrace: 100 * time.Millisecond})
	c := s.dial()
	s.until("accepted", func() bool { return s.Status().New == 1 })
	s.stop()
	c.send("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")
	wantBody(t, c.answer(), "", false)
	c.closed()
	s.clean()
}
