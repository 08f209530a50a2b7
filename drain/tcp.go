package drain

import (
	"context"
	"errors"
	"fmt"
	"github.com/midair-go/midair/drain/internal/sockbuf"
	"net"
	"net/http"
	"time"
)

// ServeTCP serves raw connections in the way of [Server.Serve], in the same drain as everything else of the server. Each
// has a goroutine of its own; nc is closed when the handler returns, in the order that lets the client read all of it.
//
// The handler learns of the drain by FromContext(ctx) and may end the connection as its protocol wants. If it does not,
// its Read gets io.EOF when nothing was read or written for [Options.IdleGrace], and on Linux the client took nothing of what
// had been written; it can still write. At the end of Grace ctx is cancelled with [ErrExpired].
func (s *Server) ServeTCP(ctx context.Context, ln net.Listener, handler func(ctx context.Context, nc net.Conn)) error {
	return s.ServeFunc(ctx, ln, rawTCP, func(l net.Listener) error {
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
			s.handle(nc, handler)
		}
	})
}

// retryTime is how long a loop waits when there are no descriptors left.
const retryTime = 5 * time.Millisecond

// rawTCP is the protocol of ServeTCP.
const rawTCP = "tcp"

// ServeFunc serves another protocol in the way of [Server.Serve]: loop is the accept loop of its server, which ends when
// the listener does. Its connections are in the ledger until they are closed, and a drain waits for them; their server
// learns of it from the notice of [Server.Context].
func (s *Server) ServeFunc(ctx context.Context, ln net.Listener, protocol string, loop func(net.Listener) error) error {
	if protocol == "" {
		return errors.New("drain: ServeFunc needs the name of a protocol")
	}
	return s.serve(ctx, ln, protocol, loop)
}

// handle runs the handler of a raw connection; the ledger knows it until it has returned.
func (s *Server) handle(nc net.Conn, handler func(context.Context, net.Conn)) {
	c := s.entry(nc)
	ctx, cancel := context.WithCancelCause(context.WithValue(context.Background(), connKey{}, c))
	c.mu.Lock()
	c.handling, c.cancel = true, cancel
	c.mu.Unlock()
	go func() { // ends with the handler, which the ledger waits for
		defer cancel(nil)
		defer func() {
			nc.Close()
			c.handled(recover())
		}()
		handler(ctx, nc)
	}()
}

// handled notes that a handler has returned. A panic costs its own connection, as with net/http.
func (c *conn) handled(panicked any) {
	if panicked != nil && panicked != http.ErrAbortHandler {
		c.srv.opts.Logger.Error("drain: a handler of a raw connection panicked", "remote", c.Conn.RemoteAddr().String(), "panic", fmt.Sprint(panicked))
	}
	c.mu.Lock()
	c.handling = false
	c.mu.Unlock()
	c.strike()
}

// flowLooks is how often in IdleGrace a drain looks whether a client takes bytes: they come and go, so two numbers may be equal.
const flowLooks = 8

// flow looks whether the client has taken bytes of a raw connection, and reports whether it has bytes to take. A Write or a copy
// by the kernel counts its bytes at its end only, which may be far off if the client is slow.
func (c *conn) flow(now time.Time) bool {
	if !c.raw {
		return false
	}
	n := sockbuf.Unsent(c.Conn)
	if n != c.untaken {
		c.untaken, c.heard = n, now
	}
	return n > 0
}
