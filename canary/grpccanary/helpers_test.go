package grpccanary_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/canary/grpccanary"
	"github.com/midair-go/midair/examples/grpcserver/echopb"
)

var quiet = slog.New(slog.DiscardHandler)

// always and all are functions of options.
func always(*http.Request) bool { return true }

var all = canary.Fixed(1)

// An echo is a service whose calls run the functions of the test. Without a function it answers with its name.
type echo struct {
	echopb.UnimplementedEchoServer
	name string
	say  func(context.Context, *request) (*reply, error)
	chat func(chatStream) error
}

// Short names.
type (
	callInfo   = grpc.UnaryServerInfo
	streamInfo = grpc.StreamServerInfo
	request    = echopb.SayRequest
	reply      = echopb.SayReply
)

type chatStream = grpc.BidiStreamingServer[echopb.SayRequest, echopb.SayReply]

func (e *echo) Say(ctx context.Context, r *request) (*reply, error) {
	if e.say != nil {
		return e.say(ctx, r)
	}
	return &reply{Text: e.name}, nil
}

func (e *echo) Chat(s chatStream) error {
	if e.chat != nil {
		return e.chat(s)
	}
	return s.Send(&reply{Text: e.name})
}

// A health is a service whose check runs the function of the test.
type health struct {
	healthpb.UnimplementedHealthServer
	check check
}

type check func(context.Context) (*healthpb.HealthCheckResponse, error)

func (h *health) Check(ctx context.Context, _ *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	return h.check(ctx)
}

// newRouter returns a Router that logs nothing.
func newRouter(t testing.TB, opts canary.Options) *grpccanary.Router {
	t.Helper()
	if opts.Logger == nil {
		opts.Logger = quiet
	}
	rt, err := grpccanary.NewRouter(opts)
	if err != nil {
		t.Fatal(err)
	}
	return rt
}

// A server is a grpc.Server that serves on loopback until the end of the test.
type server struct {
	*grpc.Server
	t     testing.TB
	creds credentials.TransportCredentials // of the client
}

func newServer(t testing.TB, opts ...grpc.ServerOption) *server {
	return &server{grpc.NewServer(opts...), t, insecure.NewCredentials()}
}

// dial serves, and returns a connection to the server.
func (s *server) dial() *grpc.ClientConn {
	s.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }() // ends with Stop
	cc, err := grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(s.creds), grpc.WithDisableRetry())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		cc.Close()
		s.Stop()
		if err := <-served; err != nil {
			s.t.Error(err)
		}
	})
	return cc
}

// serveEcho returns a client of a server between two implementations.
func serveEcho(t testing.TB, rt *grpccanary.Router, stable, canaryEcho *echo, opts ...grpc.ServerOption) echopb.EchoClient {
	t.Helper()
	s := newServer(t, opts...)
	registerEcho(rt, s, stable, canaryEcho)
	return echopb.NewEchoClient(s.dial())
}

// registerEcho registers an echo with two implementations.
func registerEcho(rt *grpccanary.Router, gs grpc.ServiceRegistrar, stable, canaryEcho echopb.EchoServer) {
	grpccanary.Register(rt, gs, echopb.RegisterEchoServer, stable, canaryEcho)
}

// registerHealth registers a health service with two functions.
func registerHealth(rt *grpccanary.Router, gs grpc.ServiceRegistrar, stable, canaryCheck check) {
	grpccanary.Register[healthpb.HealthServer](rt, gs, healthpb.RegisterHealthServer,
		&health{check: stable}, &health{check: canaryCheck})
}

// The two implementations of most tests.
var (
	v1 = &echo{name: "stable"}
	v2 = &echo{name: "canary"}
)

// say returns the text of the answer, or the error. The metadata is in pairs.
func say(client echopb.EchoClient, md ...string) string {
	ctx := metadata.AppendToOutgoingContext(context.Background(), md...)
	r, err := client.Say(ctx, &request{Text: "hello"})
	if err != nil {
		return err.Error()
	}
	return r.GetText()
}

// chat opens a stream, and returns the first answer, or the error.
func chat(client echopb.EchoClient, md ...string) string {
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(context.Background(), md...))
	defer cancel()
	s, err := client.Chat(ctx)
	if err != nil {
		return err.Error()
	}
	r, err := s.Recv()
	if err != nil {
		return err.Error()
	}
	return r.GetText()
}

// recovers are interceptors that make an Internal error of a panic.
func recovers() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *callInfo, next grpc.UnaryHandler) (_ any, err error) {
			defer recovered(&err)
			return next(ctx, req)
		}),
		grpc.ChainStreamInterceptor(func(srv any, ss grpc.ServerStream, _ *streamInfo, next grpc.StreamHandler) (err error) {
			defer recovered(&err)
			return next(srv, ss)
		}),
	}
}

func recovered(err *error) {
	if p := recover(); p != nil {
		*err = status.Error(codes.Internal, fmt.Sprint("panic: ", p))
	}
}

// An answer is all that a client gets.
type answer struct {
	reply           string // the bytes
	err             string
	header, trailer string
}

// get calls a method, and returns the answer.
func get(cc *grpc.ClientConn, method, number string, req, reply proto.Message) answer {
	ctx := metadata.AppendToOutgoingContext(context.Background(), "number", number)
	var header, trailer metadata.MD
	err := cc.Invoke(ctx, method, req, reply, grpc.Header(&header), grpc.Trailer(&trailer))
	b, wrong := proto.MarshalOptions{Deterministic: true}.Marshal(reply)
	if err = errors.Join(err, wrong); err != nil {
		b = append(b, fmt.Sprint(status.Convert(err).Proto())...)
	}
	return answer{string(b), fmt.Sprint(err), lines(header), lines(trailer)}
}

// getHealth calls the health service, and returns the answer.
func getHealth(cc *grpc.ClientConn, number string) answer {
	return get(cc, healthpb.Health_Check_FullMethodName, number, &healthpb.HealthCheckRequest{}, &healthpb.HealthCheckResponse{})
}

// lines returns all of md as a text. The method String of an MD hides the values.
func lines(md metadata.MD) string { return fmt.Sprint(map[string][]string(md)) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
