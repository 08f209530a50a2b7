package request

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
)

// A Hook is called once for each answer, just before the header is sent. If the handler panics or writes nothing, the Hook is
// called when the handler has ended. An informational answer (1xx) calls no Hook, except 101.
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
	try    *try    // what Try has made; nil without Try
}

type hook struct {
	Hook
	arg uint64
}

// The writers that handlers get. A handler finds out by type assertion what its writer can do, so there is a type for each set
// of abilities of the writers in net/http and in widely used middlewares. A wrapped writer with another set has the next
// smaller one here. Each type is one pointer, so that none costs an allocation.
type (
	answer       struct{ *Writer }
	flushAnswer  struct{ answer }
	hijackAnswer struct{ answer }       // a middleware for websockets
	bothAnswer   struct{ hijackAnswer } // a middleware around HTTP/1
	pushAnswer   struct{ flushAnswer }  // a middleware around HTTP/2
	http1Answer  struct{ bothAnswer }
	http2Answer  struct{ pushAnswer }
)

// closeNotifier is http.CloseNotifier, which is deprecated. The package gin needs it: Stream of gin's context panics without.
type closeNotifier interface{ CloseNotify() <-chan bool }

var (
	_ http.Flusher  = flushAnswer{}
	_ http.Hijacker = hijackAnswer{}
	_ io.ReaderFrom = hijackAnswer{}
	_ http.Flusher  = bothAnswer{}
	_ http.Pusher   = pushAnswer{}
	_ closeNotifier = http1Answer{}
	_ closeNotifier = http2Answer{}
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

// Wrap makes wr the writer around w, and returns it as a ResponseWriter that flushes, hijacks, copies and pushes if w does. It
// also hijacks if a writer does that is found by Unwrap, because [http.ResponseController] would find that one too, and would
// not call the hooks.
func (wr *Writer) Wrap(w http.ResponseWriter) http.ResponseWriter {
	wr.w, wr.hooks = w, wr.first[:0]
	_, flush := w.(http.Flusher)
	_, push := w.(http.Pusher)
	_, notify := w.(closeNotifier)
	hijack := reaches[http.Hijacker](w)
	base := answer{wr}
	switch {
	case hijack && flush && notify:
		return http1Answer{bothAnswer{hijackAnswer{base}}}
	case hijack && flush:
		return bothAnswer{hijackAnswer{base}}
	case hijack:
		return hijackAnswer{base}
	case push && flush && notify:
		return http2Answer{pushAnswer{flushAnswer{base}}}
	case push && flush:
		return pushAnswer{flushAnswer{base}}
	case flush:
		return flushAnswer{base}
	}
	return base
}

// reaches reports whether w, or a writer that is found by Unwrap, is a T.
func reaches[T any](w http.ResponseWriter) bool {
	for {
		if _, ok := w.(T); ok {
			return true
		}
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return false
		}
		w = u.Unwrap()
	}
}

// BeforeHeader adds a hook. The argument arg is passed to the hook. The hook that was added last is called first. BeforeHeader
// reports whether the hook was added in time: the result is false if the header was sent before.
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
	header := wr.header()
	for n := len(wr.hooks); n > 0; n-- {
		last := wr.hooks[n-1]
		wr.hooks = wr.hooks[:n-1] // a hook that panics is not called again
		last.BeforeHeader(header, last.arg)
	}
	wr.hooks, wr.first = nil, [3]hook{}
	wr.out.Store(true)
}

// header is the header that handlers see.
func (wr *Writer) header() http.Header {
	if wr.try != nil {
		return wr.try.header
	}
	return wr.w.Header()
}

// begin is called before the first byte of an answer. The error is that of a dropped try.
func (wr *Writer) begin(status int) error {
	if wr.try != nil {
		return wr.beginTry(status)
	}
	wr.Finish()
	if wr.status.Load() == 0 {
		wr.status.CompareAndSwap(0, int32(status))
	}
	return nil
}

// Status returns the status of the answer, or 0 as long as no header was sent. A handler that returns with 0 leaves it to the
// server to send 200. The status is 101 after Hijack.
func (wr *Writer) Status() int { return int(wr.status.Load()) }

// Bytes returns how many bytes of the body the handler has written. Bytes that are written to a hijacked connection do not
// count.
func (wr *Writer) Bytes() int64 { return wr.bytes.Load() }

// Unwrap is for [http.ResponseController].
func (a answer) Unwrap() http.ResponseWriter { return a.w }

// Header is that of the wrapped writer, or the own one of a try.
func (a answer) Header() http.Header { return a.header() }

// WriteHeader implements [http.ResponseWriter]. As in net/http, a status that cannot be sent is a panic, and nothing is sent.
func (a answer) WriteHeader(status int) {
	if (status < 100 || status > 999) && a.Status() == 0 {
		panic(fmt.Sprintf("invalid WriteHeader code %v", status))
	}
	final := status >= http.StatusOK || status == http.StatusSwitchingProtocols
	if final && a.begin(status) != nil || !final && a.inform() != nil {
		return
	}
	a.w.WriteHeader(status)
	if now, ok := a.w.(interface{ WriteHeaderNow() }); ok && status == http.StatusSwitchingProtocols {
		now.WriteHeaderNow() // gin keeps the status back, and libraries for WebSockets look for this method before they hijack
	}
}

// Write implements [io.Writer].
func (a answer) Write(p []byte) (int, error) {
	if err := a.begin(http.StatusOK); err != nil {
		return 0, err
	}
	n, err := a.w.Write(p)
	a.bytes.Add(int64(n))
	return n, err
}

// WriteString implements [io.StringWriter].
func (a answer) WriteString(s string) (int, error) {
	if err := a.begin(http.StatusOK); err != nil {
		return 0, err
	}
	n, err := io.WriteString(a.w, s)
	a.bytes.Add(int64(n))
	return n, err
}

// FlushError is what [http.ResponseController] calls. Every type has the method, because the controller would otherwise flush
// the wrapped writer without the hooks. If no writer can flush, nothing is sent and no hook is called.
func (a answer) FlushError() error {
	if !reaches[http.Flusher](a.w) && !reaches[interface{ FlushError() error }](a.w) {
		return http.ErrNotSupported
	}
	if err := a.begin(http.StatusOK); err != nil {
		return err
	}
	return http.NewResponseController(a.w).Flush()
}

// Flush implements [http.Flusher].
func (a flushAnswer) Flush() {
	if a.begin(http.StatusOK) == nil {
		a.w.(http.Flusher).Flush()
	}
}

// Flush implements [http.Flusher].
func (a bothAnswer) Flush() { flushAnswer{a.answer}.Flush() }

// Hijack implements [http.Hijacker]. A program that writes the answer to the connection itself finds the header lines of the
// hooks in Header.
func (a hijackAnswer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if err := a.inform(); err != nil {
		return nil, nil, err
	}
	a.Finish()
	conn, buffers, err := http.NewResponseController(a.w).Hijack()
	if err == nil {
		a.status.CompareAndSwap(0, http.StatusSwitchingProtocols)
	}
	return conn, buffers, err
}

// ReadFrom lets the kernel copy if the wrapped writer does. Before the header is sent, it writes the first bytes itself: net/http
// sends no header if there are none, and the handler may answer with an error then.
func (a hijackAnswer) ReadFrom(r io.Reader) (int64, error) {
	var n int64
	if a.Status() == 0 {
		var err error
		n, err = io.Copy(struct{ io.Writer }{a.answer}, io.LimitReader(r, sniffed))
		if err != nil || n < sniffed {
			return n, err
		}
	}
	m, err := io.Copy(a.w, r)
	a.bytes.Add(m)
	return n + m, err
}

// sniffed is how many bytes net/http looks at to find the type of the content, so that it writes as many by itself, too.
const sniffed = 512

// Push implements [http.Pusher].
func (a pushAnswer) Push(target string, opts *http.PushOptions) error {
	if err := a.inform(); err != nil {
		return err
	}
	return a.w.(http.Pusher).Push(target, opts)
}

// CloseNotify implements http.CloseNotifier.
func (a http1Answer) CloseNotify() <-chan bool { return a.w.(closeNotifier).CloseNotify() }

// CloseNotify implements http.CloseNotifier.
func (a http2Answer) CloseNotify() <-chan bool { return a.w.(closeNotifier).CloseNotify() }
