package drain_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/drain"
)

// The corpus in testdata was recorded. It has the bytes that clients of net/http, curl, grpc-go, coder/websocket and
// gorilla/websocket sent to a server that drained.

// A script is a connection in memory. Each Read returns a piece of pieces, and a Read after the last piece returns io.EOF.
type script struct {
	net.Conn
	pieces   [][]byte
	stops    []int // how many bytes were taken before each Read
	at       int   // how many bytes were taken
	when     int   // the number of the Read in which do is called
	do       func()
	deadline time.Time
}

// The Read with the number when calls do. A Read after a deadline in the past fails at once.
func (s *script) Read(p []byte) (int, error) {
	s.stops = append(s.stops, s.at)
	if s.do != nil && len(s.stops)-1 == s.when {
		s.do()
	}
	switch {
	case !s.deadline.IsZero() && s.deadline.Before(time.Now()):
		return 0, os.ErrDeadlineExceeded
	case len(s.pieces) == 0:
		return 0, io.EOF
	}
	n := copy(p, s.pieces[0])
	s.at += n
	if s.pieces[0] = s.pieces[0][n:]; len(s.pieces[0]) == 0 {
		s.pieces = s.pieces[1:]
	}
	return n, nil
}

func (s *script) SetReadDeadline(t time.Time) error { s.deadline = t; return nil }

// pieces cuts a stream into pieces of 1+cuts[i] bytes and the rest.
func pieces(stream, cuts []byte) (all [][]byte) {
	for len(stream) > 0 {
		n := len(stream)
		if len(cuts) > 0 {
			n, cuts = min(n, 1+int(cuts[0])), cuts[1:]
		}
		all = append(all, stream[:n])
		stream = stream[n:]
	}
	return all
}

// A new connection counts as HTTP/2 if its first bytes are the bytes that net/http looks for, wherever the bytes are cut. All
// bytes of the client are passed on unchanged.
func FuzzFirstBytes(f *testing.F) {
	const begins = "PRI * HTTP/2.0"
	f.Add([]byte(greeting+frame{kind: settings}.String()), []byte{})
	f.Add([]byte(greeting), []byte{13, 9})
	f.Add([]byte(greeting), []byte{0, 0, 5})
	f.Add([]byte("PRINT /job HTTP/1.1\r\nHost: x\r\n\r\n"), []byte{13, 3})
	f.Add([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), []byte{2})
	f.Add([]byte("\n"+greeting), []byte{0})
	f.Fuzz(func(t *testing.T, stream, cuts []byte) {
		c, isHTTP2 := drain.NewConn(&script{pieces: pieces(stream, cuts)})
		var got []byte
		buf := make([]byte, 64)
		for ended := false; !ended; {
			n, err := c.Read(buf)
			got = append(got, buf[:n]...)
			if want := bytes.HasPrefix(got, []byte(begins)); isHTTP2() != want {
				t.Fatalf("after %q HTTP/2 is %v", got, isHTTP2())
			}
			ended = err != nil
		}
		if !bytes.Equal(got, stream) {
			t.Errorf("read %q of %q", got, stream)
		}
	})
}

// A GET without a body asks for a WebSocket if its only header Upgrade is "websocket", in upper or lower case, and Connection
// names Upgrade. It asks for events if its only header Accept is "text/event-stream". A letter outside ASCII does not count as
// equal to a letter of the words. Another request asks for neither.
func FuzzRequestKind(f *testing.F) {
	for _, value := range []string{"websocket", "WebSocket", "websocket, h2c", "h2c", "web\u017focket", "websoc\u212aet"} {
		f.Add("Upgrade", value, true)
		f.Add("upgrade", value, false)
	}
	f.Add("Accept", "text/event-stream", true)
	f.Add("Accept", "text/event-stream", false)
	f.Add("Accept", "text/event-stream, */*", true)
	f.Fuzz(func(t *testing.T, name, value string, alone bool) {
		h := http.Header{"Connection": {"keep-alive, Upgrade"}}
		h.Add(name, value)
		if !alone {
			h.Add(name, value)
		}
		word := strings.Map(func(c rune) rune {
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			return c
		}, value)
		r, name := &http.Request{Method: "GET", ProtoMajor: 1, ProtoMinor: 1, Header: h}, http.CanonicalHeaderKey(name)
		if got := drain.AsksForWebSocket(r); got != (name == "Upgrade" && alone && word == "websocket") {
			t.Errorf("%q asks for a WebSocket: %v", h, got)
		}
		if got := drain.AsksForEvents(r); got != (name == "Accept" && alone && value == "text/event-stream") {
			t.Errorf("%q asks for events: %v", h, got)
		}
		other, body, chunked := *r, *r, *r
		other.Method, body.ContentLength, chunked.TransferEncoding = "POST", -1, []string{"chunked"}
		for _, r := range []*http.Request{&other, &body, &chunked} {
			if drain.AsksForWebSocket(r) || drain.AsksForEvents(r) {
				t.Errorf("%s with a body of %d bytes and %q is ended by a rule", r.Method, r.ContentLength, h)
			}
		}
	})
}
