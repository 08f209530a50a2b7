package grpcdrain_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/midair-go/midair/drain"
	"github.com/midair-go/midair/drain/grpcdrain"
	"github.com/midair-go/midair/internal/testutil"
)

func TestMain(m *testing.M) { testutil.Main(m, nil) }

// handler is a health service whose calls do what the test says.
type handler struct {
	grpc_health_v1.UnimplementedHealthServer
	check func(context.Context) error
	watch func(grpc.ServerStreamingServer[grpc_health_v1.HealthCheckResponse]) error
}

func (h *handler) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	if h.check != nil {
		if err := h.check(ctx); err != nil {
			return nil, err
		}
	}
	return &grpc_health_v1.HealthCheckResponse{}, nil
}

func (h *handler) Watch(_ *grpc_health_v1.HealthCheckRequest, s grpc.ServerStreamingServer[grpc_health_v1.HealthCheckResponse]) error {
	return h.watch(s)
}

// fixture is a server that serves until stop.
type fixture struct {
	srv    *grpcdrain.Server
	client grpc_health_v1.HealthClient
	ln     net.Listener
	stop   context.CancelCauseFunc
	served chan error
}

func start(t *testing.T, h *handler, opts drain.Options) *fixture {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gs := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(gs, h)
	f := &fixture{srv: grpcdrain.NewServer(gs, opts), ln: ln, served: make(chan error, 1)}
	ctx, stop := context.WithCancelCause(context.Background())
	f.stop = stop
	go func() { f.served <- f.srv.Serve(ctx, ln) }()
	conn, err := grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	f.client = grpc_health_v1.NewHealthClient(conn)
	t.Cleanup(func() {
		stop(nil)
		conn.Close()
	})
	return f
}

func (f *fixture) call() error {
	_, err := f.client.Check(context.Background(), &grpc_health_v1.HealthCheckRequest{})
	return err
}

// wait returns what Serve returned.
func (f *fixture) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-f.served:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("Serve does not return")
		return nil
	}
}

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

// A stream whose handler hears of the drain ends with the handler's status.
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

// What does not end in time is cut, and named.
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
	if err := f.wait(t); !errors.As(err, &late) || len(late.Left) != 1 || !strings.HasPrefix(late.Left[0].Remote, "127.0.0.1:") {
		t.Errorf("Serve: %v", err)
	}
	if _, err := stream.Recv(); err == nil {
		t.Error("the stream goes on")
	}
}

// handover is the cause that package upgrade gives.
type handover struct{ error }

func (handover) Handover() bool { return true }

// A plain stop goes on to answer for the time of Propagation; an upgrade does not wait.
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

// A Server serves once, and reports a listener that fails.
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
