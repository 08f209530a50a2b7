package grpccanary_test

import (
	"context"
	"net"
	"net/http"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/canary/grpccanary"
	"github.com/midair-go/midair/examples/grpcserver/echopb"
)

// A registrar keeps the handler of the unary method that is registered.
type registrar struct {
	say  grpc.MethodHandler
	impl any
}

func (r *registrar) RegisterService(desc *grpc.ServiceDesc, impl any) {
	r.say, r.impl = desc.Methods[0].Handler, impl
}

// A transport is a transport stream that sends nothing.
type transport struct{}

func (transport) Method() string               { return echopb.Echo_Say_FullMethodName }
func (transport) SetHeader(metadata.MD) error  { return nil }
func (transport) SendHeader(metadata.MD) error { return nil }
func (transport) SetTrailer(metadata.MD) error { return nil }

// incoming is the context of a call of a common client.
func incoming() context.Context {
	ctx := metadata.NewIncomingContext(context.Background(), metadata.Pairs(
		":authority", "localhost:9090", "content-type", "application/grpc", "user-agent", "grpc-go/1.85.0", "user-id", "ann"))
	ctx = peer.NewContext(ctx, &peer.Peer{Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000}})
	return grpc.NewContextWithServerTransportStream(ctx, transport{})
}

// A way is a set of options, with how many allocations they may cost a call.
type way struct {
	name string
	opts canary.Options
	most float64
}

func ways() []way {
	user := func(r *http.Request) string { return r.Header.Get("User-Id") }
	rescue := &canary.Rescue{Also: grpccanary.Methods(echopb.Echo_Say_FullMethodName), Status: canary.ServerError}
	return []way{
		{"all stable", canary.Options{}, 10},
		{"all canary", canary.Options{Weight: all}, 15},
		{"key", canary.Options{Weight: canary.Fixed(0.999999999), Key: user}, 30},
		{"rescue, not needed", canary.Options{Weight: all, Rescue: rescue}, 45},
		{"observed", canary.Options{Weight: all, Observe: func(canary.Outcome) {}}, 15},
		{"observed, another method may be rescued", canary.Options{
			Weight: all, Observe: func(canary.Outcome) {}, Rescue: &canary.Rescue{Also: grpccanary.Methods("/a/B")},
		}, 30},
	}
}

// calls returns a function that makes a call without a network.
func calls(t testing.TB, register func(*registrar)) func() {
	t.Helper()
	var reg registrar
	register(&reg)
	ctx, none := incoming(), func(any) error { return nil }
	return func() {
		if _, err := reg.say(reg.impl, ctx, none, nil); err != nil {
			t.Fatal(err)
		}
	}
}

func plain(t testing.TB) func() {
	t.Helper()
	return calls(t, func(r *registrar) { echopb.RegisterEchoServer(r, v1) })
}

func (w way) calls(t testing.TB) func() {
	t.Helper()
	return calls(t, func(r *registrar) { registerEcho(newRouter(t, w.opts), r, v1, v2) })
}

// A call costs few allocations beside the handler alone. The metadata is looked at only if a function of the options is.
func TestCallsAllocateLittle(t *testing.T) {
	before := testing.AllocsPerRun(1000, plain(t))
	for _, w := range ways() {
		n := testing.AllocsPerRun(1000, w.calls(t)) - before
		t.Logf("%s: %v allocations more than the %v of the handler alone", w.name, n, before)
		if n > w.most {
			t.Errorf("%s: %v allocations, want at most %v", w.name, n, w.most)
		}
	}
}

// BenchmarkCall is a call through the router, without a network, beside the handler alone.
func BenchmarkCall(b *testing.B) {
	run := func(name string, call func()) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				call()
			}
		})
	}
	run("plain", plain(b))
	for _, w := range ways() {
		run(w.name, w.calls(b))
	}
}

// BenchmarkConnContext is a call over loopback, without ConnContext and with it.
func BenchmarkConnContext(b *testing.B) {
	for name, opts := range map[string][]grpc.ServerOption{"plain": nil, "with": grpccanary.ConnContext(nil, withConn)} {
		b.Run(name, func(b *testing.B) {
			s := newServer(b, opts...)
			echopb.RegisterEchoServer(s, v1)
			client := echopb.NewEchoClient(s.dial())
			b.ReportAllocs()
			for b.Loop() {
				say(client)
			}
		})
	}
}
