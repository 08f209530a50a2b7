package drain

import (
	"io"
	"net/http"
)

// An answerer is the ResponseWriter of net/http for HTTP/1.
type answerer interface {
	http.ResponseWriter
	http.Flusher
	http.Hijacker
	io.ReaderFrom
	io.StringWriter
	FlushError() error
	CloseNotify() <-chan bool
}

// A lastAnswer sets "Connection: close" in its answer, at the moment when the header goes out. If the field was set earlier, it
// could be lost: a handler may set the same field, and a proxy clears the header after an informational response. An answer
// with the status 101 needs its own Connection field, so a lastAnswer leaves this field.
type lastAnswer struct {
	answerer
	committed bool // announce has nothing left to do
}

var _ answerer = (*lastAnswer)(nil)

// Unwrap gives the original to [http.ResponseController].
func (a *lastAnswer) Unwrap() http.ResponseWriter { return a.answerer }

// announce sets "Connection: close". It is called before each call that may make net/http write the header.
func (a *lastAnswer) announce() {
	if !a.committed {
		a.committed = true
		a.Header().Set("Connection", "close")
	}
}

// WriteHeader writes the header, and sets "Connection: close" unless the status is informational.
func (a *lastAnswer) WriteHeader(status int) {
	if status == http.StatusSwitchingProtocols {
		a.committed = true
	}
	if status >= http.StatusOK {
		// Announce again. A ReadFrom of no bytes calls announce, but sends no header, and the handler may have changed the
		// header since then.
		a.committed = false
		a.announce()
	}
	a.answerer.WriteHeader(status)
}

// Write calls announce, and writes p.
func (a *lastAnswer) Write(p []byte) (int, error) {
	a.announce()
	return a.answerer.Write(p)
}

// WriteString calls announce, and writes a string.
func (a *lastAnswer) WriteString(text string) (int, error) {
	a.announce()
	return a.answerer.WriteString(text)
}

// ReadFrom calls announce, and copies from r to the answer. If net/http would let the kernel copy, ReadFrom does so too.
func (a *lastAnswer) ReadFrom(r io.Reader) (int64, error) {
	a.announce()
	return a.answerer.ReadFrom(r)
}

// Flush sends what was written.
func (a *lastAnswer) Flush() { a.FlushError() }

// FlushError calls announce, sends what was written, and returns the error.
func (a *lastAnswer) FlushError() error {
	a.announce()
	return a.answerer.FlushError()
}
