package drain

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"

	"github.com/midair-go/midair/drain/internal/life"
)

// An upgrader is the ResponseWriter of a request for a WebSocket. Its Hijack returns a wsConn.
type upgrader struct {
	answerer
	entry    *conn
	switched bool // the handler has written the status 101 before Hijack
}

var _ http.Hijacker = (*upgrader)(nil)

// Unwrap gives the original to [http.ResponseController].
func (u *upgrader) Unwrap() http.ResponseWriter { return u.answerer }

// WriteHeader writes the header, and notes the status 101.
func (u *upgrader) WriteHeader(status int) {
	u.switched = u.switched || status == http.StatusSwitchingProtocols
	u.answerer.WriteHeader(status)
}

// Hijack returns the connection. Bytes that net/http has read ahead are in the buffer, as without an upgrader.
func (u *upgrader) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	u.entry.expect(webSocket)
	nc, rw, err := u.answerer.Hijack()
	if err != nil {
		u.entry.expect("")
		return nil, nil, err
	}
	ahead, _ := rw.Reader.Peek(rw.Reader.Buffered())
	ws, given := newWSConn(nc, u.entry.course)
	if !u.entry.kind.wrapped() { // the Server sees the Close only through ws, since there is no wrapper below the TLS
		ws.onClose = func() { u.entry.happen(life.Release) }
	}
	if u.switched {
		ws.out.Answered()
	}
	u.entry.mu.Lock()
	u.entry.stream = ws
	u.entry.mu.Unlock()
	if u.entry.course.at() >= draining && !u.entry.course.keepWebSockets { // perhaps announce ran before ws was stored
		ws.tell()
	}
	r := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(bytes.Clone(ahead)), ws), rw.Reader.Size())
	_, _ = r.Peek(len(ahead)) // fills the buffer with ahead; cannot fail, since the buffer is as large as that of rw
	return given, bufio.NewReadWriter(r, bufio.NewWriter(ws)), nil
}
