package logqueue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

const patience = 30 * time.Second

// text returns a handler that writes no times.
func text(w *bytes.Buffer, level slog.Level) slog.Handler {
	return slog.NewTextHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
}

// stuck is a handler that waits for a value from goOn before each line.
type stuck struct {
	slog.Handler
	goOn chan struct{}
}

func newStuck(to slog.Handler) stuck { return stuck{to, make(chan struct{})} }

func (s stuck) Handle(ctx context.Context, r slog.Record) error {
	<-s.goOn
	return s.Handler.Handle(ctx, r)
}

// number is a value that changes.
type number struct{ n *atomic.Int64 }

func (v number) LogValue() slog.Value { return slog.Int64Value(v.n.Load()) }

// With the queue, the handler of the program writes the same lines in the same order as without the queue.
func TestLinesAreThoseOfTheHandler(t *testing.T) {
	write := func(log *slog.Logger) {
		log.Info("plain", "a", 1)
		in := log.With("with", "x").WithGroup("g").With("b", number{new(atomic.Int64)})
		in.Warn("in a group", slog.Group("inner", "c", number{new(atomic.Int64)}))
		in.WithGroup("h").Error("deep", "err", errors.New("no"))
		log.Debug("not wanted")
		for i := range 100 {
			log.Info("many", "i", i)
		}
	}
	var direct, queued bytes.Buffer
	write(slog.New(text(&direct, slog.LevelInfo)))
	log := Wrap(slog.New(text(&queued, slog.LevelInfo)))
	write(log)
	Flush(log)
	if direct.String() != queued.String() {
		t.Errorf("with the queue:\n%s\nwithout it:\n%s", queued.String(), direct.String())
	}
}

// A line has the time, the caller and the values at the call of the logger, even if the line is written much later.
func TestLineIsCompleteAtTheCall(t *testing.T) {
	var records []slog.Record
	s := newStuck(collect{&records})
	log := Wrap(slog.New(s))
	n := new(atomic.Int64)
	n.Store(1)
	before := time.Now()
	log.Info("one", "n", number{n}, slog.Group("g", "n", number{n}))
	with := log.With("n", number{n})
	after := time.Now()
	n.Store(2)
	with.Info("two")
	close(s.goOn)
	Flush(log)
	if len(records) != 2 {
		t.Fatalf("%d records", len(records))
	}
	r := records[0]
	if r.Time.Before(before) || r.Time.After(after) {
		t.Errorf("its time is %v, and it was logged between %v and %v", r.Time, before, after)
	}
	if f, _ := runtime.CallersFrames([]uintptr{r.PC}).Next(); !strings.HasSuffix(f.Function, "TestLineIsCompleteAtTheCall") {
		t.Errorf("its caller is %s", f.Function)
	}
	if got := attrs(r); got != "n=1 g=[n=1]" {
		t.Errorf("its attributes are %s", got)
	}
}

// collect notes records.
type collect struct{ records *[]slog.Record }

func (collect) Enabled(context.Context, slog.Level) bool { return true }
func (c collect) Handle(_ context.Context, r slog.Record) error {
	*c.records = append(*c.records, r)
	return nil
}
func (c collect) WithAttrs([]slog.Attr) slog.Handler { return c }
func (c collect) WithGroup(string) slog.Handler      { return c }

func attrs(r slog.Record) string {
	var all []string
	r.Attrs(func(a slog.Attr) bool { all = append(all, a.String()); return true })
	return strings.Join(all, " ")
}

// A caller never waits for a handler that is stuck. Lines that do not fit into the queue are counted, and the count is written
// in their place.
func TestStuckHandlerHoldsNobodyUp(t *testing.T) {
	var out bytes.Buffer
	s := newStuck(text(&out, slog.LevelInfo))
	log := Wrap(slog.New(s))
	log.Info("first")
	testutil.Until(t, patience, "the handler has the first line", func() bool { return waiting(log) == 0 })
	const lost = 10
	for i := range size + lost {
		log.Info("line", "i", i)
	}
	s.goOn <- struct{}{} // there is room for one line now, and for the line with the count
	testutil.Until(t, patience, "there is room", func() bool { return waiting(log) == size-1 })
	log.Info("last")
	close(s.goOn)
	Flush(log)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	want := []string{"level=INFO msg=first"}
	for i := range size {
		want = append(want, fmt.Sprintf("level=INFO msg=line i=%d", i))
	}
	note := fmt.Sprintf(`level=WARN msg="log: lines are missing here: they came faster than they were written" dropped=%d`, lost)
	want = append(want, note, "level=INFO msg=last")
	if !slices.Equal(lines, want) {
		t.Errorf("%d lines, the last are %q", len(lines), lines[max(0, len(lines)-3):])
	}
}

func waiting(log *slog.Logger) int {
	q := log.Handler().(*handler).queue
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.lines)
}

// The count of missing lines is written even if no further line comes.
func TestDroppedLinesAreCountedAtTheEnd(t *testing.T) {
	var out bytes.Buffer
	s := newStuck(text(&out, slog.LevelInfo))
	log := Wrap(slog.New(s))
	for range size + 5 {
		log.Info("line")
	}
	close(s.goOn)
	Flush(log)
	if got := out.String(); !strings.Contains(got, "dropped=") || strings.Count(got, "msg=line") < size {
		t.Errorf("%d lines; the end is %q", strings.Count(got, "msg=line"), got[len(got)-80:])
	}
}

// Flush waits 0.2 s for a full pipe. The lines are written later, when the pipe is read.
func TestFlushDoesNotWaitForAFullPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	log := Wrap(slog.New(slog.NewTextHandler(w, nil)))
	for range size {
		log.Info(strings.Repeat("x", 1000))
	}
	begin := time.Now()
	Flush(log)
	if took := time.Since(begin); took < stuckAfter || took > stuckAfter+2*time.Second {
		t.Errorf("it took %v", took)
	}
	lines := make(chan int)
	go func() { // ends with the pipe
		b := new(bytes.Buffer)
		_, _ = b.ReadFrom(r)
		lines <- strings.Count(b.String(), "\n")
	}()
	testutil.Until(t, patience, "the queue is empty", func() bool { Flush(log); return waiting(log) == 0 })
	Flush(log)
	w.Close()
	if n := <-lines; n != size {
		t.Errorf("%d lines of %d", n, size)
	}
}

// Flush waits for a handler that is slow but not stuck: each line may take up to 0.2 s.
func TestFlushWaitsForASlowHandler(t *testing.T) {
	var out bytes.Buffer
	slow := newStuck(text(&out, slog.LevelInfo))
	log := Wrap(slog.New(slow))
	const lines = 4
	for range lines {
		log.Info("line")
	}
	go func() { // ends with the last line
		for range lines {
			<-time.After(stuckAfter * 6 / 10) // the time that the handler takes for a line
			slow.goOn <- struct{}{}
		}
	}()
	Flush(log)
	if n := strings.Count(out.String(), "msg=line"); n != lines {
		t.Errorf("%d lines of %d", n, lines)
	}
}

// changing is an error with a text that changes.
type changing struct{ text string }

func (e *changing) Error() string { return e.text }

// An error is written with the text that it had at the call. A handler still finds the error itself with errors.Is.
func TestErrorIsThatOfTheCall(t *testing.T) {
	var out bytes.Buffer
	s := newStuck(text(&out, slog.LevelInfo))
	log := Wrap(slog.New(s))
	err := &changing{"before"}
	log.Info("line", "err", err, "nil", (*changing)(nil), slog.Group("g", "err", fmt.Errorf("in a group: %w", err)))
	err.text = "after"
	close(s.goOn)
	Flush(log)
	if got := out.String(); strings.Contains(got, "after") || strings.Count(got, "before") != 2 {
		t.Errorf("%q", got)
	}
	if got := resolve(slog.Any("err", err)).Value.Any(); !errors.Is(got.(error), err) {
		t.Errorf("%v is another error", got)
	}
}

// If a handler panics, or ends its goroutine, only the line of this call is lost.
func TestBadHandlerLosesItsLineOnly(t *testing.T) {
	for name, bad := range map[string]func(){"panic": func() { panic("no") }, "Goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			var records []slog.Record
			log := Wrap(slog.New(worse{collect{&records}, bad}))
			for _, m := range []string{"good", "bad", "good too"} {
				log.Info(m)
			}
			Flush(log)
			if len(records) != 2 || records[1].Message != "good too" {
				t.Errorf("%v", records)
			}
		})
	}
}

type worse struct {
	collect
	bad func()
}

func (w worse) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == "bad" {
		w.bad()
	}
	return w.collect.Handle(ctx, r)
}

// Wrap does not wrap a logger a second time. Flush of a logger that is not wrapped does nothing.
func TestWrapIsDoneOnce(t *testing.T) {
	log := Wrap(slog.New(slog.DiscardHandler))
	if Wrap(log) != log {
		t.Error("it is wrapped twice")
	}
	Flush(slog.New(slog.DiscardHandler))
}

// The handler gets a context with the values of the caller's context. The handler's context is not cancelled.
func TestContextReachesTheHandler(t *testing.T) {
	type key struct{}
	var got []any
	log := Wrap(slog.New(contextual{slog.DiscardHandler, func(ctx context.Context) { got = append(got, ctx.Value(key{}), ctx.Err()) }}))
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "v"))
	cancel()
	log.InfoContext(ctx, "line")
	Flush(log)
	if !slices.Equal(got, []any{"v", nil}) {
		t.Errorf("%v", got)
	}
}

type contextual struct {
	slog.Handler
	see func(context.Context)
}

func (contextual) Enabled(context.Context, slog.Level) bool { return true }

func (c contextual) Handle(ctx context.Context, _ slog.Record) error {
	c.see(ctx)
	return nil
}
