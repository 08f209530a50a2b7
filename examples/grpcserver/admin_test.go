//go:build linux

package main_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/canary/judge"
	"github.com/midair-go/midair/drain"
	"github.com/midair-go/midair/examples/grpcserver/echopb"
	"github.com/midair-go/midair/examples/internal/admin"
	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
)

// state is what GET /status answers.
type state struct {
	Upgrade upgrade.Status
	Drain   drain.Status
	Canary  canary.Status
	Release struct {
		State, Reason, Waits string
		Step                 int
		Weight               float64
		Judge                struct{ Stable, Canary judge.Counts }
	}
}

// inStep reports whether a candidate that is prepared has a weight.
func (s state) inStep() bool {
	return s.Upgrade.Candidate != nil && s.Upgrade.Candidate.Phase == "bake" && s.Release.State == "ramping"
}

func (s *server) admin() admin.Client {
	return admin.NewClient("unix:" + filepath.Join(s.dir, "admin"))
}

func (s *server) state() (st state) {
	s.t.Helper()
	if err := s.admin().Status(s.t.Context(), &st); err != nil {
		s.t.Fatal(err)
	}
	return st
}

// release makes v2 the next version. It is bad by itself in that way, if fail is not empty.
func (s *server) release(fail string) {
	s.t.Helper()
	s.linkTo(testutil.Build(s.t, pkg, "-X main.version=v2 -X main.fail="+fail))
}

// upgrade asks for one and returns its outcome.
func (s *server) upgrade() chan error {
	done := make(chan error, 1)
	go func() {
		_, err := s.admin().Replace(s.t.Context(), "/upgrade")
		done <- err
	}()
	return done
}

// The admin listener shows the steps of an upgrade, and ends them: back, or for good. Calls go on meanwhile.
func TestStepsAreEndedByHand(t *testing.T) {
	s := startServer(t, "-steps", "5%:1h")
	stop := s.calls()
	s.release("")
	for _, do := range []string{"/abort", "/commit"} {
		done := s.upgrade()
		testutil.Until(t, 30*time.Second, "the step is seen", func() bool {
			st := s.state()
			return st.inStep() && st.Release.Weight == 0.05 && st.Drain.Phase == "serving"
		})
		if _, err := s.admin().Replace(t.Context(), do); err != nil {
			t.Errorf("%s: %v", do, err)
		}
		if err := <-done; (err == nil) != (do == "/commit") {
			t.Errorf("after %s: %v", do, err)
		}
	}
	if st := s.state().Upgrade; st.Generation != 2 || st.Version != "v2" || st.State != "serving" {
		t.Errorf("%+v", st)
	}
	if bad := stop(); len(bad) > 0 {
		t.Errorf("%d calls failed, the first: %v", len(bad), bad[0])
	}
	s.stop()
}

// A bad release is taken back with its phase and reason, no call fails but those that it answers itself, and a good one
// takes over afterwards.
func TestBadReleasesAreTakenBack(t *testing.T) {
	for fail, want := range map[string]struct{ phase, reason string }{
		"start":       {"start", "exit status 7"},
		"check":       {"check", "self-test"},
		"after-ready": {"check bake", "exit status 7"},
		"errors=0.5":  {"bake", "worse than stable"},
		"slow=300ms":  {"bake", "worse than stable"},
		"panic=1":     {"bake", "exit status 2"}, // grpc-go does not recover
	} {
		t.Run(fail, func(t *testing.T) {
			s := startServer(t, "-steps", "20%:1m")
			stop := s.calls()
			s.release(fail)
			err := <-s.upgrade()
			r := (*admin.Refusal)(nil)
			if !errors.As(err, &r) || !slices.Contains(strings.Fields(want.phase), string(r.Phase)) || !strings.Contains(r.Reason, want.reason) {
				t.Errorf("%v, want phase %s: %s", err, want.phase, want.reason)
			}
			for _, err := range stop() {
				if c := status.Code(err); !(c == codes.Internal && fail == "errors=0.5" || c == codes.Unavailable && fail == "panic=1") {
					t.Errorf("call: %v", err)
				}
			}
			st := s.state()
			if st.Upgrade.Generation != 1 || st.Upgrade.State != "serving" {
				t.Errorf("%+v", st.Upgrade)
			}
			t.Logf("%+v", st.Release)
			s.release("")
			stop = s.calls()
			done := s.upgrade()
			testutil.Until(t, 30*time.Second, "the step is seen", func() bool { return s.state().inStep() })
			_, err = s.admin().Replace(t.Context(), "/commit")
			if err = errors.Join(err, <-done); err != nil {
				t.Errorf("the next release: %v", err)
			}
			if bad := stop(); len(bad) > 0 {
				t.Errorf("%d calls failed, the first: %v", len(bad), bad[0])
			}
			s.stop()
		})
	}
}

// stop drains by the admin listener and wants status 0.
func (s *server) stop() {
	s.t.Helper()
	if _, err := s.admin().Replace(s.t.Context(), "/drain"); err != nil {
		s.t.Error(err)
	}
	if code, err := s.Wait(30 * time.Second); code != 0 || err != nil {
		s.t.Errorf("exit %d, %v", code, err)
	}
}

// calls goes on to call, each time over a connection of its own. The function that it returns ends that, and returns what
// failed.
func (s *server) calls() (stop func() []error) {
	ctx, cancel := context.WithCancel(s.t.Context())
	var mu sync.Mutex
	var bad []error
	var n atomic.Int64
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for ctx.Err() == nil {
				conn := s.connect(s.t)
				_, err := echopb.NewEchoClient(conn).Say(context.WithoutCancel(ctx), &echopb.SayRequest{Text: "x"})
				conn.Close()
				n.Add(1)
				if err != nil {
					mu.Lock()
					bad = append(bad, err)
					mu.Unlock()
				}
			}
		})
	}
	testutil.Until(s.t, 30*time.Second, "calls are answered", func() bool { return n.Load() > 20 })
	return func() []error {
		after := n.Load()
		testutil.Until(s.t, 30*time.Second, "calls go on", func() bool { return n.Load() > after+20 })
		cancel()
		running.Wait()
		return bad
	}
}
