package request

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
)

// A Hook is called once for each answer, just before its header is sent. If the handler panics or writes nothing, it is called
// when the handler has ended. An informational answer (1xx) calls no Hook, except 101.
type Hook interface {
	// BeforeHeader may change the header. The argument is the one of [Writer.BeforeHeader].
	BeforeHeader(h http.Header, arg uint64)
}

// A Writer wraps a ResponseWriter. The zero value is ready for Wrap. It must not be copied.
type Writer struct {
	w      http.ResponseWriter
	status atomic.Int32
	bytes  atomic.Int64
	out    atomic.Bool // the hooks have run; written under mu
	mu     sync.Mutex
	hooks  []hook
	first  [3]hook // memory of hooks
}

type hook struct {
	Hook
	arg uint64
}

// The writers that handlers get. A handler finds out by type assertion what its writer can do, so there is one type for each
// set of abilities that the writers of net/http have, and answer for any other. Each type is one pointer, so that none costs
// an allocation.
type (
	answer      struct{ *Writer }
	flushAnswer struct{ answer }      // most writers of middlewares
	http1Answer struct{ flushAnswer } // HTTP/1
	http2Answer struct{ flushAnswer } // HTTP/2
)

var (
	_ http.Flusher  = flushAnswer{}
	_ http.Hijacker = http1Answer{}
	_ io.ReaderFrom = http1Answer{}
	_ http.Pusher   = http2Answer{}
)

// own is how WriterOf finds the Writer. No type of another package has this method.
func (a answer) own() *Writer { return a.Writer }

// WriterOf returns the Writer if w was returned by Wrap. Otherwise it returns nil.
func WriterOf(w http.ResponseWriter) *Writer {
	if a, ok := w.(interface{ own() *Writer }); ok {
		return a.own()
	}
	return nil
}

// Wrap makes wr the writer around w, and returns it as a ResponseWriter that flushes, hijacks, copies and pushes if w does.
func (wr *Writer) Wrap(w http.ResponseWriter) http.ResponseWriter {
	wr.w, wr.hooks = w, wr.first[:0]
	_, flush := w.(http.Flusher)
	_, hijack := w.(http.Hijacker)
	_, push := w.(http.Pusher)
	base := flushAnswer{answer{wr}}
	switch {
	case flush && hijack:
		return http1Answer{base}
	case flush && push:
		return http2Answer{base}
	case flush:
		return base
	}
	return base.answer
}

// BeforeHeader adds a hook. The argument arg is passed to the hook. The hook that was added last is called first. BeforeHeader
// reports whether the hook was added in time: it returns false if the header was sent before.
func (wr *Writer) BeforeHeader(h Hook, arg uint64) bool {
	wr.mu.Lock()
	defer wr.mu.Unlock()
	if wr.out.Load() {
		return false
	}
	wr.hooks = append(wr.hooks, hook{h, arg})
	return true
}

// Finish calls the hooks if no header was sent. A middleware that called Wrap calls Finish when the handler has returned or
// panicked: the server, or a handler further out, may send the header after that.
func (wr *Writer) Finish() {
	if wr.out.Load() {
		return
	}
	wr.mu.Lock()
	defer wr.mu.Unlock()
	if wr.out.Load() {
		return
	}
	header := wr.w.Header()
	for i := len(wr.hooks) - 1; i >= 0; i-- {
		wr.hooks[i].BeforeHeader(header, wr.hooks[i].arg)
	}
	wr.hooks, wr.first = nil, [3]hook{}
	wr.out.Store(true)
}

// begin is called before the first byte of an answer.
func (wr *Writer) begin(status int) {
	wr.Finish()
	if wr.status.Load() == 0 {
		wr.status.CompareAndSwap(0, int32(status))
	}
}

// Status returns the status of the answer, or 0 as long as no header was sent. It is 101 after Hijack.
func (wr *Writer) Status() int { return int(wr.status.Load()) }

// Bytes returns how many bytes of the body the handler has written. Bytes that are written to a hijacked connection do not
// count.
func (wr *Writer) Bytes() int64 { return wr.bytes.Load() }

// Unwrap is for [http.ResponseController].
func (a answer) Unwrap() http.ResponseWriter { return a.w }

// Header is that of the wrapped writer.
func (a answer) Header() http.Header { return a.w.Header() }

// WriteHeader implements [http.ResponseWriter].
func (a answer) WriteHeader(status int) {
	if status >= http.StatusOK || status == http.StatusSwitchingProtocols {
		a.begin(status)
	}
	a.w.WriteHeader(status)
}

// Write implements [io.Writer].
func (a answer) Write(p []byte) (int, error) {
	a.begin(http.StatusOK)
	n, err := a.w.Write(p)
	a.bytes.Add(int64(n))
	return n, err
}

// WriteString implements [io.StringWriter].
func (a answer) WriteString(s string) (int, error) {
	a.begin(http.StatusOK)
	n, err := io.WriteString(a.w, s)
	a.bytes.Add(int64(n))
	return n, err
}

// FlushError is what [http.ResponseController] calls. Every type has the method, because the controller would otherwise flush
// the wrapped writer without the hooks.
func (a answer) FlushError() error {
	a.begin(http.StatusOK)
	return http.NewResponseController(a.w).Flush()
}

// Flush implements [http.Flusher].
func (a flushAnswer) Flush() {
	a.begin(http.StatusOK)
	a.w.(http.Flusher).Flush()
}

// Hijack implements [http.Hijacker]. A program that writes the answer to the connection itself finds the header lines of the
// hooks in Header.
func (a http1Answer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	a.Finish()
	conn, buffers, err := a.w.(http.Hijacker).Hijack()
	if err == nil {
		a.status.CompareAndSwap(0, http.StatusSwitchingProtocols)
	}
	return conn, buffers, err
}

// ReadFrom lets the kernel copy if the wrapped writer does.
func (a http1Answer) ReadFrom(r io.Reader) (int64, error) {
	a.begin(http.StatusOK)
	n, err := io.Copy(a.w, r)
	a.bytes.Add(n)
	return n, err
}

// Push implements [http.Pusher].
func (a http2Answer) Push(target string, opts *http.PushOptions) error {
	return a.w.(http.Pusher).Push(target, opts)
}
