package session_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"github.com/midair-go/midair/session"
)

// A client without cookies gets its token from Commit, once, and each later use of the token finds the session.
func TestATokenWorksWithoutCookies(t *testing.T) {
	store := newSpy(t)
	sm := session.NewManager(store, session.Options{})
	ctx := sm.Load(t.Context(), "")
	if n := store.calls.Load(); n != 0 {
		t.Errorf("Load has asked the store %d times", n)
	}
	if token, changed := sm.Commit(sm.Load(t.Context(), "")); token != "" || changed {
		t.Errorf("a client who needs no token gets %q", token)
	}
	wantCount(t, ctx, "1")
	token, changed := sm.Commit(ctx)
	if token == "" || !changed {
		t.Fatal("no token")
	}
	if again, changed := sm.Commit(ctx); again != "" || changed {
		t.Errorf("a second token: %q", again)
	}
	wantCount(t, ctx, "2") // the session is known to the client

	ctx = sm.Load(t.Context(), token)
	wantCount(t, ctx, "3")
	if again, changed := sm.Commit(ctx); again != "" || changed {
		t.Errorf("a token without need: %q", again)
	}
	wantCount(t, sm.Load(t.Context(), "x"+token[1:]), "1") // changed on the way
	v := newVisitor(t, newSite(store, session.Options{Keys: sm.Keys()}))
	v.cookie = token
	v.want("/count", "4") // it is the value of a cookie, too
}

func wantCount(t *testing.T, ctx context.Context, want string) {
	t.Helper()
	if n, err := count(ctx); n != want || err != nil {
		t.Errorf("count = %s, %v, want %s", n, err, want)
	}
}

// What changes the token has to come before Commit, and is refused afterwards.
func TestNoTokenChangesAfterCommit(t *testing.T) {
	sm := session.NewManager(session.Dir(t.TempDir()), session.Options{})
	ctx := sm.Load(t.Context(), "")
	sm.Commit(ctx)
	for name, err := range map[string]error{
		"Put": session.Put(ctx, "k", 1), "Renew": session.Renew(ctx), "Login": sm.Login(ctx, "ann", false),
	} {
		if !errors.Is(err, session.ErrHeaderSent) {
			t.Errorf("%s after Commit = %v", name, err)
		}
	}
	ctx = sm.Load(t.Context(), "")
	if err := sm.Login(ctx, "ann", false); err != nil {
		t.Fatal(err)
	}
	first, _ := sm.Commit(ctx)
	ctx = sm.Load(t.Context(), first)
	if err := session.Renew(ctx); err != nil {
		t.Fatal(err)
	}
	second, changed := sm.Commit(ctx)
	if user, err := sm.User(sm.Load(t.Context(), second)); user != "ann" || !changed || err != nil {
		t.Errorf("after Renew: %q, %v, %v", user, changed, err)
	}
	ctx = sm.Load(t.Context(), second)
	if err := session.Destroy(ctx); err != nil {
		t.Fatal(err)
	}
	third, changed := sm.Commit(ctx)
	for _, token := range []string{first, second, third} {
		ctx := sm.Load(t.Context(), token)
		if user, err := sm.User(ctx); user != "" && token != first || !changed || err != nil { // the first one is in its grace
			t.Errorf("after Destroy: %q, %v", user, err)
		}
	}
}

// Commit belongs to Load: the cookie of a Middleware goes out with its answer.
func TestCommitLeavesTheMiddlewareAlone(t *testing.T) {
	s := dirSite(t)
	s.handle("/commit", func(r *http.Request) (string, error) {
		n, err := count(r.Context())
		if token, changed := s.sm.Commit(r.Context()); token != "" || changed {
			t.Errorf("Commit = %q", token)
		}
		inner := s.sm.Load(r.Context(), "") // another client, inside of this request
		wantCount(t, inner, "1")
		return n, err
	})
	v := newVisitor(t, s)
	v.want("/commit", "1")
	v.want("/commit", "2")
	if token, changed := s.sm.Commit(t.Context()); token != "" || changed {
		t.Errorf("Commit of any context = %q", token)
	}
	if err := s.sm.Reload(t.Context()); !errors.Is(err, session.ErrNoSession) {
		t.Errorf("Reload of any context = %v", err)
	}
}

// Reload sees what others have written, and says that the session has ended, in whatever way.
func TestReloadSeesTheEndOfTheSession(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, s *site, v *visitor){
		"destroyed": func(_ *testing.T, _ *site, v *visitor) { v.get("/logout") },
		"renewed":   func(_ *testing.T, _ *site, v *visitor) { v.get("/renew") },
		"moved":     func(_ *testing.T, _ *site, v *visitor) { v.get("/in?user=bob") },
		"revoked":   func(_ *testing.T, _ *site, v *visitor) { v.get("/all?user=ann") },
		"expired":   func(*testing.T, *site, *visitor) { time.Sleep(25 * time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := twoSites(t)
				v := a.login(t, "ann", "phone")
				ctx := b.sm.Load(t.Context(), v.value())
				wantCount(t, ctx, "1")
				v.want("/count", "2")
				if err := b.sm.Reload(ctx); err != nil {
					t.Fatal(err)
				}
				if n, _, err := session.Get[int](ctx, "count"); n != 2 || err != nil {
					t.Errorf("count %d, %v", n, err)
				}
				end(t, a, v)
				for range 2 {
					if err := b.sm.Reload(ctx); !errors.Is(err, session.ErrGone) && name != "expired" {
						t.Errorf("Reload = %v", err)
					} else if err == nil && name == "expired" {
						t.Error("Reload found an expired session")
					}
					if name == "expired" {
						break
					}
				}
			})
		})
	}
	sm := session.NewManager(session.Dir(t.TempDir()), session.Options{})
	if err := sm.Reload(sm.Load(t.Context(), "")); err != nil {
		t.Errorf("Reload of a new client = %v", err)
	}
}

// tokenKey is where clients of gRPC send their token, and find the new one in the answer's header.
const tokenKey = "session-token"

// unarySessions gives each call the session of its client.
func unarySessions(sm *session.Manager) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		ctx = sm.Load(ctx, tokenOf(ctx))
		res, err := handler(ctx, req)
		if token, changed := sm.Commit(ctx); changed {
			err = errors.Join(err, grpc.SetHeader(ctx, metadata.Pairs(tokenKey, token)))
		}
		return res, err
	}
}

// A sessionStream is a stream whose context has the session. The token goes out with the first message.
type sessionStream struct {
	grpc.ServerStream
	sm  *session.Manager
	ctx context.Context
}

func (s sessionStream) Context() context.Context { return s.ctx }

func (s sessionStream) SendMsg(m any) error {
	if token, changed := s.sm.Commit(s.ctx); changed {
		if err := s.SetHeader(metadata.Pairs(tokenKey, token)); err != nil {
			return err
		}
	}
	return s.ServerStream.SendMsg(m)
}

func streamSessions(sm *session.Manager) grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		return handler(srv, sessionStream{ss, sm, sm.Load(ss.Context(), tokenOf(ss.Context()))})
	}
}

func tokenOf(ctx context.Context) string {
	md, _ := metadata.FromIncomingContext(ctx)
	return strings.Join(md.Get(tokenKey), "")
}

// A counter counts the calls of each client.
type callCounter struct {
	healthpb.UnimplementedHealthServer
}

func (callCounter) Check(ctx context.Context, _ *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	n, err := count(ctx)
	return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_ServingStatus(len(n))}, err
}

func (callCounter) Watch(_ *healthpb.HealthCheckRequest, ss grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	for range 3 {
		if _, err := count(ss.Context()); err != nil {
			return err
		}
		if err := ss.Send(&healthpb.HealthCheckResponse{}); err != nil {
			return err
		}
	}
	if err := session.Renew(ss.Context()); !errors.Is(err, session.ErrHeaderSent) {
		return fmt.Errorf("Renew after the first message: %w", err)
	}
	return nil
}

// Over a real gRPC connection a client has one session in its unary calls and its streams, by a token in the metadata.
func TestSessionsOverGRPC(t *testing.T) {
	sm := session.NewManager(session.Dir(t.TempDir()), session.Options{})
	gs := grpc.NewServer(grpc.UnaryInterceptor(unarySessions(sm)), grpc.StreamInterceptor(streamSessions(sm)))
	healthpb.RegisterHealthServer(gs, callCounter{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- gs.Serve(ln) }()
	defer func() {
		gs.Stop()
		<-served
	}()
	cc, err := grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	client := healthpb.NewHealthClient(cc)

	var header metadata.MD
	if _, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{}, grpc.Header(&header)); err != nil {
		t.Fatal(err)
	}
	token := strings.Join(header.Get(tokenKey), "")
	if token == "" {
		t.Fatalf("header %v", header)
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), tokenKey, token)
	header = nil
	if _, err := client.Check(ctx, &healthpb.HealthCheckRequest{}, grpc.Header(&header)); err != nil || len(header.Get(tokenKey)) > 0 {
		t.Errorf("second call: %v, %v", header, err)
	}
	watch(t, client, ctx)
	wantCount(t, sm.Load(t.Context(), token), "6")

	stream := watch(t, client, t.Context()) // a new client begins with a stream
	fresh, err := stream.Header()
	if err != nil || len(fresh.Get(tokenKey)) != 1 {
		t.Fatalf("header %v, %v", fresh, err)
	}
	wantCount(t, sm.Load(t.Context(), fresh.Get(tokenKey)[0]), "4")
}

// watch reads a stream to its end.
func watch(t *testing.T, client healthpb.HealthClient, ctx context.Context) grpc.ServerStreamingClient[healthpb.HealthCheckResponse] {
	t.Helper()
	stream, err := client.Watch(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := stream.Recv(); errors.Is(err, io.EOF) {
			return stream
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// A socket serves lines over a connection that it has taken over: each line is a message of the user, and the first one after
// the session has ended closes the connection.
func socket(sm *session.Manager) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusSwitchingProtocols)
		c, buf, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		for {
			if _, err := buf.ReadString('\n'); err != nil {
				return
			}
			if err := sm.Reload(r.Context()); err != nil {
				fmt.Fprintln(c, "gone:", errors.Is(err, session.ErrGone))
				return
			}
			user, _ := sm.User(r.Context())
			n, err := count(r.Context())
			fmt.Fprintln(c, user, n, err)
		}
	})
}

// A WebSocket that stays open sees what other requests write, and that its user's sessions were revoked elsewhere.
func TestAWebSocketLearnsOfItsRevocation(t *testing.T) {
	a, b := twoSites(t)
	a.mux.Handle("/ws", socket(a.sm))
	srv := httptest.NewServer(a)
	defer srv.Close()
	v := a.login(t, "ann", "phone")
	c, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET /ws HTTP/1.1\r\nHost: x\r\nCookie: session=%s\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n", v.value())
	in := bufio.NewReader(c)
	if _, err := http.ReadResponse(in, nil); err != nil {
		t.Fatal(err)
	}
	say := func(want string) {
		t.Helper()
		fmt.Fprintln(c, "message")
		if line, err := in.ReadString('\n'); line != want+"\n" || err != nil {
			t.Errorf("%q, %v, want %q", line, err, want)
		}
	}
	say("ann 1 <nil>")
	v.with(b).want("/count", "2")
	say("ann 3 <nil>")
	if _, err := b.sm.RevokeAll(t.Context(), "ann"); err != nil {
		t.Fatal(err)
	}
	say("gone: true")
	if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("the connection is open: %v", err)
	}
}
