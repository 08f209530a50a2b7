package grpccanary

import (
	"context"
	"errors"
	"net"
	"runtime"
	"sync"
	"syscall"
	"weak"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/stats"
)

// ConnContext returns options for a grpc.Server that do what ConnContext of an http.Server does: fn gets each new connection as the
// listener has returned it, and the contexts of all calls on the connection derive from the result of fn. Without a result, and
// without fn, the contexts stay as they are.
//
//	gs := grpc.NewServer(grpccanary.ConnContext(credentials.NewTLS(config), fn)...)
//
// The options contain grpc.Creds with creds, so a further grpc.Creds must not follow them. If creds is nil, connections are not
// secure. The function fn is called after the handshake, and only for connections whose local address is a *net.TCPAddr or a
// *net.UnixAddr: those of package bufconn get nothing. It is not called for requests of ServeHTTP, as an http.Server has a
// ConnContext of its own.
func ConnContext(creds credentials.TransportCredentials, fn func(context.Context, net.Conn) context.Context) []grpc.ServerOption {
	if creds == nil {
		creds = insecure.NewCredentials()
	}
	if fn == nil {
		return []grpc.ServerOption{grpc.Creds(creds)}
	}
	t := &connTagger{fn: fn}
	return t.options(&connCreds{creds, t})
}

// A connTagger gives connections their contexts. The credentials note a connection, and TagConn, which gets no connection, finds it
// by its local address: each connection has a copy of the address, and copies are told apart by their pointers. So connections
// that have the same addresses are not mixed up.
//
// A connection may end before TagConn, and the server does not tell. So the connections are held weakly, and one that is no longer
// reachable is forgotten.
type connTagger struct {
	fn      func(context.Context, net.Conn) context.Context
	waiting sync.Map // net.Addr, a pointer: weak.Pointer[taggedConn]
}

func (t *connTagger) options(creds credentials.TransportCredentials) []grpc.ServerOption {
	return []grpc.ServerOption{grpc.Creds(creds), grpc.StatsHandler(t)}
}

// note returns a connection that TagConn finds. The connection raw is that of the listener, and conn that of the credentials.
func (t *connTagger) note(raw, conn net.Conn) net.Conn {
	local := copyOf(conn.LocalAddr())
	if local == nil {
		return conn
	}
	c := &taggedConn{Conn: conn, raw: raw, local: local}
	t.waiting.Store(local, weak.Make(c))
	runtime.AddCleanup(c, func(local net.Addr) { t.waiting.Delete(local) }, local)
	return c
}

// copyOf returns a pointer that no other connection has, or nil for an address of another type.
func copyOf(addr net.Addr) net.Addr {
	switch a := addr.(type) {
	case *net.TCPAddr:
		if a != nil {
			own := *a
			return &own
		}
	case *net.UnixAddr:
		if a != nil {
			own := *a
			return &own
		}
	}
	return nil
}

// TagConn returns the context of a connection.
func (t *connTagger) TagConn(ctx context.Context, info *stats.ConnTagInfo) context.Context {
	c := t.take(info.LocalAddr)
	if c == nil {
		return ctx
	}
	if tagged := t.fn(ctx, c.raw); tagged != nil {
		return tagged
	}
	return ctx
}

// take returns the connection with that address, or nil. It returns each connection once.
func (t *connTagger) take(local net.Addr) *taggedConn {
	switch local.(type) {
	case *net.TCPAddr, *net.UnixAddr:
	default:
		return nil // another type may be no key of a map
	}
	c, ok := t.waiting.LoadAndDelete(local)
	if !ok {
		return nil
	}
	return c.(weak.Pointer[taggedConn]).Value()
}

// TagRPC, HandleRPC and HandleConn do nothing.
func (t *connTagger) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }
func (t *connTagger) HandleRPC(context.Context, stats.RPCStats)                       {}
func (t *connTagger) HandleConn(context.Context, stats.ConnStats)                     {}

// connCreds are credentials whose connections are noted.
type connCreds struct {
	credentials.TransportCredentials
	tagger *connTagger
}

// ServerHandshake notes the connection after the handshake.
func (c *connCreds) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.TransportCredentials.ServerHandshake(raw)
	if err == nil {
		conn = c.tagger.note(raw, conn)
	}
	return conn, info, err
}

// Clone returns a copy.
func (c *connCreds) Clone() credentials.TransportCredentials {
	return &connCreds{c.TransportCredentials.Clone(), c.tagger}
}

// A taggedConn is the connection of the credentials, with an address of its own. Only the server holds the taggedConn.
type taggedConn struct {
	net.Conn
	raw   net.Conn
	local net.Addr
}

// LocalAddr returns the address by which TagConn finds the connection.
func (c *taggedConn) LocalAddr() net.Addr { return c.local }

// SyscallConn returns that of the connection, from which channelz reads the options of the socket.
func (c *taggedConn) SyscallConn() (syscall.RawConn, error) {
	if sc, ok := c.Conn.(syscall.Conn); ok {
		return sc.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}
