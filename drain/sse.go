package drain

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	// A client of an event stream comes back after a time between these two, each after its own.
	retryFirst, retryLast = 500 * time.Millisecond, 2500 * time.Millisecond
)

// retry is what tells a client when to come back.
func retry() string {
	d := retryFirst + rand.N(retryLast-retryFirst)
	return fmt.Sprintf("retry: %d\n\n", d.Milliseconds())
}

// stream serves a request for events. One of the drain is not begun: an event stream that says when to come back and
// ends is what its client understands; on another status than 200 it would give up.
func (h *handler) stream(w http.ResponseWriter, r *http.Request, c *conn, q *request) {
	if h.srv.at() >= draining {
		w.Header().Set("Content-Type", eventStreamType)
		w.Header().Set("Cache-Control", "no-store")
		if !c.framed(r) {
			w.Header().Set("Connection", "close")
		}
		io.WriteString(w, retry())
		return
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	e := &eventStream{ResponseWriter: w, cancel: cancel}
	c.mu.Lock()
	q.events = e
	c.mu.Unlock()
	defer e.leave()
	if h.srv.at() >= draining { // announce may have looked before it was there
		e.goodbye(ctx)
	}
	h.answer(e, r.WithContext(ctx), c.framed(r))
}

// An eventStream ends an answer with events between two of them.
type eventStream struct {
	http.ResponseWriter
	cancel context.CancelCauseFunc

	mu    sync.Mutex
	tail  []byte // the last bytes that were written
	begun bool   // the header was
	fit   bool   // and it is of events
	asked bool   // it is to end
	ended bool   // it has, or its handler has returned
}

var (
	_ http.Flusher = (*eventStream)(nil)
	_ io.Writer    = (*eventStream)(nil)
)

// Unwrap gives the original to [http.ResponseController].
func (e *eventStream) Unwrap() http.ResponseWriter { return e.ResponseWriter }

// Write writes, and ends the stream after an event if it is to end.
func (e *eventStream) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended {
		return 0, ErrClosed
	}
	e.begin()
	n, err := e.ResponseWriter.Write(p)
	e.tail = append(e.tail, p[max(0, n-4):n]...)
	e.tail = e.tail[max(0, len(e.tail)-4):]
	if err == nil {
		e.end()
	}
	return n, err
}

// Flush sends what was written.
func (e *eventStream) Flush() { e.FlushError() }

// FlushError is Flush with an error.
func (e *eventStream) FlushError() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended {
		return ErrClosed
	}
	e.begin()
	err := http.NewResponseController(e.ResponseWriter).Flush()
	e.end() // it may have been asked before there was a header
	return err
}

// begin looks at the header before it goes out: later it is the handler's alone.
func (e *eventStream) begin() {
	if !e.begun {
		e.begun = true
		e.fit = strings.HasPrefix(e.Header().Get("Content-Type"), eventStreamType)
	}
}

func (e *eventStream) goodbye(context.Context) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked = true
	e.end()
}

// end ends the stream if it is to and stands between two events. The handler is told by its context; whatever it writes
// is refused. An answer that is none of events is left alone.
func (e *eventStream) end() {
	between := bytes.HasSuffix(e.tail, []byte("\n\n")) || bytes.HasSuffix(e.tail, []byte("\r\n\r\n")) || len(e.tail) == 0
	if e.ended || !e.asked || !e.fit || !between {
		return
	}
	e.ended = true
	io.WriteString(e.ResponseWriter, retry())
	http.NewResponseController(e.ResponseWriter).Flush()
	e.cancel(ErrClosed)
}

// leave notes that the handler has returned: the writer is not to be used any more.
func (e *eventStream) leave() {
	e.mu.Lock()
	e.ended = true
	e.mu.Unlock()
}
