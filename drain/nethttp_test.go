package drain_test

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/drain"
)

// A server that reads as net/http does, but for one thing.
type quirk struct {
	size      int    // of its buffer
	inner     bool   // it reads ahead into a buffer below that one
	noIdle    bool   // it does not say that the connection is idle
	deadlines int    // how many it sets for the idle time
	header    int    // and how many more inside a header
	lastWord  string // what it says when the client has gone
}

func (q quirk) serve(srv *http.Server, ln net.Listener) {
	c, err := ln.Accept()
	if err != nil {
		return
	}
	defer c.Close()
	srv.ConnState(c, http.StateNew)
	var below io.Reader = c
	if q.inner {
		below = struct{ io.Reader }{bufio.NewReader(c)}
	}
	r := bufio.NewReaderSize(below, q.size)
	for {
		srv.ConnState(c, http.StateActive)
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		if !q.noIdle {
			srv.ConnState(c, http.StateIdle)
		}
		for range q.deadlines {
			c.SetReadDeadline(time.Now().Add(time.Minute))
		}
		if _, err := r.Peek(4); err != nil {
			if q.lastWord != "" {
				io.WriteString(c, q.lastWord)
			}
			return
		}
		for range q.header {
			c.SetReadDeadline(time.Now().Add(time.Minute))
		}
		if _, err := r.Peek(q.size); err != nil { // the rest of a header
			return
		}
	}
}

// The net/http of this build reads as Move needs it.
func TestNetHTTPReadsAsKnown(t *testing.T) {
	if !drain.ReadsAsKnown() {
		t.Error("it does not: no connection will move")
	}
}

// Another net/http is told from the known one by whatever Move depends on.
func TestUnknownNetHTTPIsFoundOut(t *testing.T) {
	known := quirk{size: 4096, deadlines: 1, header: 1}
	if !drain.Watch(known.serve) {
		t.Fatal("the stand-in of the known one is not known")
	}
	for name, change := range map[string]func(*quirk){
		"odd buffer":         func(q *quirk) { q.size = 4000 },
		"reads ahead":        func(q *quirk) { q.inner = true },
		"never idle":         func(q *quirk) { q.noIdle = true },
		"more deadlines":     func(q *quirk) { q.deadlines = 2 },
		"no header deadline": func(q *quirk) { q.header = 0 },
		"a last word":        func(q *quirk) { q.lastWord = "HTTP/1.1 408 Request Timeout\r\n\r\n" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := known
			change(&q)
			if drain.Watch(q.serve) {
				t.Error("it passes for the known one")
			}
		})
	}
}

// With an unknown net/http nothing moves, and the drain does its work.
func TestUnknownNetHTTPMovesNothing(t *testing.T) {
	defer drain.SetReadsAsKnown(false)()
	offers := make(chan struct{}, 1)
	var logged strings.Builder
	s := serve(t, &http.Server{Handler: echo}, drain.Options{
		Logger:    slog.New(slog.NewTextHandler(&logged, nil)),
		IdleGrace: time.Nanosecond, Offers: offers,
		Move: func(net.Conn) bool { t.Error("Move was asked"); return false },
	})
	c := s.dial()
	wantBody(t, c.get("/one"), "/one", false)
	offers <- struct{}{}
	wantBody(t, c.get("/two"), "/two", false)
	s.handOver()
	c.closed()
	s.clean()
	if !strings.Contains(logged.String(), "this net/http reads in an unknown way") {
		t.Errorf("the log does not say so: %s", &logged)
	}
}
