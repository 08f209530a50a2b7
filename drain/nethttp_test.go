package drain_test

import (
	"log/slog"
	"net"
	"net/http"
	"strings"
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
