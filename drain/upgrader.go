package drain

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"

	"github.com/midair-go/midair/drain/internal/life"
)

// An upgrader hands out a connection that knows the frames of WebSocket.
type upgrader struct {
	answerer
	entry    *conn
	switched bool // the answer was written before the connection was handed out
}

var _ http.Hijacker = (*upgrader)(nil)

// Unwrap gives the original to [http.ResponseController].
func (u *upgrader) Unwrap() http.ResponseWriter { return u.answerer }

// WriteHeader notes the answer that switches protocols.
func (u *upgrader) WriteHeader(status int) {
	u.switched = u.switched || status == http.StatusSwitchingProtocols
	u.answerer.WriteHeader(status)
}

// Hijack hands out the connection. What net/http has read ahead is in the buffer, as without an upgrader.
func (u *upgrader) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	u.entry.expect(webSocket)
	nc, rw, err := u.answerer.Hijack()
	if err != nil {
		u.entry.expect("")
		return nil, nil, err
	}
	ahead, _ := rw.Reader.Peek(rw.Reader.Buffered())
	ws, given := newWSConn(nc, u.entry.course)
	if !u.entry.kind.wrapped() { // no wrapper sees the Close
		ws.onClose = func() { u.entry.happen(life.Release) }
	}
	if u.switched {
		ws.out.Answered()
	}
	u.entry.mu.Lock()
	u.entry.stream = ws
	u.entry.mu.Unlock()
	if u.entry.course.at() >= draining && !u.entry.course.keepWebSockets { // announce may have looked before ws was there
		ws.tell()
	}
	r := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(bytes.Clone(ahead)), ws), rw.Reader.Size())
	_, _ = r.Peek(len(ahead)) // it has room for them, as the one before has
	return given, bufio.NewReadWriter(r, bufio.NewWriter(ws)), nil
}
