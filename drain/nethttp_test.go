package drain_test

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/midair-go/midair/drain"
)

// With an unknown net/http nothing moves, and the drain does its work.
func TestUnknownNetHTTPMovesNothing(t *testing.T) {
	defer drain.SetReadsAsKnown(false)()
	offers := make(chan struct{}, 1)
	var logged strings.Builder
	s := serve(t, &http.Server{Handler: echo}, drain.Options{
		Logger:    slog.New(slog.NewTextHandler(&logged, nil)),
		IdleGrace: time.Nanosecond, Rebalance: offers,
		Move: func(net.Conn) bool { t.Error("Move was asked"); return false },
	})
	c := s.dial()
	wantBody(t, c.get("/one"), "/one", false)
	offers <- struct{}{}
	wantBody(t, c.get("/two"), "/two", false)
	s.handOver()
	c.closed()
	s.clean()
	if !strings.Contains(logged.String(), "this net/http reads in an unknown way") {
		t.Errorf("the log does not say so: %s", &logged)
	}
}

// Once a drain closes and moves connections, net/http is not checked any more: such a check would take place while a connection
// is locked.
func TestDrainChecksNetHTTPBeforeItMoves(t *testing.T) {
	var moving, again atomic.Bool
	defer drain.NoteChecks(func() {
		if moving.Load() {
			again.Store(true)
		}
	})()
	m := newMover(t)
	s := serve(t, &http.Server{Handler: echo}, drain.Options{
		IdleGrace: time.Hour, Grace: time.Hour, Move: m.move,
		Announce: func(context.Context) { moving.Store(true) },
	})
	c := s.dial()
	wantBody(t, c.get("/one"), "/one", false)
	s.handOver()
	s.clean()
	(<-m.conns).Close()
	if again.Load() {
		t.Error("net/http was checked in the drain")
	}
}
