package grpccanary_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/test/bufconn"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/canary/grpccanary"
	"github.com/midair-go/midair/examples/grpcserver/echopb"
	"github.com/midair-go/midair/internal/testutil"
)

type connKey struct{}

// withConn is a function for ConnContext.
func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// connOf returns what withConn has put into the context.
func connOf(ctx context.Context) net.Conn {
	c, _ := ctx.Value(connKey{}).(net.Conn)
	return c
}

// A marked is a connection of a marker, which no other type returns.
type marked struct {
	net.Conn
	shared net.Addr // both addresses, if it is not nil
}

func (m *marked) LocalAddr() net.Addr {
	if m.shared != nil {
		return m.shared
	}
	return m.Conn.LocalAddr()
}

func (m *marked) RemoteAddr() net.Addr {
	if m.shared != nil {
		return m.shared
	}
	return m.Conn.RemoteAddr()
}

// A marker is a listener that keeps the connections that it has returned.
type marker struct {
	net.Listener
	shared net.Addr
	mu     sync.Mutex
	all    []net.Conn
}

func (m *marker) Accept() (net.Conn, error) {
	c, err := m.Listener.Accept()
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = append(m.all, &marked{c, m.shared})
	return m.all[len(m.all)-1], nil
}

func (m *marker) accepted() []net.Conn {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.all
}

func listen(t testing.TB, network string) *marker {
	t.Helper()
	addr := "127.0.0.1:0"
	if network == "unix" {
		addr = filepath.Join(t.TempDir(), "s")
	}
	ln, err := net.Listen(network, addr)
	must(t, err)
	return &marker{Listener: ln}
}

// target is the address for a client.
func (m *marker) target() string {
	if m.Addr().Network() == "unix" {
		return "unix:" + m.Addr().String()
	}
	return m.Addr().String()
}

// serve serves a function until the end of the test: each call and each stream runs it.
func serveConns(t testing.TB, ln net.Listener, do func(context.Context), opts ...grpc.ServerOption) *grpc.Server {
	t.Helper()
	gs := grpc.NewServer(opts...)
	echopb.RegisterEchoServer(gs, failing(func(ctx context.Context) error {
		do(ctx)
		return nil
	}))
	served := make(chan error, 1)
	go func() { served <- gs.Serve(ln) }() // ends with Stop
	t.Cleanup(func() {
		gs.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	})
	return gs
}

func client(t testing.TB, target string, opts ...grpc.DialOption) echopb.EchoClient {
	t.Helper()
	opts = append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry()}, opts...)
	cc, err := grpc.NewClient(target, opts...)
	must(t, err)
	t.Cleanup(func() { cc.Close() })
	return echopb.NewEchoClient(cc)
}

// Each call and each stream has the connection of the listener in its context, and the function is called once for a connection.
func TestContextsOfCallsDeriveFromTheConnection(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		var seen []net.Conn
		var fns atomic.Int32
		ln := listen(t, network)
		opts := grpccanary.ConnContext(nil, func(ctx context.Context, c net.Conn) context.Context {
			fns.Add(1)
			if _, ok := peer.FromContext(ctx); !ok {
				t.Error("the context has no peer")
			}
			return withConn(ctx, c)
		})
		serveConns(t, ln, func(ctx context.Context) { seen = append(seen, connOf(ctx)) }, opts...)
		for range 2 {
			c := client(t, ln.target())
			for range 3 {
				if text := say(c); text != "" {
					t.Errorf("%s: %s", network, text)
				}
				if text := chat(c); text != "EOF" {
					t.Errorf("%s: %s", network, text)
				}
			}
		}
		all := ln.accepted()
		if len(seen) != 12 || len(all) != 2 || fns.Load() != 2 {
			t.Fatalf("%s: %d calls, %d connections, and %d calls of the function, want 12, 2 and 2", network, len(seen), len(all), fns.Load())
		}
		for i, c := range seen {
			if c != all[i/6] {
				t.Errorf("%s: call %d has the connection %v, want number %d", network, i, c, i/6)
			}
		}
	}
}

// A known is the AuthInfo of a connection, with the connection.
type known struct {
	credentials.CommonAuthInfo
	raw net.Conn
}

func (known) AuthType() string { return "known" }

// A gate is the credentials that let no connection through before a number of connections have come.
type gate struct {
	credentials.TransportCredentials
	all *sync.WaitGroup
}

func (g gate) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	g.all.Done()
	g.all.Wait()
	return raw, known{raw: raw}, nil
}

// Connections that are made at the same time and have the same addresses, as those of a unix socket, are not mixed up. Not even
// if they share the value of the address.
func TestConnectionsWithOneAddressAreNotMixedUp(t *testing.T) {
	const n = 20
	for name, shared := range map[string]net.Addr{
		"unix": nil, "tcp, shared": &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, "unix, shared": &net.UnixAddr{Name: "@", Net: "unix"},
	} {
		ln := listen(t, "unix")
		ln.shared = shared
		var all, clients sync.WaitGroup
		all.Add(n)
		var right atomic.Int32
		serveConns(t, ln, func(ctx context.Context) {
			p, _ := peer.FromContext(ctx)
			info, ok := p.AuthInfo.(known)
			if c := connOf(ctx); !ok || c == nil || c != info.raw {
				t.Errorf("%s: the context has %v, and the call came on %v", name, c, info.raw)
				return
			}
			right.Add(1)
		}, grpccanary.ConnContext(gate{insecure.NewCredentials(), &all}, withConn)...)
		for range n {
			c := client(t, ln.target())
			clients.Go(func() {
				say(c)
				chat(c)
			})
		}
		clients.Wait()
		if right.Load() != 2*n {
			t.Errorf("%s: %d of %d calls have their connection", name, right.Load(), 2*n)
		}
	}
}

// A seen is all that the server shows of a connection.
type seen struct {
	addr, local, auth, alpn string
	level                   credentials.SecurityLevel
	certificates            int
}

func look(ctx context.Context) (s seen) {
	p, _ := peer.FromContext(ctx)
	s.addr, s.local, s.auth = fmt.Sprintf("%T", p.Addr), fmt.Sprintf("%T", p.LocalAddr), fmt.Sprintf("%T", p.AuthInfo)
	if info, ok := p.AuthInfo.(credentials.TLSInfo); ok {
		s.alpn, s.level = info.State.NegotiatedProtocol, info.SecurityLevel
		s.certificates = len(info.State.PeerCertificates)
	}
	return s
}

// A statsLook is a stats.Handler that notes the types of addresses.
type statsLook struct {
	compression
	types chan string
}

func (s statsLook) TagConn(ctx context.Context, i *stats.ConnTagInfo) context.Context {
	s.types <- fmt.Sprintf("%T %T", i.RemoteAddr, i.LocalAddr)
	return ctx
}

func (statsLook) HandleRPC(context.Context, stats.RPCStats) {}

// Calls over TLS see the same AuthInfo, protocol, certificates and types of addresses as without ConnContext.
func TestConnContextLeavesTheRestAsItIs(t *testing.T) {
	web := httptest.NewUnstartedServer(http.NotFoundHandler())
	web.StartTLS()
	web.Close()
	own := web.TLS.Certificates
	creds := func() credentials.TransportCredentials {
		return credentials.NewTLS(&tls.Config{Certificates: own, ClientAuth: tls.RequireAnyClientCert})
	}
	types := statsLook{types: make(chan string, 10)}
	var got [2]seen
	for i, opts := range [][]grpc.ServerOption{{grpc.Creds(creds())}, grpccanary.ConnContext(creds(), withConn)} {
		ln := listen(t, "tcp")
		serveConns(t, ln, func(ctx context.Context) {
			got[i] = look(ctx)
			if c := connOf(ctx); i == 1 && c != ln.accepted()[0] {
				t.Errorf("the context has %v", c)
			}
		}, append(opts, grpc.StatsHandler(types))...)
		cert := grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{InsecureSkipVerify: true, Certificates: own}))
		if text := say(client(t, ln.target(), cert)); text != "" {
			t.Error(text)
		}
		if text := <-types.types; text != "*net.TCPAddr *net.TCPAddr" {
			t.Errorf("a stats.Handler gets %s", text)
		}
	}
	want := seen{"*net.TCPAddr", "*net.TCPAddr", "credentials.TLSInfo", "h2", credentials.PrivacyAndIntegrity, 1}
	if got[0] != want || got[1] != want {
		t.Errorf("%+v without and %+v with ConnContext, want %+v", got[0], got[1], want)
	}
}

// Clone, Info and OverrideServerName are those of the credentials, connections of a clone are noted too, and channelz can ask a
// connection for its socket.
func TestWrappedCredentialsAreTheCredentials(t *testing.T) {
	inner := credentials.NewTLS(&tls.Config{ServerName: "one.example"})
	_, creds, _ := grpccanary.ConnContextOf(inner, withConn)
	clone := creds.Clone()
	must(t, clone.OverrideServerName("two.example")) //lint:ignore SA1019 a wrapper has to pass it on all the same
	for c, want := range map[credentials.TransportCredentials]string{creds: "one.example", clone: "two.example"} {
		if info := c.Info(); info.SecurityProtocol != "tls" || !strings.Contains(fmt.Sprintf("%+v", info), "ServerName:"+want) {
			t.Errorf("%+v, want the name %s", info, want)
		}
	}
	_, creds, waiting := grpccanary.ConnContextOf(insecure.NewCredentials(), withConn)
	ln := listen(t, "tcp")
	defer ln.Close()
	nc, err := net.Dial("tcp", ln.target())
	must(t, err)
	defer nc.Close()
	raw, err := ln.Listener.Accept()
	must(t, err)
	defer raw.Close()
	for of, want := range map[net.Conn]error{raw: nil, &marked{Conn: raw}: errors.ErrUnsupported} {
		c, _, err := creds.Clone().ServerHandshake(of)
		must(t, err)
		if waiting() != 1 {
			t.Fatalf("%d connections are noted", waiting())
		}
		if _, err := c.(syscall.Conn).SyscallConn(); !errors.Is(err, want) {
			t.Errorf("%T: %v", of, err)
		}
		runtime.KeepAlive(c)
		c = nil
		untilNone(t, waiting)
	}
}

// untilNone waits until no connection is noted.
func untilNone(t *testing.T, waiting func() int) {
	t.Helper()
	testutil.Until(t, 20*time.Second, "no connection is noted", func() bool {
		runtime.GC()
		return waiting() == 0
	})
}

// A connection that ends before its first call leaves nothing behind, whatever ends it, and neither does one with calls.
func TestConnectionsThatEndEarlyLeaveNothing(t *testing.T) {
	web := httptest.NewUnstartedServer(http.NotFoundHandler())
	web.StartTLS()
	web.Close()
	secure := credentials.NewTLS(&tls.Config{Certificates: web.TLS.Certificates})
	for _, c := range map[string]struct {
		creds credentials.TransportCredentials
		sends string
	}{
		"no handshake":            {secure, ""},
		"a handshake that fails":  {secure, "this is no TLS, and no preface of HTTP/2 either"},
		"no preface":              {insecure.NewCredentials(), ""},
		"a part of the preface":   {insecure.NewCredentials(), "PRI * HT"},
		"another preface":         {insecure.NewCredentials(), "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"},
		"a preface, and no frame": {insecure.NewCredentials(), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
	} {
		opts, _, waiting := grpccanary.ConnContextOf(c.creds, withConn)
		ln := listen(t, "tcp")
		serveConns(t, ln, func(context.Context) {}, opts...)
		for range 20 {
			nc, err := net.Dial("tcp", ln.target())
			must(t, err)
			_, _ = io.WriteString(nc, c.sends)
			_ = nc.(*net.TCPConn).CloseWrite() // fails if the server has closed the connection
			_, _ = io.Copy(io.Discard, nc)
			nc.Close()
		}
		untilNone(t, waiting)
	}
	opts, _, waiting := grpccanary.ConnContextOf(insecure.NewCredentials(), withConn)
	ln := listen(t, "tcp")
	serveConns(t, ln, func(context.Context) {
		if n := waiting(); n != 0 {
			t.Errorf("%d connections are noted after TagConn", n)
		}
	}, opts...)
	say(client(t, ln.target()))
}

// A server whose function is nil, or returns nothing, and one whose addresses are of another type, serves as without ConnContext.
func TestConnContextWithoutAResultChangesNothing(t *testing.T) {
	for name, fn := range map[string]func(context.Context, net.Conn) context.Context{
		"no function": nil, "no result": func(context.Context, net.Conn) context.Context { return nil },
	} {
		ln := listen(t, "tcp")
		serveConns(t, ln, func(ctx context.Context) {
			if _, ok := metadata.FromIncomingContext(ctx); !ok || connOf(ctx) != nil {
				t.Errorf("%s: the context is %v", name, ctx)
			}
		}, grpccanary.ConnContext(nil, fn)...)
		if text := say(client(t, ln.target())); text != "" {
			t.Errorf("%s: %s", name, text)
		}
	}
	ln := bufconn.Listen(1 << 16)
	serveConns(t, ln, func(ctx context.Context) {
		if c := connOf(ctx); c != nil {
			t.Errorf("the context has %v", c)
		}
	}, grpccanary.ConnContext(nil, withConn)...)
	dial := grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return ln.DialContext(ctx) })
	if text := say(client(t, "passthrough:///buf", dial)); text != "" {
		t.Error(text)
	}
}

// A Router without a weight, as an interceptor, only observes: each call and each stream of every service has one Begin and one
// Observe, the stream at its end, with the connection in the context of the request.
func TestARouterWithoutAWeightObserves(t *testing.T) {
	ln := listen(t, "tcp")
	right := func(o canary.Outcome) bool {
		return o.Side == canary.Stable && !o.Drawn() && connOf(o.Request.Context()) == ln.accepted()[0]
	}
	begun, observed := make(chan string, 10), make(chan string, 10)
	rt := newRouter(t, canary.Options{
		Begin: func(o canary.Outcome) any {
			begun <- fmt.Sprint(o.Request.URL.Path, right(o))
			return o.Request.URL.Path
		},
		Observe: func(o canary.Outcome) { observed <- fmt.Sprint(o.Begun, right(o), o.Status, o.Failed()) },
	})
	opts := grpccanary.ConnContext(nil, withConn)
	opts = append(opts, grpc.UnaryInterceptor(rt.UnaryInterceptor), grpc.StreamInterceptor(rt.StreamInterceptor))
	gs := grpc.NewServer(opts...)
	inner := newRouter(t, canary.Options{Weight: all})
	registerEcho(inner, gs, v1, &echo{
		say: func(context.Context, *request) (*reply, error) { return nil, errors.New("bad") },
		chat: func(s chatStream) error {
			if side, _ := canary.SideFromContext(s.Context()); side != canary.Canary {
				t.Errorf("the side is %v", side)
			}
			_, err := s.Recv()
			if n := len(observed); n != 0 {
				t.Errorf("%d outcomes of a stream that has not ended", n)
			}
			return err
		},
	})
	served := make(chan error, 1)
	go func() { served <- gs.Serve(ln) }() // ends with Stop
	defer func() {
		gs.Stop()
		must(t, <-served)
	}()
	c := client(t, ln.target())
	say(c)
	if b, o := <-begun, <-observed; b != sayMethod+"true" || o != sayMethod+"true 500 true" {
		t.Errorf("a call: %s, %s", b, o)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := c.Chat(ctx)
	must(t, err)
	if b := <-begun; b != chatMethod+"true" {
		t.Errorf("a stream: %s", b)
	}
	cancel()
	if o := <-observed; o != chatMethod+"true 499 false" {
		t.Errorf("a stream: %s", o)
	}
}
