package main

import (
	"context"
	"errors"
	"io"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/canary/grpccanary"
	"github.com/midair-go/midair/drain"
	"github.com/midair-go/midair/examples/grpcserver/echopb"
	"github.com/midair-go/midair/examples/internal/failing"
)

// echo is the service. Every answer carries headers that name the process that gave it.
type echo struct {
	echopb.UnimplementedEchoServer
	header map[string]string
	fail   *failing.Mode
}

// Say answers with the same text.
func (e *echo) Say(_ context.Context, r *echopb.SayRequest) (*echopb.SayReply, error) {
	return &echopb.SayReply{Text: r.GetText()}, nil
}

// Chat answers each message with the same text. When the server drains it ends the stream with Unavailable between two
// messages: the client opens a new one, and gets the new process.
func (e *echo) Chat(stream grpc.BidiStreamingServer[echopb.SayRequest, echopb.SayReply]) error {
	draining := drain.FromContext(stream.Context()).Begun() // closed when the client knows that its connection ends
	said := make(chan received)
	go func() { // ends with the stream, which ends when Chat returns
		defer close(said)
		for {
			r, err := stream.Recv()
			select {
			case said <- received{r, err}:
			case <-stream.Context().Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	for {
		select {
		case r := <-said:
			if errors.Is(r.err, io.EOF) {
				return nil
			}
			if r.err != nil {
				return r.err
			}
			if err := stream.Send(&echopb.SayReply{Text: r.msg.GetText()}); err != nil {
				return err
			}
		case <-draining:
			return status.Error(codes.Unavailable, "the server is being replaced: open the stream again")
		}
	}
}

// A loud is the new echo.
type loud struct{ *echo }

// Say answers with the same text in capitals.
func (l loud) Say(_ context.Context, r *echopb.SayRequest) (*echopb.SayReply, error) {
	return &echopb.SayReply{Text: strings.ToUpper(r.GetText())}, nil
}

// register registers both echoes. The new echo gets a share of the calls, and the calls with the metadata "canary: true".
func (e *echo) register(gs *grpc.Server, share float64) (*grpccanary.Router, error) {
	opts := canary.Options{Name: "echo", Weight: canary.Fixed(share)}
	opts.Rescue = &canary.Rescue{Also: grpccanary.Methods(echopb.Echo_Say_FullMethodName)}
	opts.Choose, _ = canary.ByHeader("canary")
	rt, err := grpccanary.NewRouter(opts)
	if err != nil {
		return nil, err
	}
	grpccanary.Register[echopb.EchoServer](rt, gs, echopb.RegisterEchoServer, e, loud{e})
	return rt, nil
}

type received struct {
	msg *echopb.SayRequest
	err error
}

func (e *echo) tagCall(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := grpc.SetHeader(ctx, metadata.New(e.header)); err != nil {
		return nil, err
	}
	if err := e.bad(ctx); err != nil {
		return nil, err
	}
	return next(ctx, req)
}

// bad is what a bad release does to a call.
func (e *echo) bad(ctx context.Context) error {
	if err := e.fail.Request(ctx); err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	return nil
}

func (e *echo) tagStream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if err := stream.SetHeader(metadata.New(e.header)); err != nil {
		return err
	}
	if err := e.bad(stream.Context()); err != nil {
		return err
	}
	return next(srv, stream)
}
