package session

import (
	"bufio"
	"io"
	"net"
	"net/http"
)

// The writers that handlers get. A handler finds out what its writer can do by type assertion, so there is one for each
// set of abilities that writers of net/http have, and answer for anything less. Each is a pointer, so that none costs an
// allocation.
type (
	answer      struct{ v *visit }
	flushAnswer struct{ answer }      // the writer of a middleware further out, mostly
	http1Answer struct{ flushAnswer } // HTTP/1
	http2Answer struct{ flushAnswer } // HTTP/2
)

var (
	_ http.Flusher  = flushAnswer{}
	_ http.Hijacker = http1Answer{}
	_ io.ReaderFrom = http1Answer{}
	_ http.Pusher   = http2Answer{}
)

// writer wraps the writer of the request.
func (v *visit) writer() http.ResponseWriter {
	_, flush := v.w.(http.Flusher)
	_, hijack := v.w.(http.Hijacker)
	_, push := v.w.(http.Pusher)
	base := flushAnswer{answer{v}}
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

// Unwrap is for [http.ResponseController].
func (a answer) Unwrap() http.ResponseWriter { return a.v.w }

// Header is that of the wrapped writer.
func (a answer) Header() http.Header { return a.v.w.Header() }

// WriteHeader sends the cookie along, but not with an informational answer.
func (a answer) WriteHeader(status int) {
	if status >= http.StatusOK || status == http.StatusSwitchingProtocols {
		a.v.sendCookie()
	}
	a.v.w.WriteHeader(status)
}

// Write implements [io.Writer].
func (a answer) Write(p []byte) (int, error) {
	a.v.sendCookie()
	return a.v.w.Write(p)
}

// WriteString implements [io.StringWriter].
func (a answer) WriteString(s string) (int, error) {
	a.v.sendCookie()
	return io.WriteString(a.v.w, s)
}

// FlushError is what [http.ResponseController] calls. It is there for every writer: without it the controller would
// go to the wrapped one, past the cookie.
func (a answer) FlushError() error {
	a.v.sendCookie()
	return http.NewResponseController(a.v.w).Flush()
}

// Flush implements [http.Flusher].
func (a flushAnswer) Flush() {
	a.v.sendCookie()
	a.v.w.(http.Flusher).Flush()
}

// Hijack implements [http.Hijacker]. The cookie is put into the header, which is of use only to who writes it himself.
func (a http1Answer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	a.v.sendCookie()
	return a.v.w.(http.Hijacker).Hijack()
}

// ReadFrom lets the kernel copy, where the wrapped writer can.
func (a http1Answer) ReadFrom(r io.Reader) (int64, error) {
	a.v.sendCookie()
	return io.Copy(a.v.w, r)
}

// Push implements [http.Pusher].
func (a http2Answer) Push(target string, opts *http.PushOptions) error {
	return a.v.w.(http.Pusher).Push(target, opts)
}
