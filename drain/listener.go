package drain

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// sweepTime is how long a plain stop takes connections from the accept queue before it closes the listener. The
// deadline has to be in the future: with one in the past an accept does not look into the queue.
const sweepTime = 20 * time.Millisecond

// A listener writes what it accepts into the ledger.
type listener struct {
	net.Listener
	srv *Server

	used     atomic.Bool // Accept was called
	stopping atomic.Bool // errors of Accept are ours
	closed   sync.Once
}

var _ net.Listener = (*listener)(nil)

// Accept never drops a connection that it got: net/http serves it even if the drain has begun meanwhile.
func (l *listener) Accept() (net.Conn, error) {
	l.used.Store(true)
	nc, err := l.Listener.Accept()
	if err == nil {
		return l.srv.ledger.add(l.srv, nc), nil
	}
	if l.stopping.Load() {
		return nil, errStopped
	}
	return nil, err
}

// Close closes the listener below. Its error is of no use: net/http ignores it, and so does a drain.
func (l *listener) Close() (err error) {
	l.closed.Do(func() { err = l.Listener.Close() })
	return err
}

// stop ends the accept loop at once.
func (l *listener) stop() {
	l.stopping.Store(true)
	l.Close()
}

// sweep ends the accept loop after it took what is in the queue, where the listener can tell the end of it.
func (l *listener) sweep() {
	l.stopping.Store(true)
	d, ok := l.Listener.(interface{ SetDeadline(time.Time) error })
	if !ok || d.SetDeadline(time.Now().Add(sweepTime)) != nil {
		l.Close()
	}
}

// blame is the error that Serve returns for the end of an accept loop: none for one that was stopped, nor for a
// listener that somebody closed because the context had ended.
func (l *listener) blame(ctx context.Context, err error) error {
	if l.stopping.Load() || errors.Is(err, net.ErrClosed) && ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("drain: accept: %w", err)
}

// A secureConn is a conn over a TLS stack of its own kind: net/http asks it for its state.
type secureConn struct {
	*conn
	stater interface{ ConnectionState() tls.ConnectionState }
}

// ConnectionState tells net/http what Request.TLS is.
func (c *secureConn) ConnectionState() tls.ConnectionState { return c.stater.ConnectionState() }
