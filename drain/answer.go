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

// A lastAnswer announces the end of its connection as the header goes out: a field that is set before may be lost, since
// a handler may set the field, and a proxy clears the header after an informational response. An answer with a switch of
// protocols keeps its own field.
type lastAnswer struct {
	answerer
	committed bool
}

var _ answerer = (*lastAnswer)(nil)

// Unwrap gives the original to [http.ResponseController].
func (a *lastAnswer) Unwrap() http.ResponseWriter { return a.answerer }

// announce is called before whatever makes net/http write the header.
func (a *lastAnswer) announce() {
	if !a.committed {
		a.committed = true
		a.Header().Set("Connection", "close")
	}
}

// WriteHeader announces the end with a final status.
func (a *lastAnswer) WriteHeader(status int) {
	if status == http.StatusSwitchingProtocols {
		a.committed = true
	}
	if status >= http.StatusOK {
		a.committed = false // a ReadFrom of nothing has not sent a header
		a.announce()
	}
	a.answerer.WriteHeader(status)
}

// Write writes.
func (a *lastAnswer) Write(p []byte) (int, error) {
	a.announce()
	return a.answerer.Write(p)
}

// WriteString writes a string.
func (a *lastAnswer) WriteString(text string) (int, error) {
	a.announce()
	return a.answerer.WriteString(text)
}

// ReadFrom lets the kernel copy.
func (a *lastAnswer) ReadFrom(r io.Reader) (int64, error) {
	a.announce()
	return a.answerer.ReadFrom(r)
}

// Flush sends what was written.
func (a *lastAnswer) Flush() { a.FlushError() }

// FlushError is Flush with an error.
func (a *lastAnswer) FlushError() error {
	a.announce()
	return a.answerer.FlushError()
}
