package grpccanary_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/canary/grpccanary"
	"github.com/midair-go/midair/examples/grpcserver/echopb"
	"github.com/midair-go/midair/session"
)

var panics = flag.Int("midair.panics", 10_000, "how many calls TestEveryPanicBeforeTheAnswerIsRescued rescues; a tenth with -short")

// An oracle knows which calls were executed by which sides, by their number.
type oracle struct {
	mu   sync.Mutex
	runs map[string]string // S for stable, C for canary
}

func (o *oracle) note(ctx context.Context, side string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.runs[metadata.ValueFromIncomingContext(ctx, "number")[0]] += side
}

func (o *oracle) of(number string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.runs[number]
}

// stable answers with what it has got.
func (o *oracle) stable(ctx context.Context, r *request) (*reply, error) {
	o.note(ctx, "S")
	grpc.SetHeader(ctx, metadata.Pairs("by", "stable", "stable", "1"))
	grpc.SetTrailer(ctx, metadata.Pairs("end", "stable"))
	if strings.HasPrefix(r.GetText(), "missing") {
		return nil, status.Error(codes.NotFound, "stable has no "+r.GetText())
	}
	return &reply{Text: "stable says " + r.GetText()}, nil
}

// canary fails as the text of the call says.
func (o *oracle) canary(ctx context.Context, r *request) (*reply, error) {
	o.note(ctx, "C")
	how := r.GetText()
	r.Text = "changed by the canary"
	err := fmt.Errorf("headers: %v, %v", grpc.SetHeader(ctx, metadata.Pairs("by", "canary", "canary", "1")),
		grpc.SetTrailer(ctx, metadata.Pairs("end", "canary")))
	if !strings.Contains(err.Error(), "<nil>, <nil>") {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	switch how {
	case "internal", "missing internal":
		return nil, status.Error(codes.Internal, "canary")
	case "plain error":
		return &reply{Text: "half an answer"}, err
	case "deadline":
		return nil, context.DeadlineExceeded
	case "denied":
		return nil, status.Error(codes.PermissionDenied, "canary")
	case "cancelled":
		return nil, context.Canceled
	case "answers":
		return &reply{Text: "canary"}, nil
	case "sends":
		if err := grpc.SendHeader(ctx, metadata.Pairs("sent", "canary")); err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
	case "aborts":
		panic(http.ErrAbortHandler)
	}
	panic("the canary is bad")
}

// check is a method that may not run twice.
func (o *oracle) check(side string) check {
	return func(ctx context.Context) (*healthpb.HealthCheckResponse, error) {
		o.note(ctx, side)
		grpc.SetHeader(ctx, metadata.Pairs("by", side))
		if side == "C" {
			panic("the canary is bad")
		}
		return &healthpb.HealthCheckResponse{}, nil
	}
}

// Whatever a canary does before it panics or fails, as long as no header was sent: the answer to a call that may run twice is the
// answer of the stable implementation, byte for byte, with its headers, trailers and status. Any other call is executed once.
func TestEveryPanicBeforeTheAnswerIsRescued(t *testing.T) {
	most := *panics
	if testing.Short() {
		most /= 10
	}
	o := &oracle{runs: map[string]string{}}
	rt := newRouter(t, canary.Options{
		Weight: all, Rescue: &canary.Rescue{Also: grpccanary.Methods(echopb.Echo_Say_FullMethodName), Status: canary.ServerError},
	})
	tried, plain := newServer(t, recovers()...), newServer(t, recovers()...)
	stable := &echo{say: o.stable}
	registerEcho(rt, tried, stable, &echo{say: o.canary})
	registerHealth(rt, tried, o.check("S"), o.check("C"))
	echopb.RegisterEchoServer(plain, stable)
	cc, plainCC := tried.dial(), plain.dial()
	kinds := []struct{ text, want string }{
		{"now", "CS"}, {"internal", "CS"}, {"missing", "CS"}, {"missing internal", "CS"}, {"plain error", "CS"},
		{"deadline", "CS"}, {strings.Repeat("long", 10_000), "CS"}, {"", "CS"},
		{"denied", "C"}, {"cancelled", "C"}, {"answers", "C"}, {"sends", "C"}, {"aborts", "C"}, {"check", "C"},
	}
	const clients = 4
	var eligible atomic.Int64
	var running sync.WaitGroup
	for first := range clients {
		running.Go(func() {
			for n := first; eligible.Load() < int64(most); n += clients {
				k := kinds[n%len(kinds)]
				if k.want == "CS" {
					eligible.Add(1)
				}
				if wrong := o.compare(cc, plainCC, k.text, k.want, "r"+strconv.Itoa(n)); wrong != "" {
					t.Errorf("%.20q: %s", k.text, wrong)
					return
				}
			}
		})
	}
	running.Wait()
	s := rt.Core().Status()
	inFlight := s.Stable.InFlight + s.Canary.InFlight
	if s.Rescued != uint64(eligible.Load()) || s.RescuePanics != 0 || s.Stable.Requests != s.Rescued || inFlight != 0 {
		t.Errorf("%d were eligible: %+v", eligible.Load(), s)
	}
	t.Logf("%d calls were rescued, %d not", s.Rescued, s.Canary.Requests-s.Rescued)
}

// compare makes a call, and a call to a plain server if the call is to be rescued, and returns what is wrong.
func (o *oracle) compare(cc, plain *grpc.ClientConn, text, runs, number string) (wrong string) {
	call := func(cc *grpc.ClientConn, number string) answer {
		if text == "check" {
			return getHealth(cc, number)
		}
		return get(cc, echopb.Echo_Say_FullMethodName, number, &request{Text: text}, &reply{})
	}
	got := call(cc, number)
	header, trailer := "by:[canary]", "end:[canary]"
	if text == "check" {
		header, trailer = "by:[C]", ""
	}
	if runs == "CS" {
		if want := call(plain, "plain"+number); got != want {
			return fmt.Sprintf("%+v, want %+v", got, want)
		}
	} else if !strings.Contains(got.header, header) || !strings.Contains(got.trailer, trailer) {
		return fmt.Sprintf("%+v, want %s and %s", got, header, trailer)
	}
	if got := o.of(number); got != runs {
		return fmt.Sprintf("executed by %s, want %s", got, runs)
	}
	return ""
}

// A stream ends with the error of the canary and is not run again, whatever Also and Status say.
func TestStreamsAreNotRescued(t *testing.T) {
	for how, want := range map[string]string{"fails": "desc = canary", "panics": "desc = panic: bad"} {
		for _, sends := range []bool{false, true} {
			var runs atomic.Int32
			rt := newRouter(t, canary.Options{Weight: all, Rescue: &canary.Rescue{Also: always, Status: canary.ServerError}})
			stable := &echo{chat: func(chatStream) error { runs.Add(100); return nil }}
			client := serveEcho(t, rt, stable, &echo{chat: func(s chatStream) error {
				runs.Add(1)
				if err := s.SetHeader(metadata.Pairs("by", "canary")); err != nil {
					return err
				}
				if sends {
					if err := s.Send(&reply{Text: "one"}); err != nil {
						return err
					}
				}
				if how == "panics" {
					panic("bad")
				}
				return status.Error(codes.Internal, "canary")
			}}, recovers()...)
			s, err := client.Chat(t.Context())
			must(t, err)
			if sends {
				if r, err := s.Recv(); err != nil || r.GetText() != "one" {
					t.Errorf("%v, %v", r, err)
				}
			}
			_, err = s.Recv()
			if header, _ := s.Header(); !strings.Contains(fmt.Sprint(err), want) || runs.Load() != 1 || len(header["by"]) != 1 {
				t.Errorf("%s: %v with header %v, and %d runs", how, err, header, runs.Load())
			}
			if s := rt.Core().Status(); s.Rescued != 0 || s.Stable.Requests != 0 {
				t.Errorf("%+v", s)
			}
		}
	}
}

// A goroutine that a failed canary leaves behind sets nothing in the answer of the stable implementation, also after that has
// returned, and gets errors. If the goroutine sends the header first, the call is the canary's.
func TestGoroutinesOfAFailedCanaryReachNobody(t *testing.T) {
	const hasty, during, after = 0, 1, 2 // when the goroutine runs
	var running sync.WaitGroup
	var when int
	var begun, returned chan struct{} // closed: the stable implementation has begun, and has returned
	var late []error
	rt := newRouter(t, canary.Options{Weight: all, Rescue: &canary.Rescue{Also: always}})
	wait := func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		defer running.Wait()
		defer close(returned)
		return next(ctx, req)
	}
	client := serveEcho(t, rt, &echo{say: func(ctx context.Context, _ *request) (*reply, error) {
		close(begun)
		if when == during {
			running.Wait()
		}
		return &reply{Text: "stable"}, grpc.SetHeader(ctx, metadata.Pairs("by", "stable"))
	}}, &echo{say: func(ctx context.Context, r *request) (*reply, error) {
		runs := make(chan struct{})
		running.Go(func() {
			close(runs)
			switch when {
			case during:
				<-begun
			case after:
				<-returned
			}
			md := metadata.Pairs("by", "a goroutine")
			r.Text = "by a goroutine"
			late = []error{grpc.SetHeader(ctx, md), grpc.SetTrailer(ctx, md), grpc.SendHeader(ctx, md), grpc.SetHeader(ctx, md)}
		})
		<-runs
		panic("bad")
	}}, append(recovers(), grpc.ChainUnaryInterceptor(wait))...)
	rescued, first := 0, 0
	for n := range 300 {
		begun, returned, when = make(chan struct{}), make(chan struct{}), n%3
		var header, trailer metadata.MD
		r, err := client.Say(t.Context(), &request{Text: "hello"}, grpc.Header(&header), grpc.Trailer(&trailer))
		switch {
		case err == nil:
			rescued++
			for i, err := range late {
				if err == nil && (when != hasty || i >= 2) {
					t.Fatalf("a goroutine of the dropped canary gets %v", late)
				}
			}
			if r.GetText() != "stable" || fmt.Sprint(header["by"]) != "[stable]" || len(trailer) != 0 {
				t.Fatalf("%v with %s and %s", r, lines(header), lines(trailer))
			}
		case when == hasty:
			first++
			if got := lines(header); status.Code(err) != codes.Internal || strings.Contains(got, "stable") {
				t.Fatalf("%v with %s; the goroutine gets %v", err, got, late)
			}
		default:
			t.Fatal(err)
		}
	}
	t.Logf("%d calls were rescued, %d answered by the goroutine first", rescued, first)
	if rescued < 200 {
		t.Errorf("%d of 300 calls were rescued", rescued)
	}
}

// What a failed canary has done to the session of a call is taken back before the stable implementation reads the session.
func TestRescueTakesTheSessionBack(t *testing.T) {
	sm := session.NewManager(session.Memory(), session.Options{Logger: quiet})
	rt := newRouter(t, canary.Options{Weight: all, Rescue: &canary.Rescue{Also: always, Attempt: sm.Attempt}})
	load := func(ctx context.Context, req any, _ *callInfo, next grpc.UnaryHandler) (any, error) {
		ctx = sm.Load(ctx, strings.Join(metadata.ValueFromIncomingContext(ctx, "session"), ""))
		answer, err := next(ctx, req)
		if token, changed := sm.Commit(ctx); changed {
			err = errors.Join(err, grpc.SetHeader(ctx, metadata.Pairs("session", token)))
		}
		return answer, err
	}
	client := serveEcho(t, rt, &echo{say: func(ctx context.Context, _ *request) (*reply, error) {
		n, _, err := session.Get[int](ctx, "n")
		err = errors.Join(err, session.Put(ctx, "n", n+1))
		return &reply{Text: strconv.Itoa(n)}, err
	}}, &echo{say: func(ctx context.Context, _ *request) (*reply, error) {
		panic(fmt.Sprint("bad: ", session.Put(ctx, "n", 100), session.Renew(ctx)))
	}}, append(recovers(), grpc.ChainUnaryInterceptor(load))...)
	token := ""
	for n := range 4 {
		var header metadata.MD
		ctx := metadata.AppendToOutgoingContext(t.Context(), "session", token)
		r, err := client.Say(ctx, &request{}, grpc.Header(&header))
		if err != nil || r.GetText() != strconv.Itoa(n) {
			t.Fatalf("call %d: %v, %v", n, r, err)
		}
		if given := header["session"]; len(given) > 0 {
			token = given[0]
		}
	}
	if s := rt.Core().Status(); s.Rescued != 4 || s.RescuePanics != 0 {
		t.Errorf("%+v", s)
	}
}

// Rescue.Status gets the HTTP status that google.rpc.Code names for the code, and a code decides so whether a call is rescued.
func TestRescueStatusIsThatOfTheCode(t *testing.T) {
	want := map[error]int{
		nil: 200, context.Canceled: 499, context.DeadlineExceeded: 504, fmt.Errorf("plain"): 500, status.Error(99, "new"): 500,
	}
	for code, s := range map[codes.Code]int{
		codes.Canceled: 499, codes.Unknown: 500, codes.InvalidArgument: 400, codes.DeadlineExceeded: 504, codes.NotFound: 404,
		codes.AlreadyExists: 409, codes.PermissionDenied: 403, codes.ResourceExhausted: 429, codes.FailedPrecondition: 400,
		codes.Aborted: 409, codes.OutOfRange: 400, codes.Unimplemented: 501, codes.Internal: 500, codes.Unavailable: 503,
		codes.DataLoss: 500, codes.Unauthenticated: 401,
	} {
		want[status.Error(code, "canary")] = s
	}
	if len(want) != 16+5 {
		t.Fatalf("%d errors", len(want))
	}
	var err error
	var got int
	rt := newRouter(t, canary.Options{Weight: all, Rescue: &canary.Rescue{Also: always, Status: func(s int) bool {
		got = s
		return canary.ServerError(s)
	}}})
	client := serveEcho(t, rt, v1, &echo{say: func(context.Context, *request) (*reply, error) {
		return &reply{Text: "canary"}, err
	}})
	for e, s := range want {
		err, got = e, 0
		text := say(client)
		if got != s || (text == "stable") != (s >= 500) {
			t.Errorf("%v: status %d, want %d; %q", e, got, s, text)
		}
	}
}

// A panic that is not rescued reaches the interceptors of the server with its value, and is counted.
func TestOtherPanicsGoOn(t *testing.T) {
	for name, rescue := range map[string]*canary.Rescue{
		"no rescue":      nil,
		"another method": {Also: grpccanary.Methods("/midair.example.Echo/Other")},
		"Also panics":    {Also: func(*http.Request) bool { panic(1) }},
	} {
		rt := newRouter(t, canary.Options{Weight: all, Rescue: rescue})
		bad := &echo{say: func(ctx context.Context, r *request) (*reply, error) { panic("bad") }}
		client := serveEcho(t, rt, v1, bad, recovers()...)
		if got := say(client); !strings.Contains(got, "panic: bad") {
			t.Errorf("%s: %s", name, got)
		}
		if s := rt.Core().Status(); s.Canary.Panics != 1 || s.Canary.InFlight != 0 || s.Stable.Requests != 0 {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

// A message that cannot be copied is not given to a second handler. A call without a transport stream, as in a test of a handler,
// is rescued all the same.
func TestOnlyProtoMessagesAreRescued(t *testing.T) {
	rt := newRouter(t, canary.Options{Weight: all, Rescue: &canary.Rescue{Also: always, Status: canary.ServerError}})
	info := &callInfo{FullMethod: "/a/B"}
	for _, req := range []any{"text", &request{Text: "text"}} {
		var sides []string
		var seen []any
		reply, err := rt.UnaryInterceptor(t.Context(), req, info, func(ctx context.Context, req any) (any, error) {
			side, _ := canary.SideFromContext(ctx)
			sides, seen = append(sides, side.String()), append(seen, req)
			if m, ok := req.(*request); ok && m.GetText() != "text" {
				t.Errorf("%v gets %v", side, req)
			} else if ok {
				m.Text = "changed"
			}
			if side == canary.Canary {
				return nil, status.Error(codes.Internal, "canary")
			}
			return "stable", nil
		})
		got, want := fmt.Sprint(sides, []any{reply, err}), "[canary stable] [stable <nil>]"
		if req == "text" {
			want = "[canary] [<nil> rpc error: code = Internal desc = canary]"
		}
		if got != want || seen[0] != req {
			t.Errorf("%T: %s, want %s", req, got, want)
		}
		reply, err = rt.UnaryInterceptor(t.Context(), req, info, func(ctx context.Context, _ any) (any, error) {
			side, _ := canary.SideFromContext(ctx)
			return side, nil
		})
		if reply != canary.Canary || err != nil {
			t.Errorf("%T: %v, %v", req, reply, err)
		}
	}
}
