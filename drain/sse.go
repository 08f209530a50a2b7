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
	// If a drain ends an event stream, the client is asked to reconnect after a random time between retryFirst and retryLast.
	retryFirst, retryLast = 500 * time.Millisecond, 2500 * time.Millisecond
)

// retry returns the field of an event stream that tells a client after what time to reconnect.
func retry() string {
	d := retryFirst + rand.N(retryLast-retryFirst)
	return fmt.Sprintf("retry: %d\n\n", d.Milliseconds())
}

// An eventStream is the ResponseWriter of a request for an event stream. It can end the answer between two events.
type eventStream struct {
	http.ResponseWriter
	cancel context.CancelCauseFunc

	mu      sync.Mutex
	tail    []byte // up to four bytes that were written last
	content content
	ending  ending
}

// A content says whether an answer consists of events, according to its Content-Type.
type content uint8

const (
	unwritten content = iota // the header was not written yet
	ofEvents
	ofElse // the answer is not an event stream: a drain neither changes nor ends the answer
)

// An ending says whether an event stream has ended, or is to end.
type ending uint8

const (
	goesOn   ending = iota // no drain has asked for the end
	endsNext               // the stream ends as soon as no event is being written
	hasEnded               // the stream has ended, or its handler has returned
)

var (
	_ http.Flusher = (*eventStream)(nil)
	_ io.Writer    = (*eventStream)(nil)
)

// Unwrap gives the original to [http.ResponseController].
func (e *eventStream) Unwrap() http.ResponseWriter { return e.ResponseWriter }

// Write writes p. If p completes an event and the stream is to end, Write ends the stream.
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

// FlushError is like Flush, and returns the error.
func (e *eventStream) FlushError() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ending == hasEnded {
		return ErrClosed
	}
	e.begin()
	err := http.NewResponseController(e.ResponseWriter).Flush()
	e.end() // if closeGracefully was called before the header was written, it did not end the stream
	return err
}

// begin reads the Content-Type before the header is written. Later the handler may change the header at any time.
func (e *eventStream) begin() {
	if e.content != unwritten {
		return
	}
	e.content = ofElse
	if strings.HasPrefix(e.Header().Get("Content-Type"), eventStreamType) {
		e.content = ofEvents
	}
}

// closeGracefully ends the stream, at once or after the event that is being written.
func (e *eventStream) closeGracefully(context.Context) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ending == goesOn {
		e.ending = endsNext
	}
	e.end()
}

// end ends the stream if the stream is to end and no event is being written. It cancels the context of the handler, and all
// later writes are refused. An answer that is not an event stream is not ended.
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

// leave notes that the handler has returned: the ResponseWriter must not be used any more.
func (e *eventStream) leave() {
	e.mu.Lock()
	e.ending = hasEnded
	e.mu.Unlock()
}
