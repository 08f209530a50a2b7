package drain_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/drain"
)

// A slowLog takes its time for each line.
type slowLog struct {
	slog.Handler
	takes time.Duration
	lines *atomic.Int64
}

func (l slowLog) Enabled(context.Context, slog.Level) bool { return true }

func (l slowLog) Handle(context.Context, slog.Record) error {
	<-time.After(l.takes)
	l.lines.Add(1)
	return nil
}

// expiring drains a service with a request that does not end within Grace. It returns how long the drain took and how many
// lines of the log were written until its end.
func expiring(t *testing.T, grace, line time.Duration) (took time.Duration, lines int64) {
	log := slowLog{takes: line, lines: new(atomic.Int64)}
	b := newBubble(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }),
		drain.Options{Grace: grace, Logger: slog.New(log)})
	nc := b.ln.dial()
	defer nc.Close()
	io.WriteString(nc, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	go io.Copy(io.Discard, nc) // ends with nc
	synctest.Wait()
	since := time.Now()
	b.end(nil)
	var timeout *drain.TimeoutError
	if err := <-b.done; !errors.As(err, &timeout) {
		t.Errorf("Serve = %v", err)
	}
	took, lines = time.Since(since), log.lines.Load()
	<-time.After(100 * line) // the log is written to its end
	return took, lines
}

// A drain does not wait for a log whose handler is stuck: not at all before its end, and not for long at its end (F18).
func TestDrainDoesNotWaitForAStuckLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const grace = 20 * time.Second // it says what it waits for meanwhile
		if took, lines := expiring(t, grace, time.Hour); took > grace+2*time.Second || lines > 0 {
			t.Errorf("the drain took %v, and %d lines were written", took, lines)
		}
	})
}

// When Serve returns, the last lines of the drain have been written.
func TestDrainWritesItsLastLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if _, lines := expiring(t, time.Second, 100*time.Millisecond); lines != 1 {
			t.Errorf("%d lines were written, want the one of what did not end", lines)
		}
	})
}
