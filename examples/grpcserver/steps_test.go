//go:build linux

package main_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/midair-go/midair/examples/grpcserver/echopb"
	"github.com/midair-go/midair/internal/testutil"
)

// A progressive upgrade gives the new process its share of new connections, and no call fails.
func TestStepsFailNoCall(t *testing.T) {
	s := startServer(t, "-steps", "50%:300ms,100%:300ms")
	ctx, stop := context.WithCancel(t.Context())
	var calls atomic.Int64
	var both sync.Map
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for ctx.Err() == nil {
				conn := s.connect(t)
				var head metadata.MD
				_, err := echopb.NewEchoClient(conn).Say(context.WithoutCancel(ctx), &echopb.SayRequest{Text: "x"}, grpc.Header(&head))
				if err != nil {
					t.Errorf("call: %v", err)
				}
				calls.Add(1)
				both.Store(head.Get("x-generation")[0], true)
				conn.Close()
			}
		})
	}
	testutil.Until(t, 30*time.Second, "the load is on", func() bool { return calls.Load() > 20 })
	s.hangup()
	after := calls.Load()
	testutil.Until(t, 30*time.Second, "the load goes on", func() bool { return calls.Load() > after+20 })
	stop()
	running.Wait()
	for _, generation := range []string{"1", "2"} {
		if _, ok := both.Load(generation); !ok {
			t.Errorf("generation %s has answered nothing", generation)
		}
	}
	t.Logf("%d calls, each over a connection of its own", calls.Load())
}
