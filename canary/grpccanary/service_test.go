package grpccanary_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/examples/grpcserver/echopb"
)

// The interceptors of the server run once for each call, around the choice, also if the call is rescued. Key and both
// implementations see what interceptors have added to the context.
func TestInterceptorsRunOnceAroundTheChoice(t *testing.T) {
	type userKey struct{}
	var once atomic.Int32
	auth := func(ctx context.Context) context.Context {
		once.Add(1)
		return context.WithValue(ctx, userKey{}, metadata.ValueFromIncomingContext(ctx, "token")[0]+"'s owner")
	}
	opts := append(recovers(),
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, info *callInfo, next grpc.UnaryHandler) (any, error) {
			if info.FullMethod != echopb.Echo_Say_FullMethodName || info.Server == nil {
				t.Errorf("%+v", info)
			}
			return next(auth(ctx), req)
		}),
		grpc.ChainStreamInterceptor(func(srv any, ss grpc.ServerStream, _ *streamInfo, next grpc.StreamHandler) error {
			return next(srv, &tagged{ss, auth(ss.Context())})
		}))
	for _, fail := range []bool{false, true} {
		var keys, seen []string
		rt := newRouter(t, canary.Options{
			Weight: canary.Fixed(0.999999999), Rescue: &canary.Rescue{Also: always},
			Key: func(r *http.Request) string {
				key, _ := r.Context().Value(userKey{}).(string)
				keys = append(keys, key)
				return key
			},
		})
		note := func(ctx context.Context) {
			side, _ := canary.SideFromContext(ctx)
			seen = append(seen, fmt.Sprint(side, " ", ctx.Value(userKey{})))
			if fail && side == canary.Canary {
				panic("bad")
			}
		}
		impl := &echo{
			say: func(ctx context.Context, _ *request) (*reply, error) {
				note(ctx)
				return &reply{}, nil
			},
			chat: func(s chatStream) error { note(s.Context()); return s.Send(&reply{}) },
		}
		client := serveEcho(t, rt, impl, impl, opts...)
		once.Store(0)
		say(client, "token", "ann")
		chat(client, "token", "ann")
		wantSeen := "[canary ann's owner canary ann's owner]"
		if fail {
			wantSeen = "[canary ann's owner stable ann's owner canary ann's owner]"
		}
		if once.Load() != 2 || fmt.Sprint(keys) != "[ann's owner ann's owner]" || fmt.Sprint(seen) != wantSeen {
			t.Errorf("%d interceptors, keys %q, handlers %q", once.Load(), keys, seen)
		}
	}
}

// A tagged is a ServerStream with another context.
type tagged struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *tagged) Context() context.Context { return s.ctx }

// Several services share a Router, and keep what was registered of them.
func TestServicesShareARouter(t *testing.T) {
	checked := func(side string) check {
		return func(ctx context.Context) (*healthpb.HealthCheckResponse, error) {
			return &healthpb.HealthCheckResponse{}, grpc.SetHeader(ctx, metadata.Pairs("by", side))
		}
	}
	byRoute, _, err := canary.ByRoute(canary.Canary, healthpb.Health_Check_FullMethodName)
	must(t, err)
	rt := newRouter(t, canary.Options{Choose: byRoute})
	s, plain := newServer(t), newServer(t)
	registerEcho(rt, s, v1, v2)
	registerHealth(rt, s, checked("stable"), checked("canary"))
	echopb.RegisterEchoServer(plain, v1)
	healthpb.RegisterHealthServer(plain, &health{check: checked("")})
	cc := s.dial()
	plain.dial()
	got, text := getHealth(cc, "1"), say(echopb.NewEchoClient(cc))
	if text != "stable" || !strings.Contains(got.header, "by:[canary]") {
		t.Errorf("%s, %+v", text, got)
	}
	if st := rt.Core().Status(); st.Stable.Requests != 1 || st.Canary.Requests != 1 {
		t.Errorf("%+v", st)
	}
	if one, other := described(s), described(plain); one != other {
		t.Errorf("reflection would say %s, want %s", one, other)
	}
}

// described returns what reflection says of the services of a server.
func described(s *server) (text string) {
	all := s.GetServiceInfo()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		slices.SortFunc(all[name].Methods, func(a, b grpc.MethodInfo) int { return strings.Compare(a.Name, b.Name) })
		text += fmt.Sprintln(name, all[name])
	}
	return text
}

// Without a canary every call is stable, also a call that chooses the canary.
func TestNoCanaryIsAllStable(t *testing.T) {
	byHeader, _ := canary.ByHeader("canary")
	rt := newRouter(t, canary.Options{Weight: all, Choose: byHeader})
	s := newServer(t)
	registerEcho(rt, s, v1, nil)
	client := echopb.NewEchoClient(s.dial())
	if got := say(client, "canary", "true") + " " + chat(client, "canary", "true"); got != "stable stable" {
		t.Error(got)
	}
}

// The limits of the server hold for both sides, and a message that is too large reaches neither.
func TestLimitsOfTheServerHold(t *testing.T) {
	var runs atomic.Int32
	impl := &echo{say: func(_ context.Context, r *request) (*reply, error) {
		runs.Add(1)
		return &reply{Text: r.GetText()}, nil
	}}
	for _, weight := range []float64{0, 1} {
		rescue := &canary.Rescue{Also: always, Status: canary.ServerError}
		rt := newRouter(t, canary.Options{Weight: canary.Fixed(weight), Rescue: rescue})
		client := serveEcho(t, rt, impl, impl, grpc.MaxRecvMsgSize(1000), grpc.MaxSendMsgSize(500))
		runs.Store(0)
		for size, want := range map[int]codes.Code{100: codes.OK, 600: codes.ResourceExhausted, 2000: codes.ResourceExhausted} {
			if _, err := client.Say(t.Context(), &request{Text: strings.Repeat("x", size)}); status.Code(err) != want {
				t.Errorf("weight %v, %d bytes: %v", weight, size, err)
			}
		}
		if runs.Load() != 2 {
			t.Errorf("%d runs", runs.Load())
		}
	}
}
