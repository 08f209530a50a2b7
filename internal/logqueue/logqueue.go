// Package logqueue keeps the library from waiting for a log. A program's handler writes to a pipe, a terminal or a file, and
// such a write may wait for ever: the reader of a pipe is stuck, say. Serving, upgrades and stops must not wait with it.
//
// Wrap puts a queue between the library and the handler of the program. A record is complete when it is put into the queue:
// its time, its caller, and its attributes, whose LogValue or Error is called then. One goroutine gives the records to the handler, in
// their order. It starts with a record and ends when the queue is empty, so a queue needs no Close. If the queue is full,
// records are dropped, and a record that says how many takes their place. What is in the queue when the process crashes is lost.
package logqueue

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/midair-go/midair/internal/guard"
)

const (
	// size is how many records wait for a handler that is stuck, beside the one that it has.
	size = 256
	// stuckAfter is how long Flush waits for one line, and flushLimit for all of them.
	stuckAfter = 200 * time.Millisecond
	flushLimit = 2 * time.Second
)

// Wrap returns a logger that writes through the handler of l without waiting for the handler. A logger of Wrap is returned
// unchanged.
func Wrap(l *slog.Logger) *slog.Logger {
	if _, ok := l.Handler().(*handler); ok {
		return l
	}
	return slog.New(&handler{queue: &queue{base: l.Handler()}, to: l.Handler()})
}

// Flush waits until everything is written that was logged by a logger of Wrap, and the writing goroutine has ended, but not
// longer than 0.2 s for each line, and 2 s in all. With another logger Flush does nothing.
func Flush(l *slog.Logger) {
	if h, ok := l.Handler().(*handler); ok {
		h.queue.flush(time.Now().Add(flushLimit))
	}
}

// handler is the end of a queue where records come in.
type handler struct {
	queue *queue
	to    slog.Handler // that of the program, with the groups and attributes of this one
}

var _ slog.Handler = (*handler)(nil)

// Enabled asks the handler of the program, at once.
func (h *handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.to.Enabled(ctx, level)
}

// Handle puts a record into the queue. The handler of the program sees the values of the context, and not the end of the
// context.
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

// textError is an error with its text at the time of the call.
type textError struct {
	error
	text string
}

// Error implements error.
func (e textError) Error() string { return e.text }

// Unwrap returns the error itself.
func (e textError) Unwrap() error { return e.error }

// resolve calls the LogValue of an attribute, and of the attributes in a group, and the Error of an error.
func resolve(a slog.Attr) slog.Attr {
	a.Value = a.Value.Resolve()
	if err, ok := a.Value.Any().(error); ok && a.Value.Kind() == slog.KindAny {
		_ = guard.Call(func() error { // a nil pointer, say: the handler finds out
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

// line is a record, and the handler for the record.
type line struct {
	ctx    context.Context
	to     slog.Handler
	record slog.Record
	note   bool // of the queue itself: the handler was not asked yet whether it wants the level
}

// write gives the record to the handler. An error or a panic of the handler is dropped: there is no caller who could be told.
func (l line) write() {
	_ = guard.Call(func() error {
		if l.note && !l.to.Enabled(l.ctx, l.record.Level) {
			return nil
		}
		return l.to.Handle(l.ctx, l.record)
	})
}

// queue is the records that wait for the same handler.
type queue struct {
	base slog.Handler // of the program, without groups and attributes

	mu      sync.Mutex
	lines   []line
	dropped int           // since the last line that was put in
	taken   int           // lines that the handler has got
	idle    chan struct{} // closed when the goroutine that writes ends; nil if there is none
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

// admit puts in how many lines were dropped, if any were.
func (q *queue) admit() {
	if q.dropped == 0 {
		return
	}
	note := slog.NewRecord(time.Now(), slog.LevelWarn, "log: lines are missing here: they came faster than they were written", 0)
	note.AddAttrs(slog.Int("dropped", q.dropped))
	q.dropped = 0
	q.lines = append(q.lines, line{ctx: context.Background(), to: q.base, record: note, note: true})
}

// start starts the writing goroutine, unless there is a running one.
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

// next takes the line that is to be written.
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

// leave is the end of the writing goroutine. Lines are left if a line has come since next, or if the handler has ended the
// goroutine.
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

// state returns the channel that is closed when the writing goroutine ends, nil if there is none, and how many lines the
// goroutine has taken.
func (q *queue) state() (idle chan struct{}, taken int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.idle, q.taken
}
