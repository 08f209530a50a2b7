package drain_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/drain"
	"github.com/midair-go/midair/drain/internal/nethttpcheck"
)

// A wire is the server's side of a connection in memory. It looks like a socket whose buffer in the kernel is empty.
type wire struct {
	net.Conn
	raw    syscall.RawConn
	taken  atomic.Int64 // bytes that the server has read
	closed atomic.Bool  // by the server
}

func (w *wire) SyscallConn() (syscall.RawConn, error) { return w.raw, nil }

func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	w.taken.Add(int64(n))
	return n, err
}

func (w *wire) Close() error {
	w.closed.Store(true)
	return w.Conn.Close()
}

// say answers with all data that a handler sees of a request. If there is a header Upgrade, say echoes all bytes after the
// request.
var say = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != "" {
		head := lateHead
		if r.URL.Path == "/early" {
			head = earlyHead
		}
		nc, rw, err := head(w)
		if err != nil {
			return
		}
		defer nc.Close()
		io.Copy(nc, rw.Reader)
		return
	}
	if r.Header.Get("Accept") == "text/event-stream" {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "data: one\n\n")
		http.NewResponseController(w).Flush()
	}
	body, err := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%s %s %s %s %q %v %v %q %v\n", r.Method, r.RequestURI, r.Proto, r.Host, r.Header, r.ContentLength, r.Close, body, err)
})

// A talk is a client that sends pieces, and reads at the same time.
type talk struct {
	wire *wire
	near net.Conn
	got  bytes.Buffer
	over chan struct{}
}

// converse sends the pieces, calls the function after after each piece, and returns all bytes of the answers. It must be called
// in a bubble.
func (c *talk) converse(accept chan<- net.Conn, pieces [][]byte, after func()) string {
	var far net.Conn
	c.near, far = net.Pipe()
	c.wire.Conn = far
	accept <- c.wire
	c.over = make(chan struct{})
	go func() { // ends when near is closed
		defer close(c.over)
		io.Copy(&c.got, c.near)
	}()
	c.near.SetWriteDeadline(time.Now().Add(time.Minute))
	for _, p := range pieces {
		if _, err := c.near.Write(p); err != nil {
			break
		}
		synctest.Wait()
		after()
		synctest.Wait()
	}
	return c.got.String()
}

// whole reports whether a stream consists of whole requests. There may be line ends after a POST, since net/http skips them,
// and at most few bytes of a next request at the end.
func whole(stream []byte, few int) bool {
	r := bufio.NewReader(bytes.NewReader(stream))
	for post := false; ; {
		next, err := r.Peek(few + 1)
		if err != nil {
			return true
		}
		if post && (next[0] == '\r' || next[0] == '\n') {
			r.ReadByte()
			continue
		}
		req, err := http.ReadRequest(r)
		if err != nil {
			return false
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return false
		}
		post = req.Method == http.MethodPost
	}
}

// Whatever a client sends, and wherever the bytes are cut, the answers are the same as without drain, also if the connection is
// offered to Move after each piece. Move is asked only if whole requests were read from the connection and no byte more. A
// drain closes the connection only if fewer than four bytes of a next request were read.
func FuzzRequests(f *testing.F) {
	const get, post = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n", "POST /b?c HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
	for _, s := range []string{
		get + get, get + get[:4], get[:9], "PRINT" + get[3:] + get[:9], post + get, post + "\r\n" + get, askWebSocket + "\x81\x85\x00\x00\x00\x00hello\x88\x80\x00\x00\x00\x00",
		strings.Replace(askWebSocket, "/ws", "/early", 1) + "\x81\x80\x00\x00\x00\x00",
		"GET /e HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n" + get,
		"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n3\r\nabc\r\n0\r\nT: t\r\n\r\n" + get,
		"POST /d HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok" + get,
		"GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + get, "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" + get,
		"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n" + get, greeting, "nonsense\r\n\r\n", "GET / HTTP/1.1\r\n\r\n",
	} {
		f.Add([]byte(s), []byte{})
		f.Add([]byte(s), []byte{byte(len(s)/2 - 1), 0, 1})
		f.Add([]byte(s), bytes.Repeat([]byte{9}, len(s)/10))
	}
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { udp.Close() })
	raw, err := udp.(*net.UDPConn).SyscallConn()
	if err != nil {
		f.Fatal(err)
	}
	if !nethttpcheck.Check() { // asked here, outside of the bubbles
		f.Fatal("this net/http is not known")
	}
	f.Fuzz(func(t *testing.T, stream, cuts []byte) {
		if len(stream) > 4096 || len(cuts) > 100 { // it takes too long
			return
		}
		all := pieces(stream, cuts)
		var plain, drained string
		var open, kept bool
		synctest.Test(t, func(t *testing.T) { plain, open = talkPlain(all, raw) })
		synctest.Test(t, func(t *testing.T) { drained, kept = talkDrained(t, stream, all, raw) })
		if plain != drained {
			t.Errorf("answers differ\nwithout drain %q\nwith it       %q", plain, drained)
		}
		if open && !kept {
			t.Errorf("the drain has closed the connection within a request: %q", stream)
		}
	})
}

// talkPlain returns the answers of net/http without drain, and whether the connection is still open after them.
func talkPlain(all [][]byte, raw syscall.RawConn) (got string, open bool) {
	srv := &http.Server{Handler: say, ErrorLog: discardLog}
	ln, done := newPipeListener(), make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	c := &talk{wire: &wire{raw: raw}}
	got = c.converse(ln.conns, all, func() {})
	<-time.After(time.Minute) // net/http closes the connection some time after it has refused a request
	open = !c.wire.closed.Load()
	c.near.Close()
	srv.Close()
	<-done
	<-c.over
	return got, open
}

// talkDrained returns the answers with drain. kept is false if the drain has closed the connection although more than three
// bytes of a next request were read.
func talkDrained(t *testing.T, stream []byte, all [][]byte, raw syscall.RawConn) (got string, kept bool) {
	offers := make(chan struct{})
	b := bubbleOf(&http.Server{Handler: say, ErrorLog: discardLog}, drain.Options{
		Grace: time.Hour, Rebalance: offers, KeepWebSockets: true,
		Move: func(nc net.Conn) bool {
			if n := nc.(*wire).taken.Load(); !whole(stream[:n], 0) {
				t.Errorf("Move is asked after %q", stream[:n])
			}
			return false
		},
	})
	b.run(b.Serve)
	c := &talk{wire: &wire{raw: raw}}
	got = c.converse(b.ln.conns, all, func() { offers <- struct{}{} })
	b.end(upgraded{})
	<-time.After(time.Minute)
	kept = !c.wire.closed.Load() || whole(stream[:c.wire.taken.Load()], 3)
	c.near.Close()
	<-b.done // an error if something did not end
	<-c.over
	return got, kept
}
