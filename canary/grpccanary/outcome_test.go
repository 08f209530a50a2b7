package grpccanary_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // the compressor of the test
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/examples/grpcserver/echopb"
)

// A result is an outcome, with the method of the call.
type result struct {
	canary.Outcome
	method string
}

// String returns what is the same in each run of a test.
func (r result) String() string { return text(r.method, r.Side, r.Status, r.Flags, r.Failed()) }

func text(method string, side canary.Side, status int, flags canary.OutcomeFlags, failed bool) string {
	return fmt.Sprintf("%s %v: status %d, flags %07b, failed %v", method, side, status, flags, failed)
}

// results is a channel of outcomes, and the function for Options.Observe that fills the channel.
func results() (<-chan result, func(canary.Outcome)) {
	ch := make(chan result, 100)
	return ch, func(o canary.Outcome) { ch <- result{o, o.Request.URL.Path} }
}

// next returns the next outcome as a text.
func next(t *testing.T, ch <-chan result) string {
	t.Helper()
	select {
	case r := <-ch:
		return r.String()
	case <-time.After(20 * time.Second):
		t.Fatal("there is no outcome")
		return ""
	}
}

// ofCanary is the text of an outcome of the canary.
func ofCanary(method string, status int, flags canary.OutcomeFlags, failed bool) string {
	return text(method, canary.Canary, status, flags, failed)
}

const (
	sayMethod  = echopb.Echo_Say_FullMethodName
	chatMethod = echopb.Echo_Chat_FullMethodName
)

// failing returns an echo whose calls and streams end with what the function returns.
func failing(fail func(context.Context) error) *echo {
	return &echo{
		say:  func(ctx context.Context, _ *request) (*reply, error) { return &reply{}, fail(ctx) },
		chat: func(s chatStream) error { return fail(s.Context()) },
	}
}

// Each call and each stream has one outcome, with the HTTP status of its code. What is the server's fault has failed.
func TestOutcomesHaveTheStatusOfTheCode(t *testing.T) {
	type row struct {
		status int
		failed bool
	}
	rows := map[error]row{
		nil: {200, false}, errors.New("plain"): {500, true}, status.Error(99, "new"): {500, true},
		context.Canceled: {499, false}, context.DeadlineExceeded: {504, true},
	}
	for code, r := range map[codes.Code]row{
		codes.Canceled: {499, false}, codes.Unknown: {500, true}, codes.InvalidArgument: {400, false},
		codes.DeadlineExceeded: {504, true}, codes.NotFound: {404, false}, codes.AlreadyExists: {409, false},
		codes.PermissionDenied: {403, false}, codes.ResourceExhausted: {429, false}, codes.FailedPrecondition: {400, false},
		codes.Aborted: {409, false}, codes.OutOfRange: {400, false}, codes.Unimplemented: {501, true}, codes.Internal: {500, true},
		codes.Unavailable: {503, true}, codes.DataLoss: {500, true}, codes.Unauthenticated: {401, false},
	} {
		rows[status.Error(code, "canary")] = r
	}
	var err error
	var bad uint64
	ch, observe := results()
	rt := newRouter(t, canary.Options{Weight: all, Observe: observe})
	client := serveEcho(t, rt, v1, failing(func(context.Context) error { return err }))
	for e, r := range rows {
		if r.failed {
			bad += 2
		}
		err = e
		say(client)
		chat(client)
		for _, method := range []string{sayMethod, chatMethod} {
			if got, want := next(t, ch), ofCanary(method, r.status, 0, r.failed); got != want {
				t.Errorf("%v: %s, want %s", e, got, want)
			}
		}
		if len(ch) != 0 {
			t.Fatalf("%v: one outcome more: %v", e, <-ch)
		}
	}
	if o := rt.Core().Status().Canary.Outcomes; o.Ended != uint64(2*len(rows)) || o.Bad != bad || bad != 18 {
		t.Errorf("%+v, want %d bad", o, bad)
	}
}

// A panic has an outcome without a status, for calls and streams, and goes on.
func TestPanicsAreOutcomes(t *testing.T) {
	for value, flags := range map[any]canary.OutcomeFlags{"bad": canary.Panicked, http.ErrAbortHandler: canary.Aborted} {
		ch, observe := results()
		rt := newRouter(t, canary.Options{Weight: all, Observe: observe})
		client := serveEcho(t, rt, v1, failing(func(context.Context) error { panic(value) }), recovers()...)
		for _, text := range []string{say(client), chat(client)} {
			if want := fmt.Sprint("rpc error: code = Internal desc = panic: ", value); text != want {
				t.Errorf("%s, want %s", text, want)
			}
		}
		for _, method := range []string{sayMethod, chatMethod} {
			if got, want := next(t, ch), ofCanary(method, 0, flags, true); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
	}
}

// A rescued call has two outcomes: that of the canary, and that of the stable implementation.
func TestARescuedCallHasTwoOutcomes(t *testing.T) {
	for _, v := range []struct {
		fail   func(context.Context) error
		status int
		flags  canary.OutcomeFlags
	}{
		{func(context.Context) error { panic("bad") }, 0, canary.Panicked | canary.Rescued},
		{func(context.Context) error { return status.Error(codes.Unavailable, "canary") }, 503, canary.Rescued},
	} {
		ch, observe := results()
		rescue := &canary.Rescue{Also: always, Status: canary.ServerError}
		rt := newRouter(t, canary.Options{Weight: all, Rescue: rescue, Observe: observe})
		if got := say(serveEcho(t, rt, v1, failing(v.fail))); got != "stable" {
			t.Error(got)
		}
		second := text(sayMethod, canary.Stable, 200, canary.SecondTry, false)
		for _, want := range []string{ofCanary(sayMethod, v.status, v.flags, true), second} {
			if got := next(t, ch); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		if len(ch) != 0 {
			t.Errorf("one outcome more: %v", <-ch)
		}
	}
}

// A call whose client goes away is canceled, and has not failed. A stream has its outcome when the stream ends.
func TestACanceledCallHasNotFailed(t *testing.T) {
	ch, observe := results()
	rt := newRouter(t, canary.Options{Weight: all, Observe: observe})
	begun := make(chan struct{}, 1)
	client := serveEcho(t, rt, v1, failing(func(ctx context.Context) error {
		begun <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}))
	for method, call := range map[string]func(ctx context.Context){
		sayMethod:  func(ctx context.Context) { client.Say(ctx, &request{}) },
		chatMethod: func(ctx context.Context) { client.Chat(ctx) },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		var calling sync.WaitGroup
		calling.Go(func() { call(ctx) })
		<-begun
		if len(ch) != 0 {
			t.Errorf("an outcome of a call that has not ended: %v", <-ch)
		}
		cancel()
		if got, want := next(t, ch), ofCanary(method, 499, canary.Canceled, false); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		calling.Wait()
	}
}

// A call whose deadline is over has failed, and timed out. The deadline is that of an interceptor: a client whose deadline is
// over cancels the call at the same moment.
func TestADeadlineIsAFailure(t *testing.T) {
	ch, observe := results()
	rt := newRouter(t, canary.Options{Weight: all, Observe: observe})
	limit := func(ctx context.Context, req any, _ *callInfo, next grpc.UnaryHandler) (any, error) {
		ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		return next(ctx, req)
	}
	client := serveEcho(t, rt, v1, failing(func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}), grpc.UnaryInterceptor(limit))
	if got := say(client); got != "rpc error: code = DeadlineExceeded desc = context deadline exceeded" {
		t.Error(got)
	}
	if got, want := next(t, ch), ofCanary(sayMethod, 504, canary.TimedOut, true); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// A compression notes how the answers of a server are compressed.
type compression struct{ used chan string }

func (compression) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (compression) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (compression) HandleConn(context.Context, stats.ConnStats)                       {}
func (c compression) HandleRPC(_ context.Context, s stats.RPCStats) {
	if h, ok := s.(*stats.OutHeader); ok {
		c.used <- h.Compression
	}
}

// An attempt that cannot be rescued has the transport stream of the server, also where outcomes are observed: its compressor is
// used, and its header is sent at once.
func TestObservedAttemptsHaveTheTransportStream(t *testing.T) {
	type side struct {
		weight float64
		rescue *canary.Rescue
	}
	for name, v := range map[string]side{
		"stable": {0, nil}, "canary": {1, nil}, "another method": {1, &canary.Rescue{Also: func(*http.Request) bool { return false }}},
		"stable beside rescue": {0, &canary.Rescue{Also: always}}, "second try": {1, &canary.Rescue{Also: always}},
	} {
		ch, observe := results()
		sent := make(chan struct{})
		impl := func(ctx context.Context, _ *request) (*reply, error) {
			err := errors.Join(grpc.SetSendCompressor(ctx, "gzip"), grpc.SendHeader(ctx, metadata.Pairs("by", name)))
			if err == nil {
				<-sent
			}
			return &reply{Text: name}, err
		}
		first := &echo{say: impl}
		if name == "second try" {
			first.say = func(context.Context, *request) (*reply, error) { panic("bad") }
		}
		rt := newRouter(t, canary.Options{Weight: canary.Fixed(v.weight), Rescue: v.rescue, Observe: observe})
		c := compression{make(chan string, 10)}
		client := serveEcho(t, rt, &echo{say: impl}, first, grpc.StatsHandler(c))
		var text string
		var calling sync.WaitGroup
		calling.Go(func() { text = say(client) })
		select {
		case used := <-c.used:
			if used != "gzip" {
				t.Errorf("%s: the answer is compressed by %q", name, used)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("%s: no header is sent", name)
		}
		close(sent)
		calling.Wait()
		if text != name {
			t.Errorf("%s: %s", name, text)
		}
		if n := len(ch); name == "second try" && n != 2 || name != "second try" && n != 1 {
			t.Errorf("%s: %d outcomes", name, n)
		}
	}
}
