package grpcdrain_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/midair-go/midair/drain"
	"github.com/midair-go/midair/drain/grpcdrain"
)

// A slowService answers a call only after the drain has begun.
type slowService struct {
	healthpb.UnimplementedHealthServer
	called chan struct{}
}

func (s *slowService) Check(ctx context.Context, _ *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	close(s.called)
	<-drain.FromContext(ctx).Begun()
	return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}, nil
}

// A call that has begun before the stop is answered, and then Serve returns.
func Example() {
	calls := new(grpcdrain.Observer)
	gs := grpc.NewServer(grpc.StatsHandler(calls))
	service := &slowService{called: make(chan struct{})}
	healthpb.RegisterHealthServer(gs, service)
	srv := grpcdrain.NewServer(gs, drain.Options{Grace: 10 * time.Second})
	srv.Observe(calls)

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background()) // a main has signal.NotifyContext here
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx, ln) }()

	cc, err := grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer cc.Close()
	go func() {
		<-service.called
		stop()
	}()
	answer, err := healthpb.NewHealthClient(cc).Check(context.Background(), &healthpb.HealthCheckRequest{})
	fmt.Println("the call:", answer.GetStatus(), err)
	fmt.Println("Serve returned", <-served)
	// Output:
	// the call: SERVING <nil>
	// Serve returned <nil>
}
