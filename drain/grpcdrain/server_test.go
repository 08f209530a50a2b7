package grpcdrain_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/midair-go/midair/drain"
	"github.com/midair-go/midair/drain/grpcdrain"
)

// A call that has begun is answered, and only then Serve returns.
func TestDrainAnswersTheCallThatHasBegun(t *testing.T) {
	begun, finish := make(chan struct{}), make(chan struct{})
	f := start(t, &handler{check: func(context.Context) error {
		close(begun)
		<-finish
		return nil
	}}, drain.Options{})
	answered := make(chan error, 1)
	go func() { answered <- f.call() }()
	<-begun
	f.stop(nil)
	<-f.srv.Draining()
	select {
	case err := <-f.served:
		t.Fatalf("Serve returned during a call: %v", err)
	default:
	}
	close(finish)
	if err := <-answered; err != nil {
		t.Errorf("the call: %v", err)
	}
	if err := f.wait(t); err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// If the handler of a stream learns of the drain and returns, the stream ends with the status of the handler.
func TestStreamEndsWithItsOwnStatus(t *testing.T) {
	var f *fixture
	begun := make(chan struct{})
	f = start(t, &handler{watch: func(grpc.ServerStreamingServer[grpc_health_v1.HealthCheckResponse]) error {
		close(begun)
		<-f.srv.Draining()
		return status.Error(codes.Aborted, "come again")
	}}, drain.Options{})
	stream, err := f.client.Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	<-begun
	f.stop(nil)
	if _, err := stream.Recv(); status.Code(err) != codes.Aborted {
		t.Errorf("the stream ended with %v", err)
	}
	if err := f.wait(t); err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// A call is in the registry with its name, and its context has the Notice. Begun is closed only after the client has got the
// first GOAWAY. So if the stream ends then, the client opens the next stream on another connection.
func TestStreamsLearnOfTheDrainAfterTheirClient(t *testing.T) {
	begun := make(chan struct{})
	f := start(t, &handler{watch: func(s grpc.ServerStreamingServer[grpc_health_v1.HealthCheckResponse]) error {
		close(begun)
		n := drain.FromContext(s.Context())
		<-n.Begun()
		if _, ok := n.Deadline(); !ok || s.Context().Err() != nil {
			t.Errorf("deadline %v, context %v", ok, s.Context().Err())
		}
		return status.Error(codes.Unavailable, "come again")
	}}, drain.Options{})
	stream, err := f.client.Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	<-begun
	var names []string
	for _, e := range f.srv.Core().Entries() {
		names = append(names, e.Protocol+" "+e.Name)
	}
	if got := strings.Join(names, ", "); got != "grpc , grpc /grpc.health.v1.Health/Watch" {
		t.Errorf("entries %s", got)
	}
	f.stop(handover{errors.New("upgrade")})
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "come again") {
		t.Errorf("the stream ended with %v", err)
	}
	if ends := f.heard.ends(); !strings.HasPrefix(ends, "GOAWAY") || !strings.Contains(ends, "trailers") {
		t.Errorf("the client heard of its stream before it heard of its connection: %s", ends)
	}
	if err := f.wait(t); err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// With TLS, the server cannot see the first GOAWAY. Streams still end with a status, and then the drain ends.
func TestStreamsEndWithAStatusOverTLS(t *testing.T) {
	web := httptest.NewUnstartedServer(nil)
	web.StartTLS()
	defer web.Close()
	begun := make(chan struct{})
	f := startWith(t, &handler{watch: func(s grpc.ServerStreamingServer[grpc_health_v1.HealthCheckResponse]) error {
		close(begun)
		<-drain.FromContext(s.Context()).Begun()
		return status.Error(codes.Unavailable, "come again")
	}}, drain.Options{}, credentials.NewTLS(&tls.Config{Certificates: web.TLS.Certificates}), credentials.NewTLS(&tls.Config{InsecureSkipVerify: true}))
	stream, err := f.client.Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	<-begun
	f.stop(handover{errors.New("upgrade")})
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "come again") {
		t.Errorf("the stream ended with %v", err)
	}
	if err := f.wait(t); err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// When Grace has run out the context of a stream ends, and there is time to end the stream with a status.
func TestGraceEndsStreamsWithAStatus(t *testing.T) {
	begun := make(chan struct{})
	f := start(t, &handler{watch: func(s grpc.ServerStreamingServer[grpc_health_v1.HealthCheckResponse]) error {
		close(begun)
		<-s.Context().Done()
		return status.Error(codes.ResourceExhausted, context.Cause(s.Context()).Error())
	}}, drain.Options{Grace: 50 * time.Millisecond})
	stream, err := f.client.Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	<-begun
	f.stop(nil)
	if _, err := stream.Recv(); status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), drain.ErrExpired.Error()) {
		t.Errorf("the stream ended with %v", err)
	}
	var late *drain.TimeoutError
	if err := f.wait(t); !errors.As(err, &late) || !strings.Contains(err.Error(), "/grpc.health.v1.Health/Watch") {
		t.Errorf("Serve: %v", err)
	}
}

// The context of a call that begins after the end of the drain ends at once, because nothing waits for the call.
func TestCallAfterTheDrainIsCancelled(t *testing.T) {
	calls := new(grpcdrain.Observer)
	srv := grpcdrain.NewServer(grpc.NewServer(grpc.StatsHandler(calls)), drain.Options{})
	srv.Observe(calls)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := srv.Serve(ctx, ln); err != nil {
		t.Fatal(err)
	}
	call := calls.TagRPC(t.Context(), &stats.RPCTagInfo{FullMethodName: "/late"})
	calls.HandleRPC(call, &stats.Begin{BeginTime: time.Now()})
	if err := context.Cause(call); !errors.Is(err, drain.ErrExpired) {
		t.Errorf("the cause is %v", err)
	}
	calls.HandleRPC(call, &stats.End{})
}

// The health service answers NOT_SERVING from the first moment of a plain stop, while calls are still answered. An upgrade does
// not change its answer.
func TestHealthFollowsAPlainStopOnly(t *testing.T) {
	for cause, want := range map[error]grpc_health_v1.HealthCheckResponse_ServingStatus{
		nil:                             grpc_health_v1.HealthCheckResponse_NOT_SERVING,
		handover{errors.New("upgrade")}: grpc_health_v1.HealthCheckResponse_SERVING,
	} {
		hs := health.NewServer()
		begun, finish := make(chan struct{}), make(chan struct{})
		f := start(t, &handler{check: func(context.Context) error {
			close(begun)
			<-finish
			return nil
		}}, drain.Options{Propagation: time.Nanosecond})
		f.srv.SetHealth(hs)
		answered := make(chan error, 1)
		go func() { answered <- f.call() }()
		<-begun
		f.stop(cause)
		<-f.srv.Draining()
		r, err := hs.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
		if err != nil || r.GetStatus() != want {
			t.Errorf("health %v, %v; want %v", r.GetStatus(), err, want)
		}
		close(finish)
		if err := <-answered; err != nil {
			t.Error(err)
		}
		if err := f.wait(t); err != nil {
			t.Error(err)
		}
	}
}

// After Drain of an operator, the health service answers NOT_SERVING. After Resume, it answers SERVING again.
func TestHealthFollowsDrainAndResume(t *testing.T) {
	hs := health.NewServer()
	f := start(t, &handler{}, drain.Options{})
	f.srv.SetHealth(hs)
	for _, step := range []struct {
		do   func() error
		want grpc_health_v1.HealthCheckResponse_ServingStatus
	}{{f.srv.Core().Drain, grpc_health_v1.HealthCheckResponse_NOT_SERVING}, {f.srv.Core().Resume, grpc_health_v1.HealthCheckResponse_SERVING}} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if r, err := hs.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}); err != nil || r.GetStatus() != step.want {
			t.Errorf("health %v, %v; want %v", r.GetStatus(), err, step.want)
		}
		if err := f.call(); err != nil {
			t.Errorf("a call: %v", err)
		}
	}
	f.stop(nil)
	if err := f.wait(t); err != nil {
		t.Error(err)
	}
}

// Calls and connections that do not end in time are cut, and the error lists them.
func TestGraceEndsAStubbornStream(t *testing.T) {
	begun := make(chan struct{})
	f := start(t, &handler{watch: func(s grpc.ServerStreamingServer[grpc_health_v1.HealthCheckResponse]) error {
		close(begun)
		<-s.Context().Done()
		return s.Context().Err()
	}}, drain.Options{Grace: 50 * time.Millisecond})
	stream, err := f.client.Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	<-begun
	f.stop(nil)
	var late *drain.TimeoutError
	if err := f.wait(t); !errors.As(err, &late) || len(late.Left) != 2 || !strings.HasPrefix(late.Left[0].Remote, "127.0.0.1:") {
		t.Errorf("Serve: %v", err)
	}
	if _, err := stream.Recv(); err == nil {
		t.Error("the stream goes on")
	}
}

// handover is the cause that package upgrade gives.
type handover struct{ error }

func (handover) Handover() bool { return true }

// In a plain stop, the server goes on answering for Propagation. In an upgrade, there is no Propagation.
func TestOnlyAPlainStopPropagates(t *testing.T) {
	f := start(t, &handler{}, drain.Options{Propagation: 300 * time.Millisecond})
	f.stop(nil)
	if err := f.call(); err != nil {
		t.Errorf("a call during propagation: %v", err)
	}
	if err := f.wait(t); err != nil {
		t.Errorf("Serve: %v", err)
	}
	f = start(t, &handler{}, drain.Options{Propagation: time.Hour})
	if err := f.call(); err != nil {
		t.Fatal(err)
	}
	f.stop(handover{errors.New("upgrade")})
	if err := f.wait(t); err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// A second Serve returns ErrClosed. If the listener fails, Serve returns the error.
func TestServeReportsWhatIsWrong(t *testing.T) {
	f := start(t, &handler{}, drain.Options{})
	if err := f.call(); err != nil {
		t.Fatal(err)
	}
	if err := f.srv.Serve(t.Context(), f.ln); !errors.Is(err, drain.ErrClosed) {
		t.Errorf("second Serve: %v", err)
	}
	f.ln.Close()
	if err := f.wait(t); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve: %v", err)
	}
}
