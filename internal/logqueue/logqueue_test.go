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

const patience = 10 * time.Second

// text is a handler without times.
func text(w *bytes.Buffer, level slog.Level) slog.Handler {
	return slog.NewTextHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
}

// stuck is a handler that waits for go on before each line.
type stuck struct {
	slog.Handler
	goOn chan struct{}
}

func newStuck(to slog.Handler) stuck { return stuck{to, make(chan struct{})} }

func (s stuck) Handle(ctx context.Context, r slog.Record) error {
	<-s.goOn
	return s.Handler.Handle(ctx, r)
}

// number is a value whose text changes.
type number struct{ n *atomic.Int64 }

func (v number) LogValue() slog.Value { return slog.Int64Value(v.n.Load()) }

// What is written is what the handler of the program would have written without the queue: order, groups, attributes, caller.
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

// A line has the time, the caller and the values of the call, however late it is written.
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

// A caller never waits for a handler that is stuck. What does not fit is counted, and the count is written in its place.
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
	s.goOn <- struct{}{} // there is room for one, and for what says that some are missing
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

// How many lines are missing is said without a further line too.
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

// Flush waits for a full pipe 0.2 s, and the lines come when somebody reads it.
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

// Flush waits for a handler that is slow, and not stuck: each line may take its time.
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
			<-time.After(stuckAfter * 6 / 10) // this is the work of the handler
			slow.goOn <- struct{}{}
		}
	}()
	Flush(log)
	if n := strings.Count(out.String(), "msg=line"); n != lines {
		t.Errorf("%d lines of %d", n, lines)
	}
}

// changing is an error whose text changes.
type changing struct{ text string }

func (e *changing) Error() string { return e.text }

// An error is written as it was at the call, and stays the error that it is for a handler that looks.
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

// A handler that panics, or ends its goroutine, loses its line and nothing else.
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

// A logger is wrapped once, and Flush of another one is nothing.
func TestWrapIsDoneOnce(t *testing.T) {
	log := Wrap(slog.New(slog.DiscardHandler))
	if Wrap(log) != log {
		t.Error("it is wrapped twice")
	}
	Flush(slog.New(slog.DiscardHandler))
}

// The handler gets the values of the context, and whether a line is wanted is asked with it at once.
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
