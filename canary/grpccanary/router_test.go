package grpccanary_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/canary/grpccanary"
	"github.com/midair-go/midair/examples/grpcserver/echopb"
	"github.com/midair-go/midair/internal/testutil"
)

// A client chooses the side by its metadata, for calls and for streams. All methods of a service are a route.
func TestChooseByMetadata(t *testing.T) {
	byHeader, _ := canary.ByHeader("canary")
	byRoute, _, err := canary.ByRoute(canary.Canary, "POST /midair.example.Echo/")
	must(t, err)
	for _, v := range []struct {
		choose func(*http.Request) (canary.Side, bool)
		md     []string
		want   string
	}{
		{byHeader, nil, "stable"}, {byHeader, []string{"canary", "true"}, "canary"}, {byHeader, []string{"canary", "false"}, "stable"},
		{byRoute, nil, "canary"},
	} {
		rt := newRouter(t, canary.Options{Choose: v.choose})
		client := serveEcho(t, rt, v1, v2)
		if got := say(client, v.md...) + " " + chat(client, v.md...); got != v.want+" "+v.want {
			t.Errorf("%v: %s, want %s", v.md, got, v.want)
		}
	}
}

// A key from the metadata keeps its calls and its streams on one side: that of a canary.Router with the same salt.
func TestKeysStick(t *testing.T) {
	calls, users := 10_000, 500
	if testing.Short() {
		calls /= 10
	}
	opts := canary.Options{Name: "echo-v2", Weight: canary.Fixed(0.3), Logger: quiet}
	opts.Key = func(r *http.Request) string { return r.Header.Get("User-Id") }
	rt := newRouter(t, opts)
	client := serveEcho(t, rt, v1, v2)
	side := func(name string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, name) }
	}
	web := canary.NewRouter(side("stable"), side("canary"), opts)
	cohort := map[string]string{}
	for n := range calls {
		user := fmt.Sprint("user-", n%users)
		if cohort[user] == "" {
			r, w := httptest.NewRequest("GET", "/", nil), httptest.NewRecorder()
			r.Header.Set("User-Id", user)
			web.ServeHTTP(w, r)
			cohort[user] = w.Body.String()
		}
		ask := say
		if n%10 == 9 {
			ask = chat
		}
		if got := ask(client, "user-id", user); got != cohort[user] {
			t.Fatalf("call %d of %s: %s, want %s", n, user, got, cohort[user])
		}
	}
	s := rt.Core().Status()
	share, all := float64(s.Canary.Requests)/float64(calls), s.Stable.Requests+s.Canary.Requests
	if share < 0.2 || share > 0.4 || all != uint64(calls) {
		t.Errorf("%d calls: %+v", calls, s)
	}
}

// A kill makes every call stable, also a call that chooses the canary.
func TestKillMakesEveryCallStable(t *testing.T) {
	kill := canary.NewKillSwitch("", canary.KillSwitchOptions{Logger: quiet})
	opts := canary.Options{Weight: all, Kill: kill}
	opts.Choose, opts.Vary = canary.ByHeader("canary")
	rt := newRouter(t, opts)
	client := serveEcho(t, rt, v1, v2)
	both := func() string { return say(client, "canary", "true") + " " + chat(client) }
	before := both()
	must(t, kill.Kill("bad"))
	killed := both()
	must(t, kill.Revive("mended"))
	if after := both(); before != "canary canary" || killed != "stable stable" || after != before {
		t.Errorf("%s, killed %s, revived %s", before, killed, after)
	}
}

// After a switch, Idle tells when the last stream of the side that was left has ended.
func TestIdleWaitsForStreams(t *testing.T) {
	turn := canary.NewSwitch(canary.SwitchOptions{Logger: quiet})
	rt := newRouter(t, canary.Options{Switch: turn})
	echoes := &echo{name: "stable", chat: func(s chatStream) error {
		for {
			r, err := s.Recv()
			if err != nil {
				return nil
			}
			if err := s.Send(&reply{Text: r.GetText()}); err != nil {
				return err
			}
		}
	}}
	client := serveEcho(t, rt, echoes, v2)
	s, err := client.Chat(t.Context())
	must(t, err)
	talk := func() {
		t.Helper()
		must(t, s.Send(&request{Text: "x"}))
		if r, err := s.Recv(); err != nil || r.GetText() != "x" {
			t.Fatalf("%v, %v", r, err)
		}
	}
	talk()
	must(t, turn.Green())
	idle := turn.Idle(canary.Stable)
	if got := say(client) + " " + chat(client); got != "canary canary" {
		t.Errorf("after Green: %s", got)
	}
	talk()
	select {
	case <-idle:
		t.Fatal("stable counts as idle, and has a stream")
	default:
	}
	if n := rt.Core().Status().Stable.InFlight; n != 1 {
		t.Errorf("%d in flight", n)
	}
	must(t, s.CloseSend())
	select {
	case <-idle:
	case <-time.After(20 * time.Second):
		t.Fatal("stable does not become idle")
	}
}

// The interceptors tell a handler its side, for calls and for streams.
func TestInterceptorsTellTheSide(t *testing.T) {
	byHeader, _ := canary.ByHeader("canary")
	rt := newRouter(t, canary.Options{Choose: byHeader, Rescue: &canary.Rescue{Also: always}})
	unary, stream := grpc.ChainUnaryInterceptor(rt.UnaryInterceptor), grpc.ChainStreamInterceptor(rt.StreamInterceptor)
	s := newServer(t, append(recovers(), unary, stream)...)
	echopb.RegisterEchoServer(s, &echo{
		say: func(ctx context.Context, r *request) (*reply, error) {
			side, ok := canary.SideFromContext(ctx)
			if side == canary.Canary && len(metadata.ValueFromIncomingContext(ctx, "fail")) > 0 {
				panic("bad")
			}
			return &reply{Text: fmt.Sprint(side, ok)}, nil
		},
		chat: func(s chatStream) error {
			side, ok := canary.SideFromContext(s.Context())
			return s.Send(&reply{Text: fmt.Sprint(side, ok)})
		},
	})
	client := echopb.NewEchoClient(s.dial())
	for want, md := range map[string][]string{
		"stable true, stable true": nil,
		"canary true, canary true": {"canary", "true"},
		"stable true, canary true": {"canary", "true", "fail", "1"},
	} {
		if got := say(client, md...) + ", " + chat(client, md...); got != want {
			t.Errorf("%v: %s, want %s", md, got, want)
		}
	}
}

// Options that mean nothing for calls are errors that say what to do.
func TestWrongOptionsAreErrors(t *testing.T) {
	for want, opts := range map[string]canary.Options{
		"Options.Cookie": {Cookie: canary.NewCookie("visitor", canary.CookieOptions{})},
		"no Also":        {Rescue: &canary.Rescue{Status: canary.ServerError}},
	} {
		if rt, err := grpccanary.NewRouter(opts); rt != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error with %s", err, want)
		}
	}
}

// A client that goes away ends the context of the canary, and nothing is run for it again.
func TestCancellationReachesTheCanary(t *testing.T) {
	rt := newRouter(t, canary.Options{Weight: all, Rescue: &canary.Rescue{Also: always, Status: canary.ServerError}})
	begun, ended := make(chan struct{}, 2), make(chan error, 2)
	wait := func(ctx context.Context) error {
		begun <- struct{}{}
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	}
	client := serveEcho(t, rt, v1, &echo{
		say:  func(ctx context.Context, _ *request) (*reply, error) { return nil, wait(ctx) },
		chat: func(s chatStream) error { return wait(s.Context()) },
	})
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error, 2)
	go func() { // ends with the cancellation
		_, err := client.Say(ctx, &request{})
		errs <- err
	}()
	s, err := client.Chat(ctx)
	must(t, err)
	<-begun
	<-begun
	cancel()
	_, err = s.Recv()
	errs <- err
	for range 2 {
		if err := <-errs; status.Code(err) != codes.Canceled {
			t.Error(err)
		}
		if err := <-ended; err != context.Canceled {
			t.Error(err)
		}
	}
	testutil.Until(t, 20*time.Second, "the calls have ended", func() bool { return rt.Core().Status().Canary.InFlight == 0 })
	if st := rt.Core().Status(); st.Rescued != 0 || st.Stable.Requests != 0 {
		t.Errorf("%+v", st)
	}
}

// The functions of the options get a request that describes the call.
func TestRequestsDescribeCalls(t *testing.T) {
	web := httptest.NewUnstartedServer(nil) // for its certificate
	web.StartTLS()
	defer web.Close()
	roots := web.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	var seen []string
	rt := newRouter(t, canary.Options{Weight: canary.Fixed(0.999999999), Key: func(r *http.Request) string {
		_, _, err := net.SplitHostPort(r.RemoteAddr)
		deadline, ok := r.Context().Deadline()
		if n, err := r.Body.Read(make([]byte, 1)); n != 0 || err == nil || r.RequestURI != r.URL.Path {
			t.Errorf("%d bytes, %v, %s", n, err, r.RequestURI)
		}
		for name := range r.Header {
			if http.CanonicalHeaderKey(name) != name || name[0] == ':' {
				t.Errorf("a header line %s", name)
			}
		}
		seen = append(seen, fmt.Sprintln(r.Method, r.URL.Path, r.Proto, r.ProtoMajor, r.Host, r.Header["User-Id"],
			r.Header["Raw-Bin"], err, r.TLS != nil && r.TLS.HandshakeComplete, ok && time.Until(deadline) > 0))
		return ""
	}})
	s := newServer(t, grpc.Creds(credentials.NewServerTLSFromCert(&web.TLS.Certificates[0])))
	s.creds = credentials.NewTLS(&tls.Config{RootCAs: roots, ServerName: "example.com"})
	registerEcho(rt, s, v1, v2)
	client := echopb.NewEchoClient(s.dial())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "user-id", "ann", "user-id", "bob", "raw-bin", "\x01\x02")
	_, err := client.Say(ctx, &request{})
	must(t, err)
	stream, err := client.Chat(ctx)
	must(t, err)
	_, err = stream.Recv()
	must(t, err)
	for i, path := range []string{"/midair.example.Echo/Say", "/midair.example.Echo/Chat"} {
		if want := "POST " + path + " HTTP/2.0 2 example.com [ann bob] [\x01\x02] <nil> true true\n"; seen[i] != want {
			t.Errorf("%q, want %q", seen[i], want)
		}
	}
}

// The canary.Router of a Router serves calls only.
func TestCoreServesNoRequests(t *testing.T) {
	rt := newRouter(t, canary.Options{})
	w := httptest.NewRecorder()
	rt.Core().ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if w.Code != http.StatusNotImplemented || !strings.Contains(w.Body.String(), "this is no call") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
