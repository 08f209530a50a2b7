package drain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/midair-go/midair/drain/internal/life"
)

// retryTime is how long the accept loop waits after a temporary error, such as a lack of descriptors.
const retryTime = 5 * time.Millisecond

// rawLoop returns the accept loop of ServeTCP.
func rawLoop(handler func(context.Context, net.Conn)) func(net.Listener) error {
	return func(l net.Listener) error {
		for {
			nc, err := l.Accept()
			if err != nil {
				var passing interface{ Temporary() bool }
				if errors.As(err, &passing) && passing.Temporary() {
					<-time.After(retryTime)
					continue
				}
				return err
			}
			serveRaw(nc, handler)
		}
	}
}

// serveRaw runs the handler of a raw connection. The connection is registered until the handler has returned.
func serveRaw(nc net.Conn, handler func(context.Context, net.Conn)) {
	c := nc.(inRegistry).self()
	ctx, cancel := context.WithCancelCause(context.WithValue(context.Background(), connKey{}, c))
	c.mu.Lock()
	c.cancel = cancel
	c.mu.Unlock()
	go func() { // the drain waits for this goroutine: until its handler has returned, the connection is in the registry
		defer cancel(nil)
		defer func() {
			nc.Close()
			returned(c, recover())
		}()
		handler(ctx, nc)
	}()
}

// returned notes that a handler has returned, or has panicked with the value panicked. A panic ends only the connection of
// the handler, as with net/http.
func returned(c *conn, panicked any) {
	if panicked != nil && panicked != http.ErrAbortHandler {
		c.course.logger.Error("drain: a handler of a raw connection panicked",
			slog.String("remote", c.Conn.RemoteAddr().String()), slog.String("panic", fmt.Sprint(panicked)))
	}
	c.happen(life.Release)
}
