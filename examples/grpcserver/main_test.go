//go:build linux

package main_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/midair-go/midair/examples/grpcserver/echopb"
	"github.com/midair-go/midair/internal/testutil"
)

const pkg = "github.com/midair-go/midair/examples/grpcserver"

func TestMain(m *testing.M) { testutil.Main(m, nil) }

// server is a started example.
type server struct {
	*testutil.Proc
	t    *testing.T
	dir  string
	addr string
}

// startServer starts version v1 through the link "current", with every file below one directory.
func startServer(t *testing.T, args ...string) *server {
	t.Helper()
	dir, err := os.MkdirTemp("", "grpc") // short: the path of a unix socket is limited
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &server{t: t, dir: dir}
	s.linkTo(testutil.Build(t, pkg, "-X main.version=v1"))
	s.Proc = testutil.StartCommand(t, testutil.Cfg{Dir: dir}, filepath.Join(dir, "current"),
		append([]string{"-addr", "127.0.0.1:0", "-addr-file", "addr", "-pid-file", "pid", "-admin", "unix:admin", "-soak", "50ms", "-grace", "10s"}, args...)...)
	testutil.Until(t, 30*time.Second, "it serves", func() bool { return strings.Contains(s.Output(), "upgrade: serving") })
	s.addr = s.read("addr")
	return s
}

// linkTo moves the link that upgrades start.
func (s *server) linkTo(path string) {
	s.t.Helper()
	next := filepath.Join(s.dir, "next")
	if err := errors.Join(os.Symlink(path, next), os.Rename(next, filepath.Join(s.dir, "current"))); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) read(name string) string {
	b, _ := os.ReadFile(filepath.Join(s.dir, name))
	return strings.TrimSpace(string(b))
}

// hangup upgrades, and waits until another process serves alone.
func (s *server) hangup() {
	s.t.Helper()
	old := s.read("pid")
	pid, _ := strconv.Atoi(old)
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
		s.t.Fatal(err)
	}
	testutil.Until(s.t, 30*time.Second, "another process serves alone", func() bool {
		return s.read("pid") != old && len(s.Family()) == 2 // and the supervisor
	})
}

func (s *server) dial() *grpc.ClientConn {
	s.t.Helper()
	c := s.connect(s.t)
	s.t.Cleanup(func() { c.Close() })
	return c
}

// connect is dial for a caller that closes the connection itself.
func (s *server) connect(t *testing.T) *grpc.ClientConn {
	c, err := grpc.NewClient(s.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Error(err)
	}
	return c
}

// tally counts what clients saw.
type tally struct {
	calls, streams, messages atomic.Int64
	mu                       sync.Mutex
	wrong                    []string
}

func (c *tally) fail(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
}

// Over 20 upgrades no call fails, and every stream ends with the server's own status, not with a broken connection.
func TestUpgradesFailNoCall(t *testing.T) {
	s := startServer(t)
	var count tally
	var clients sync.WaitGroup
	done := make(chan struct{})
	for range 8 {
		client := echopb.NewEchoClient(s.dial())
		clients.Go(func() { say(client, &count, done) })
	}
	for range 4 {
		client := echopb.NewEchoClient(s.dial())
		clients.Go(func() { chat(client, &count, done) })
	}
	const upgrades = 20
	for range upgrades {
		s.hangup()
	}
	close(done)
	clients.Wait()
	t.Logf("%d upgrades: %d calls, %d streams with %d messages, %d failures",
		upgrades, count.calls.Load(), count.streams.Load(), count.messages.Load(), len(count.wrong))
	if len(count.wrong) > 0 {
		t.Fatalf("failures, the first ones: %q", count.wrong[:min(len(count.wrong), 5)])
	}
	if count.streams.Load() < 4*upgrades/2 {
		t.Errorf("only %d streams ended in %d upgrades", count.streams.Load(), upgrades)
	}
}

func say(client echopb.EchoClient, count *tally, done chan struct{}) {
	for n := 0; !closed(done); n++ {
		text := strconv.Itoa(n)
		r, err := client.Say(context.Background(), &echopb.SayRequest{Text: text})
		if err != nil || r.GetText() != text {
			count.fail("call %d: %q, %v", n, r.GetText(), err)
		}
		count.calls.Add(1)
	}
}

// chat opens streams one after the other, until the test ends it.
func chat(client echopb.EchoClient, count *tally, done chan struct{}) {
	for !closed(done) {
		stream, err := client.Chat(context.Background())
		if err != nil {
			count.fail("open a stream: %v", err)
			return
		}
		err = talk(stream, count, done)
		st := status.Convert(err)
		if err != nil && !(st.Code() == codes.Unavailable && strings.Contains(st.Message(), "open the stream again")) {
			count.fail("stream: %v", err)
		}
		count.streams.Add(1)
	}
}

// talk says one thing after the other on a stream, and returns how the stream ended.
func talk(stream grpc.BidiStreamingClient[echopb.SayRequest, echopb.SayReply], count *tally, done chan struct{}) error {
	for n := 0; ; n++ {
		if closed(done) {
			if err := stream.CloseSend(); err != nil {
				return err
			}
		} else if err := stream.Send(&echopb.SayRequest{Text: strconv.Itoa(n)}); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		r, err := stream.Recv() // an error of Send says only that Recv has the status
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if r.GetText() != strconv.Itoa(n) {
			count.fail("message %d came back as %q", n, r.GetText())
		}
		count.messages.Add(1)
	}
}

func closed(done chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// Answers name the process that gave them, health is served, and TERM ends with status 0 after open streams got theirs.
func TestStopEndsStreamsWithAStatus(t *testing.T) {
	s := startServer(t)
	conn := s.dial()
	client := echopb.NewEchoClient(conn)
	var header metadata.MD
	if _, err := client.Say(t.Context(), &echopb.SayRequest{Text: "x"}, grpc.Header(&header)); err != nil {
		t.Fatal(err)
	}
	if v, pid := header.Get("x-version"), header.Get("x-pid"); len(v) != 1 || v[0] != "v1" || len(pid) != 1 || pid[0] != s.read("pid") {
		t.Errorf("header %v", header)
	}
	h, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil || h.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("health %v, %v", h, err)
	}
	stream, err := client.Chat(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&echopb.SayRequest{Text: "1"}); err != nil {
		t.Fatal(err)
	}
	if r, err := stream.Recv(); err != nil || r.GetText() != "1" {
		t.Fatalf("%v, %v", r, err)
	}
	s.Signal(syscall.SIGTERM)
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "open the stream again") {
		t.Errorf("the stream ended with %v", err)
	}
	if code, err := s.Wait(20 * time.Second); code != 0 || err != nil {
		t.Errorf("exit %d, %v", code, err)
	}
}
