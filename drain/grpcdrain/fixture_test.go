package grpcdrain_test

import (
	"bytes"
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/midair-go/midair/drain"
	"github.com/midair-go/midair/drain/grpcdrain"
	"github.com/midair-go/midair/internal/testutil"
)

func TestMain(m *testing.M) { testutil.Main(m, nil) }

// handler is a health service whose calls run the functions of the test.
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
	heard  *record
	ln     net.Listener
	stop   context.CancelCauseFunc
	served chan error
}

// A record keeps what a client reads.
type record struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (r *record) dial(ctx context.Context, addr string) (net.Conn, error) {
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	return &tap{nc, r}, err
}

// ends names the frames in the record that end the connection or a stream, in their order.
func (r *record) ends() (names string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for b := r.all.Bytes(); len(b) >= 9; {
		switch kind, flags := b[3], b[4]; {
		case kind == 7:
			names += "GOAWAY "
		case kind == 1 && flags&1 != 0:
			names += "trailers "
		}
		b = b[min(len(b), 9+int(b[0])<<16+int(b[1])<<8+int(b[2])):]
	}
	return names
}

type tap struct {
	net.Conn
	to *record
}

func (c *tap) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.to.mu.Lock()
	defer c.to.mu.Unlock()
	c.to.all.Write(p[:n])
	return n, err
}

func start(t *testing.T, h *handler, opts drain.Options) *fixture {
	t.Helper()
	return startWith(t, h, opts, insecure.NewCredentials(), insecure.NewCredentials())
}

func startWith(t *testing.T, h *handler, opts drain.Options, server, client credentials.TransportCredentials) *fixture {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	calls := new(grpcdrain.Observer)
	gs := grpc.NewServer(grpc.StatsHandler(calls), grpc.Creds(server))
	grpc_health_v1.RegisterHealthServer(gs, h)
	f := &fixture{srv: grpcdrain.NewServer(gs, opts), ln: ln, served: make(chan error, 1), heard: new(record)}
	f.srv.Observe(calls)
	ctx, stop := context.WithCancelCause(context.Background())
	f.stop = stop
	go func() { f.served <- f.srv.Serve(ctx, ln) }()
	conn, err := grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(client), grpc.WithContextDialer(f.heard.dial))
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
