package certs_test

import (
	"bytes"
	"io"
	"net"
	"sync"
	"time"
)

// wire is one direction of a connection in memory. Its Write does not wait for Read, as net.Pipe does: a server of TLS 1.3
// writes while the client writes.
type wire struct {
	mu     sync.Mutex
	more   *sync.Cond
	b      bytes.Buffer
	closed bool
}

func newWire() *wire {
	w := &wire{}
	w.more = sync.NewCond(&w.mu)
	return w
}

func (w *wire) Read(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.b.Len() == 0 && !w.closed {
		w.more.Wait()
	}
	return w.b.Read(b)
}

func (w *wire) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return 0, io.ErrClosedPipe
	}
	w.more.Broadcast()
	return w.b.Write(b)
}

func (w *wire) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.more.Broadcast()
}

// end is one end of a connection in memory.
type end struct {
	io.Reader
	io.Writer
	in, out *wire
}

func newPipe() (near, far net.Conn) {
	a, b := newWire(), newWire()
	return end{a, b, a, b}, end{b, a, b, a}
}

func (e end) Close() error {
	e.in.close()
	e.out.close()
	return nil
}

func (end) LocalAddr() net.Addr              { return &net.UnixAddr{Name: "memory"} }
func (end) RemoteAddr() net.Addr             { return &net.UnixAddr{Name: "memory"} }
func (end) SetDeadline(time.Time) error      { return nil }
func (end) SetReadDeadline(time.Time) error  { return nil }
func (end) SetWriteDeadline(time.Time) error { return nil }
