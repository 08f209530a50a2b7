package grpccanary_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/canary/grpccanary"
	"github.com/midair-go/midair/examples/grpcserver/echopb"
)

// Calls and streams, between two implementations and in interceptors, have one Begin and one Observe for each attempt, with the
// key of the call as the Unit. Observe has what Begin has returned.
func TestEachBeginOfACallHasOneObserve(t *testing.T) {
	panics := func(context.Context) error { panic("bad") }
	refuses := func(context.Context) error { return status.Error(codes.Unavailable, "canary") }
	answers := func(context.Context) error { return nil }
	for name, v := range map[string]struct {
		does    func(context.Context) error
		rescue  *canary.Rescue
		rescued bool
	}{
		"answers": {answers, nil, false}, "panics": {panics, nil, false}, "fails": {refuses, nil, false},
		"panics, rescue": {panics, &canary.Rescue{Also: always, Status: canary.ServerError}, true},
		"fails, rescue":  {refuses, &canary.Rescue{Also: always, Status: canary.ServerError}, true},
	} {
		for _, intercepted := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", intercepted ", intercepted), func(t *testing.T) {
				ch, observe := results()
				begun := make(chan *canary.Outcome, 100)
				rt := newRouter(t, canary.Options{
					Weight: canary.Fixed(1 - 1e-9), Key: func(r *http.Request) string { return r.Header.Get("User") },
					Rescue: v.rescue, Observe: observe, Begin: func(o canary.Outcome) any { begun <- &o; return &o },
				})
				client := serve(t, rt, intercepted, v.does)
				for _, method := range []string{sayMethod, chatMethod} {
					attempts := []string{"canary"}
					if method == sayMethod {
						say(client, "user", "somebody")
					} else {
						chat(client, "user", "somebody")
					}
					if v.rescued && method == sayMethod {
						attempts = append(attempts, "stable")
					}
					for _, side := range attempts {
						o, b := <-ch, <-begun
						if o.Begun != any(b) || o.Request != b.Request || o.Side != b.Side || o.Side.String() != side {
							t.Errorf("%v has begun with %+v, and not with %+v on the side %s", o, o.Begun, b, side)
						}
						if o.Unit() != "somebody" || b.Unit() != "somebody" || b.Has(canary.SecondTry) != (side == "stable") {
							t.Errorf("%v has the unit %q, and has begun as %+v", o, o.Unit(), b)
						}
					}
				}
				if len(ch)+len(begun) != 0 {
					t.Errorf("%d outcomes and %d beginnings more", len(ch), len(begun))
				}
			})
		}
	}
}

// serve returns a client of a server whose canary runs a function: an implementation, or handlers that choose.
func serve(t *testing.T, rt *grpccanary.Router, intercepted bool, does func(context.Context) error) echopb.EchoClient {
	if !intercepted {
		return serveEcho(t, rt, v1, failing(does), recovers()...)
	}
	s := newServer(t, append(recovers(),
		grpc.ChainUnaryInterceptor(rt.UnaryInterceptor), grpc.ChainStreamInterceptor(rt.StreamInterceptor))...)
	echopb.RegisterEchoServer(s, failing(func(ctx context.Context) error {
		if side, _ := canary.SideFromContext(ctx); side == canary.Canary {
			return does(ctx)
		}
		return nil
	}))
	return echopb.NewEchoClient(s.dial())
}
