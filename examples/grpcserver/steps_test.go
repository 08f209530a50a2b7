//go:build linux

package main_test

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
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

// A good release gets its calls step by step, each after a number of calls, and is committed. The evidence is that of both
// processes.
func TestStepsCommitAGoodRelease(t *testing.T) {
	s := startServer(t, "-steps", "20%:100ms:40,50%:100ms:40,100%:100ms")
	stop := s.calls()
	s.release("")
	done := s.upgrade()
	var last state
	testutil.Until(t, 2*time.Minute, "the last step is seen", func() bool {
		last = s.state()
		return last.Release.Step == 3 && last.Release.Weight == 1 || len(done) > 0
	})
	if err := <-done; err != nil {
		t.Error(err)
	}
	t.Logf("%+v", last.Release)
	if j := last.Release.Judge; j.Stable.Requests == 0 || j.Canary.Requests < 80 || j.Stable.Bad+j.Canary.Bad > 0 {
		t.Errorf("%+v", j)
	}
	if st := s.state().Upgrade; st.Generation != 2 || st.Version != "v2" || st.State != "serving" {
		t.Errorf("%+v", st)
	}
	if bad := stop(); len(bad) > 0 {
		t.Errorf("%d calls failed, the first: %v", len(bad), bad[0])
	}
	s.stop()
}

// A release without calls is not committed. The status says what the step waits for, and probes and streams are no calls.
func TestStepsNeedCalls(t *testing.T) {
	s := startServer(t, "-steps", "50%:10ms:5,100%:10ms")
	s.release("")
	done := s.upgrade()
	testutil.Until(t, 30*time.Second, "the step is seen", func() bool { return s.state().inStep() })
	for range 10 {
		conn := s.connect(t)
		if _, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}); err != nil {
			t.Error(err)
		}
		stream, err := echopb.NewEchoClient(conn).Chat(t.Context())
		if err == nil {
			err = stream.CloseSend()
		}
		if err == nil {
			_, err = stream.Recv()
		}
		if err != io.EOF {
			t.Error(err)
		}
		conn.Close()
	}
	const waits = "0 of 5 requests of the canary"
	testutil.Until(t, 30*time.Second, "the step waits for calls", func() bool { return s.state().Release.Waits == waits })
	stop := s.calls()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if bad := stop(); len(bad) > 0 {
		t.Errorf("%d calls failed, the first: %v", len(bad), bad[0])
	}
	s.stop()
}
