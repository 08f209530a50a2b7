package drain_test

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/midair-go/midair/drain"
)

// A method of HTTP/1 may begin with the same bytes as the preface of HTTP/2. The next request on the connection is answered,
// even if a drain finds only a part of the request.
func TestMethodsThatBeginAsThePrefaceAreHTTP1(t *testing.T) {
	s := serve(t, &http.Server{Handler: echo}, drain.Options{IdleGrace: time.Nanosecond, Grace: time.Hour})
	c := s.dial()
	c.send("PRINT /one HTTP/1.1\r\nHost: x\r\n\r\n")
	wantBody(t, c.answer(), "/one", false)
	if e := s.Entries(); len(e) != 1 || e[0].Protocol != "http/1.1" {
		t.Errorf("entries %+v", e)
	}
	s.until("idle", func() bool { return s.Status().Idle == 1 })
	c.send("PRINT /two HT")
	s.until("it has begun", func() bool { return drain.Begun(s.Server) == 1 })
	s.handOver()
	c.quiet()
	c.send("TP/1.1\r\nHost: x\r\n\r\n")
	wantBody(t, c.answer(), "/two", true)
	c.closed()
	s.clean()
}

// ownHTTP2 serves HTTP/2 in place of net/http: it reports the connection as idle, and reads until the end.
func ownHTTP2(srv *http.Server, c *tls.Conn, _ http.Handler) {
	nc := c.NetConn().(interface{ UnencryptedNetConn() net.Conn }).UnencryptedNetConn()
	defer nc.Close()
	srv.ConnState(nc, http.StateIdle)
	nc.Read(make([]byte, 512))
}

// A preface that comes in pieces is recognized: a connection of HTTP/2 is not offered to Move, even if net/http does not serve
// it.
func TestPrefaceInPiecesIsHTTP2(t *testing.T) {
	s := serve(t, &http.Server{
		Handler: echo, Protocols: both(),
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){"h2": ownHTTP2, "unencrypted_http2": ownHTTP2},
	}, drain.Options{
		IdleGrace: time.Nanosecond, Grace: time.Hour,
		Move: func(net.Conn) bool { t.Error("a connection of HTTP/2 is offered"); return false },
	})
	c := s.dial()
	c.send(greeting[:1])
	s.until("a byte was read", func() bool { return drain.Touched(s.Server) == 1 })
	c.send(greeting[1:])
	s.until("idle", func() bool { return s.Status().Idle == 1 })
	if e := s.Entries(); len(e) != 1 || e[0].Protocol != "http/2" {
		t.Errorf("entries %+v", e)
	}
	s.handOver()
	c.closed()
	s.clean()
}

// Rebalance wants a new connection to be offered, and then the preface of HTTP/2 comes: the connection is not offered, because
// Move is only for HTTP/1.
func TestPrefaceTakesAnOfferBack(t *testing.T) {
	offers := make(chan struct{})
	s := serve(t, &http.Server{
		Handler: echo, Protocols: both(),
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){"h2": ownHTTP2, "unencrypted_http2": ownHTTP2},
	}, drain.Options{
		IdleGrace: time.Nanosecond, Grace: time.Hour, Rebalance: offers,
		Move: func(net.Conn) bool { t.Error("a connection of HTTP/2 is offered"); return false },
	})
	c := s.dial()
	s.until("it is accepted", func() bool { return s.Status().New == 1 })
	for range 2 { // when the second is received, the first has had its effect
		offers <- struct{}{}
	}
	c.send(greeting)
	s.until("idle", func() bool { return s.Status().Idle == 1 })
	c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)) // an offer would come at once
	if _, err := c.r.ReadByte(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
	c.SetReadDeadline(time.Time{})
	s.handOver()
	c.closed()
	s.clean()
}
