package grpccanary_test

import (
	"context"
	"fmt"
	"log"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/canary/grpccanary"
	"github.com/midair-go/midair/examples/grpcserver/echopb"
)

// An oldEcho answers with the text.
type oldEcho struct{ echopb.UnimplementedEchoServer }

func (oldEcho) Say(_ context.Context, r *echopb.SayRequest) (*echopb.SayReply, error) {
	return &echopb.SayReply{Text: "old: " + r.GetText()}, nil
}

// A newEcho has a bug.
type newEcho struct{ echopb.UnimplementedEchoServer }

func (newEcho) Say(_ context.Context, r *echopb.SayRequest) (*echopb.SayReply, error) {
	return &echopb.SayReply{Text: "new: " + r.GetText()[:5]}, nil
}

// The new implementation gets the calls of testers at first. A call whose new implementation panics is answered by the old one.
func Example() {
	opts := canary.Options{
		Name:   "echo-v2",
		Logger: quiet,
		Rescue: &canary.Rescue{Also: grpccanary.Methods(echopb.Echo_Say_FullMethodName)},
	}
	opts.Choose, _ = canary.ByHeader("canary")
	rt, err := grpccanary.NewRouter(opts)
	if err != nil {
		log.Fatal(err)
	}
	gs := grpc.NewServer()
	grpccanary.Register[echopb.EchoServer](rt, gs, echopb.RegisterEchoServer, oldEcho{}, newEcho{})

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go gs.Serve(ln) // ends with Stop
	defer gs.Stop()
	cc, err := grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer cc.Close()
	client := echopb.NewEchoClient(cc)
	tester := metadata.AppendToOutgoingContext(context.Background(), "canary", "true")
	for _, ctx := range []context.Context{context.Background(), tester} {
		for _, text := range []string{"hello", "hey"} {
			r, err := client.Say(ctx, &echopb.SayRequest{Text: text})
			fmt.Println(r.GetText(), err)
		}
	}
	fmt.Println("rescued:", rt.Core().Status().Rescued)
	// Output:
	// old: hello <nil>
	// old: hey <nil>
	// new: hello <nil>
	// old: hey <nil>
	// rescued: 1
}

// A handler that chooses itself asks for its side.
func ExampleRouter_UnaryInterceptor() {
	rt, err := grpccanary.NewRouter(canary.Options{Name: "echo-v2", Weight: canary.Fixed(1)})
	if err != nil {
		log.Fatal(err)
	}
	// gs := grpc.NewServer(grpc.ChainUnaryInterceptor(auth, rt.UnaryInterceptor), grpc.ChainStreamInterceptor(…))
	handler := func(ctx context.Context, _ any) (any, error) {
		side, _ := canary.SideFromContext(ctx)
		return "the answer of the side " + side.String(), nil
	}
	info := &grpc.UnaryServerInfo{FullMethod: "/pkg.Service/Method"}
	fmt.Println(rt.UnaryInterceptor(context.Background(), &echopb.SayRequest{}, info, handler))
	// Output: the answer of the side canary <nil>
}

// A peerService answers with the network of the connection.
type peerService struct{ echopb.UnimplementedEchoServer }

func (peerService) Say(ctx context.Context, _ *echopb.SayRequest) (*echopb.SayReply, error) {
	c := ctx.Value(exampleKey{}).(net.Conn)
	return &echopb.SayReply{Text: c.LocalAddr().Network()}, nil
}

type exampleKey struct{}

// A call knows its connection.
func ExampleConnContext() {
	gs := grpc.NewServer(grpccanary.ConnContext(nil, func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, exampleKey{}, c)
	})...)
	echopb.RegisterEchoServer(gs, peerService{})

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go gs.Serve(ln) // ends with Stop
	defer gs.Stop()
	cc, err := grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer cc.Close()
	r, err := echopb.NewEchoClient(cc).Say(context.Background(), &echopb.SayRequest{})
	fmt.Println("the call came by", r.GetText(), err)
	// Output: the call came by tcp <nil>
}
