package upgrade_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/midair-go/midair/drain"
	"github.com/midair-go/midair/upgrade"
)

// lockedLog is a log that is read while it is written.
type lockedLog struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *lockedLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(b)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// stuckAfter is short, because tests wait for it, and long enough for what they do before.
const stuckAfter = 300 * time.Millisecond

// block is a serve that lasts longer than every limit of a stuck serve, or until free is closed.
type block struct{ free chan struct{} }

func (b block) work() {
	select {
	case <-b.free:
	case <-time.After(5*stuckAfter + 2*time.Second):
	}
}

// A serve that ignores the end of its context is logged once, with its problem. After StuckAfter Run returns ErrServeStuck. If
// the end of Accept makes serve return, this happens at once, and otherwise a moment later. A serve that is known to drain has
// all the time that it needs.
func TestStuckServeIsToldFromADrain(t *testing.T) {
	const ignored, unclosed = "nothing in it has asked", "it has closed none of its sockets"
	asks := func(ctx context.Context) { <-ctx.Done() }
	for name, c := range map[string]struct {
		serve   func(ctx context.Context, ln net.Listener, pc net.PacketConn, b block) error
		limit   time.Duration
		problem string // the problem in the log; "": serve drains
		returns bool   // serve returns when Accept ends
	}{
		"ignores its context": {problem: ignored, returns: true, serve: func(_ context.Context, ln net.Listener, _ net.PacketConn, _ block) error {
			return http.Serve(ln, nil)
		}},
		"reads datagrams only": {problem: ignored, returns: true, serve: func(_ context.Context, _ net.Listener, pc net.PacketConn, _ block) error {
			_, _, err := pc.ReadFrom(make([]byte, 1))
			return err
		}},
		"waits for something else": {problem: ignored, serve: func(_ context.Context, ln net.Listener, _ net.PacketConn, b block) error {
			go http.Serve(ln, nil) // http.Serve closes ln when Accept ends
			<-b.free
			return nil
		}},
		"gives its context to something else": {problem: unclosed, serve: func(ctx context.Context, _ net.Listener, _ net.PacketConn, b block) error {
			asks(ctx)
			<-b.free
			return nil
		}},
		"shuts down": {serve: func(ctx context.Context, ln net.Listener, _ net.PacketConn, b block) error {
			asks(ctx)
			ln.Close()
			b.work()
			return nil
		}},
		"drains by package drain": {serve: func(ctx context.Context, ln net.Listener, _ net.PacketConn, b block) error {
			d := drain.NewServer(nil, drain.Options{Grace: time.Minute, Propagation: 5*stuckAfter + 2*time.Second})
			return d.Serve(ctx, ln) // goes on accepting
		}},
		"has no sockets": {serve: func(ctx context.Context, ln net.Listener, pc net.PacketConn, b block) error {
			ln.Close()
			pc.Close()
			asks(ctx)
			b.work()
			return nil
		}},
		"is never ended": {limit: -1, serve: func(_ context.Context, _ net.Listener, _ net.PacketConn, b block) error {
			b.work()
			return nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := &lockedLog{}
			limit := stuckAfter
			if c.limit != 0 {
				limit = c.limit
			}
			up := newUnsupported(t, upgrade.Options{StuckAfter: limit, Logger: slog.New(slog.NewTextHandler(log, nil))})
			ln, err1 := up.Listen("tcp", "127.0.0.1:0")
			pc, err2 := up.ListenPacket("udp", "127.0.0.1:0")
			if err := errors.Join(err1, err2); err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			defer pc.Close()
			b := block{make(chan struct{})}
			ctx, stop := context.WithCancel(t.Context())
			returned, began := make(chan struct{}), make(chan struct{})
			ran := make(chan error, 1)
			go func() { // ends when Run returns
				ran <- up.Run(ctx, func(ctx context.Context) error {
					defer close(returned)
					close(began)
					return c.serve(ctx, ln, pc, b)
				})
			}()
			<-began
			stop()
			since := time.Now()
			err := <-ran
			took := time.Since(since)
			if stuck := errors.Is(err, upgrade.ErrServeStuck); stuck != (c.problem != "") || !stuck && err != nil {
				t.Errorf("Run returns %v", err)
			}
			if c.problem != "" && took < stuckAfter || c.problem == "" && took < 2*stuckAfter+time.Second {
				t.Errorf("Run has returned after %v", took)
			}
			if c.returns != errors.Is(err, net.ErrClosed) {
				t.Errorf("Accept has ended serve: %v, want %v", err, c.returns)
			}
			const line = "serve goes on although its context has ended"
			if n := strings.Count(log.String(), line); c.problem != "" && n != 1 || c.problem == "" && c.limit == 0 && n != 0 {
				t.Errorf("the log has %d lines about it:\n%s", n, log)
			}
			if !strings.Contains(log.String(), c.problem) {
				t.Errorf("the log does not say %q:\n%s", c.problem, log)
			}
			close(b.free)
			<-returned
		})
	}
}
