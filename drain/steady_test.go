package drain_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/drain"
)

// While a request of HTTP/1 is read or answered, Read and SetReadDeadline take no lock. The tests in this file make the request
// end at the worst moment: in the middle of a SetReadDeadline.

// An overtaken connection calls the function before, once, before it sets a read deadline.
type overtaken struct {
	net.Conn
	before func()
}

func (c *overtaken) CloseWrite() error { return nil }

func (c *overtaken) SetReadDeadline(t time.Time) error {
	if before := c.before; before != nil {
		c.before = nil
		before()
	}
	return c.Conn.SetReadDeadline(t)
}

// inRequest returns a connection on which a request is answered, and its client.
func inRequest(t *testing.T) (below *overtaken, c net.Conn, rest func(), client net.Conn) {
	near, client := net.Pipe()
	below = &overtaken{Conn: near}
	c, rest = drain.InRequest(below)
	t.Cleanup(func() {
		c.Close()
		client.Close()
	})
	return below, c, rest, client
}

// A deadline that is set during a request is the deadline of the connection.
func TestDeadlinesDuringARequestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c, _, _ := inRequest(t)
		began := time.Now()
		c.SetReadDeadline(began.Add(time.Minute))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Minute {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}

// The client has a second to read the last answer, even if the server closes the connection while another goroutine sets a
// deadline of the request.
func TestDeadlinesOfARequestDoNotDelayTheEndOfAClosedConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		below, c, _, client := inRequest(t)
		began := time.Now()
		below.before = func() {
			c.Close()
			synctest.Wait() // until the goroutine that waits for the client has set its own deadline
		}
		if err := c.SetReadDeadline(noDeadline); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the deadline of a closed connection was accepted: %v", err)
		}
		client.SetReadDeadline(began.Add(time.Hour))
		if _, err := client.Read(make([]byte, 1)); err != io.EOF || time.Since(began) != time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}

// A drain closes an idle connection, even if the connection becomes idle while another goroutine sets a deadline of the request.
func TestDeadlinesOfARequestDoNotKeepAnIdleConnectionOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		below, c, rest, _ := inRequest(t)
		began := time.Now()
		below.before = rest
		if err := c.SetReadDeadline(began.Add(time.Hour)); err != nil {
			t.Error(err)
		}
		if _, err := c.Read(make([]byte, 4096)); err != io.EOF || time.Since(began) != 0 {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}

// An Entry shows an event stream as "sse" only as long as the handler of the stream runs.
func TestRequestsAfterAnEventStreamAreOrdinary(t *testing.T) {
	g := newGate()
	mux := http.NewServeMux()
	mux.HandleFunc("/events", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "0") })
	mux.Handle("/", g)
	s := serve(t, &http.Server{Handler: mux}, drain.Options{})
	c := s.dial()
	c.send(askEvents)
	c.answer()
	c.send("GET /later HTTP/1.1\r\nHost: x\r\n\r\n")
	<-g.entered
	if e := s.Entries(); len(e) != 1 || e[0].Protocol != "http/1.1" || e[0].Name != "GET /later" || e[0].State != "active" {
		t.Errorf("got %v", e)
	}
	close(g.open)
	c.answer()
	c.Close()
	s.stop()
	s.clean()
}
