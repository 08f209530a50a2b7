package nethttpcheck_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/drain/internal/nethttpcheck"
)

// A quirk is a server that reads as net/http does, with one difference.
type quirk struct {
	size      int    // of the buffer
	inner     bool   // the server reads ahead into a second buffer, below the first
	noIdle    bool   // ConnState is not told that the connection is idle
	deadlines int    // how many read deadlines are set for the idle time
	header    int    // how many more read deadlines are set inside a header
	lastWord  string // what the server writes after the client has closed
	mute      bool   // no request is answered
	deaf      bool   // nothing is read after the first answer
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
		if q.mute {
			io.Copy(io.Discard, c)
			return
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		if !q.noIdle {
			srv.ConnState(c, http.StateIdle)
		}
		if q.deaf {
			io.WriteString(c, "more") // nobody reads this: Write returns at the end of the connection
			return
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
	if !nethttpcheck.Check() {
		t.Error("it does not: no connection will move")
	}
}

// Check notices each difference to the known net/http that matters for Move.
func TestUnknownNetHTTPIsFoundOut(t *testing.T) {
	known := quirk{size: 4096, deadlines: 1, header: 1}
	if good, _ := nethttpcheck.Run(known.serve); !good {
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
			if good, _ := nethttpcheck.Run(q.serve); good {
				t.Error("it passes for the known one")
			}
		})
	}
}

// If net/http takes too long for a step, late is true: this is not the result for a net/http that reads in another way.
func TestSlowNetHTTPIsLate(t *testing.T) {
	known := quirk{size: 4096, deadlines: 1, header: 1}
	for name, change := range map[string]func(*quirk){
		"no answer":       func(q *quirk) { q.mute = true },
		"no further read": func(q *quirk) { q.deaf = true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := known
				change(&q)
				since := time.Now()
				if good, late := nethttpcheck.Run(q.serve); good || !late {
					t.Errorf("good %v, late %v", good, late)
				}
				if took := time.Since(since); took != time.Second {
					t.Errorf("that took %v", took)
				}
			})
		})
	}
}

// Calls at the same time agree.
func TestCallsAtTheSameTimeAgree(t *testing.T) {
	answers := make(chan bool, 10)
	for range cap(answers) {
		go func() { answers <- nethttpcheck.Check() }()
	}
	for range cap(answers) {
		if !<-answers {
			t.Error("a call found net/http unknown")
		}
	}
}
