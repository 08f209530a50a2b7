// Package logqueue keeps the library from waiting for a log. A program's handler writes to a pipe, a terminal or a file. Such a
// write may wait for ever, for example because the reader of the pipe is stuck. Serving, upgrades and the end of the service
// must not wait for this write.
//
// Wrap puts a queue between the library and the handler of the program. A record is complete when it is put into the queue: it
// has its time, its caller and its attributes. The methods LogValue and Error of the attributes were called before. One
// goroutine passes the records to the handler, in their order. The goroutine starts when a record comes, and ends when the
// queue is empty. So a queue needs no Close. If the queue is full, records are dropped. In their place the handler gets a
// record with the number of dropped records. If the process crashes, the records in the queue are lost.
package logqueue

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/midair-go/midair/internal/guard"
)

const (
	// size is how many records can wait in the queue while the handler writes another record.
	size = 256
	// stuckAfter is how long Flush waits at most for one record.
	stuckAfter = 200 * time.Millisecond
	// flushLimit is how long Flush waits at most for all records.
	flushLimit = 2 * time.Second
)

// Wrap returns a logger that passes records to the handler of l through a queue, without waiting for the handler. If l is a
// logger of Wrap already, Wrap returns l.
func Wrap(l *slog.Logger) *slog.Logger {
	if _, ok := l.Handler().(*handler); ok {
		return l
	}
	return slog.New(&handler{queue: &queue{base: l.Handler()}, to: l.Handler()})
}

// Flush waits until the handler has written all records in the queue of a logger of Wrap. Flush waits at most 0.2 s for each
// record, and at most 2 s in all. For any other logger Flush does nothing.
func Flush(l *slog.Logger) {
	if h, ok := l.Handler().(*handler); ok {
		h.queue.flush(time.Now().Add(flushLimit))
	}
}

// handler is a slog.Handler that puts records into a queue.
type handler struct {
	queue *queue
	to    slog.Handler // the handler of the program, after WithAttrs and WithGroup
}

var _ slog.Handler = (*handler)(nil)

// Enabled asks the handler of the program directly, without the queue.
func (h *handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.to.Enabled(ctx, level)
}

// Handle puts a record into the queue. The handler of the program gets another context, which has the values of ctx but is
// never cancelled.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	complete := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		complete.AddAttrs(resolve(a))
		return true
	})
	h.queue.put(line{ctx: context.WithoutCancel(ctx), to: h.to, record: complete})
	return nil
}

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{queue: h.queue, to: h.to.WithAttrs(resolveAll(attrs))}
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{queue: h.queue, to: h.to.WithGroup(name)}
}

// textError is an error with the text that it had when the record was logged.
type textError struct {
	error
	text string
}

// Error implements error.
func (e textError) Error() string { return e.text }

// Unwrap returns the error itself.
func (e textError) Unwrap() error { return e.error }

// resolve returns an attribute with the results of its methods, so that the methods need not be called later. If the value has
// a method LogValue, the result has the value that LogValue returns. If the value is an error, the result has the text that
// Error returns. In a group, resolve does this for each attribute.
func resolve(a slog.Attr) slog.Attr {
	a.Value = a.Value.Resolve()
	if err, ok := a.Value.Any().(error); ok && a.Value.Kind() == slog.KindAny {
		_ = guard.Call(func() error { // if Error panics, with a nil pointer for example, the attribute stays as it is
			a.Value = slog.AnyValue(textError{err, err.Error()})
			return nil
		})
	}
	if a.Value.Kind() == slog.KindGroup {
		a.Value = slog.GroupValue(resolveAll(a.Value.Group())...)
	}
	return a
}

func resolveAll(attrs []slog.Attr) []slog.Attr {
	all := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		all[i] = resolve(a)
	}
	return all
}

// line is a record in the queue, with the handler and the context for it.
type line struct {
	ctx    context.Context
	to     slog.Handler
	record slog.Record
	note   bool // the queue itself has made the record, so no caller has asked Enabled yet
}

// write passes the record to the handler. An error or a panic of the handler is ignored, since no caller waits for it.
func (l line) write() {
	_ = guard.Call(func() error {
		if l.note && !l.to.Enabled(l.ctx, l.record.Level) {
			return nil
		}
		return l.to.Handle(l.ctx, l.record)
	})
}

// queue holds the records that wait for one handler of the program.
type queue struct {
	base slog.Handler // the handler of the program, without groups and attributes

	mu      sync.Mutex
	lines   []line
	dropped int           // the number of lines that were dropped since the last line was added
	taken   int           // the number of lines that were taken out of the queue
	idle    chan struct{} // closed when the writing goroutine ends; nil: there is no such goroutine
}

// put adds a line, or drops the line if the queue is full.
func (q *queue) put(l line) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.lines) >= size {
		q.dropped++
		return
	}
	q.admit()
	q.lines = append(q.lines, l)
	q.start()
}

// admit puts a line with the number of dropped lines into the queue, if lines were dropped.
func (q *queue) admit() {
	if q.dropped == 0 {
		return
	}
	note := slog.NewRecord(time.Now(), slog.LevelWarn, "log: lines are missing here: they came faster than they were written", 0)
	note.AddAttrs(slog.Int("dropped", q.dropped))
	q.dropped = 0
	q.lines = append(q.lines, line{ctx: context.Background(), to: q.base, record: note, note: true})
}

// start starts the writing goroutine, unless it runs already.
func (q *queue) start() {
	if q.idle != nil {
		return
	}
	q.idle = make(chan struct{})
	go q.write() // ends when the queue is empty
}

func (q *queue) write() {
	defer q.leave()
	for l, ok := q.next(); ok; l, ok = q.next() {
		l.write()
	}
}

// next takes the next line out of the queue, and returns false if there is none.
func (q *queue) next() (line, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.lines) == 0 {
		q.admit()
	}
	if len(q.lines) == 0 {
		return line{}, false
	}
	l := q.lines[0]
	q.lines[0] = line{}
	q.lines = q.lines[1:]
	q.taken++
	return l, true
}

// leave ends the writing goroutine. If the queue is not empty, leave starts a new one: a line may have been added since the
// last call of next, or the handler may have called runtime.Goexit.
func (q *queue) leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	close(q.idle)
	q.idle = nil
	if len(q.lines) > 0 {
		q.start()
	}
}

func (q *queue) flush(until time.Time) {
	stuck := time.NewTimer(stuckAfter)
	defer stuck.Stop()
	idle, was := q.state()
	for idle != nil && time.Now().Before(until) {
		select {
		case <-idle:
			idle, _ = q.state()
		case <-stuck.C:
			_, taken := q.state()
			if taken == was {
				return
			}
			was = taken
			stuck.Reset(stuckAfter)
		}
	}
}

// state returns the fields idle and taken.
func (q *queue) state() (idle chan struct{}, taken int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.idle, q.taken
}
