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

// An eventStream ends an answer with events between two of them.
type eventStream struct {
	http.ResponseWriter
	cancel context.CancelCauseFunc

	mu      sync.Mutex
	tail    []byte // the last bytes that were written
	content content
	ending  ending
}

// A content is the content of an answer by its header.
type content uint8

const (
	unwritten content = iota // the header was not written
	ofEvents
	ofElse // the answer is to be left alone
)

// An ending is how far the end of an event stream is.
type ending uint8

const (
	goesOn   ending = iota
	endsNext        // after the next event
	hasEnded        // the stream has ended, or its handler has returned
)

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
	if e.ending == hasEnded {
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
	if e.ending == hasEnded {
		return ErrClosed
	}
	e.begin()
	err := http.NewResponseController(e.ResponseWriter).Flush()
	e.end() // closeGracefully may have been called before there was a header
	return err
}

// begin looks at the header before it goes out: later the header is the handler's alone.
func (e *eventStream) begin() {
	if e.content != unwritten {
		return
	}
	e.content = ofElse
	if strings.HasPrefix(e.Header().Get("Content-Type"), eventStreamType) {
		e.content = ofEvents
	}
}

// closeGracefully ends the stream after the event that is being written.
func (e *eventStream) closeGracefully(context.Context) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ending == goesOn {
		e.ending = endsNext
	}
	e.end()
}

// end ends the stream if the stream is to end and stands between two events. The handler learns of the end by its
// context, and all further writes are refused. An answer without events is left alone.
func (e *eventStream) end() {
	between := bytes.HasSuffix(e.tail, []byte("\n\n")) || bytes.HasSuffix(e.tail, []byte("\r\n\r\n")) || len(e.tail) == 0
	if e.ending != endsNext || e.content != ofEvents || !between {
		return
	}
	e.ending = hasEnded
	io.WriteString(e.ResponseWriter, retry())
	http.NewResponseController(e.ResponseWriter).Flush()
	e.cancel(ErrClosed)
}

// leave notes that the handler has returned: the writer is not to be used any more.
func (e *eventStream) leave() {
	e.mu.Lock()
	e.ending = hasEnded
	e.mu.Unlock()
}
