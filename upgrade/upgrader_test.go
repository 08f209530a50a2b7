package upgrade_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
)

// serveUntilDone is a serve that only waits for the end of its context.
func serveUntilDone(ctx context.Context) error { <-ctx.Done(); return nil }

func newUnsupported(t *testing.T, opts upgrade.Options) *upgrade.Upgrader {
	t.Helper()
	opts.NoSignals = true
	up, err := upgrade.NewUnsupported(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { up.Close() })
	return up
}

// On a platform without upgrades a program serves and stops as usual, and Upgrade returns ErrNotSupported.
func TestUnsupportedPlatformServes(t *testing.T) {
	up := newUnsupported(t, upgrade.Options{PIDFile: filepath.Join(t.TempDir(), "pid")})
	ln, err := up.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	up.Check("fine", func(context.Context) error { return nil })
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() {
		ran <- up.Run(ctx, func(ctx context.Context) error {
			context.AfterFunc(ctx, func() { ln.Close() })
			for {
				c, err := ln.Accept()
				if err != nil {
					return nil
				}
				io.WriteString(c, "hello")
				c.Close()
			}
		})
	}()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c); string(b) != "hello" {
		t.Fatalf("%q, %v", b, err)
	}
	c.Close()
	if err := up.Upgrade(t.Context()); !errors.Is(err, upgrade.ErrNotSupported) {
		t.Fatalf("upgrade: %v", err)
	}
	stop()
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	if st := up.Status().State; st != "closed" {
		t.Fatalf("state %q", st)
	}
}

// The cause of serve's context shows whether the context has ended for a stop or for an upgrade.
func TestStopIsNoHandover(t *testing.T) {
	up := newUnsupported(t, upgrade.Options{})
	ctx, stop := context.WithCancelCause(t.Context())
	stop(errors.New("enough"))
	err := up.Run(ctx, func(ctx context.Context) error {
		<-ctx.Done()
		return context.Cause(ctx)
	})
	var h interface{ Handover() bool }
	if !errors.As(err, &h) || h.Handover() || !strings.Contains(err.Error(), "enough") {
		t.Fatalf("cause %v", err)
	}
}

// Run returns the error of serve, and serve sees the values of the context of Run.
func TestRunReturnsWhatServeReturns(t *testing.T) {
	type key struct{}
	up := newUnsupported(t, upgrade.Options{})
	bad := errors.New("bind failed")
	err := up.Run(context.WithValue(t.Context(), key{}, "v"), func(ctx context.Context) error {
		if ctx.Value(key{}) != "v" {
			return errors.New("the value is missing")
		}
		return bad
	})
	if !errors.Is(err, bad) {
		t.Fatal(err)
	}
}

// Requests that come too early or too late get an error that tells so.
func TestRequestsOutsideOfRunAreRefused(t *testing.T) {
	up := newUnsupported(t, upgrade.Options{})
	if err := up.Commit(); !errors.Is(err, upgrade.ErrNotReady) {
		t.Errorf("commit before Run: %v", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- up.Run(ctx, serveUntilDone) }()
	testutil.Until(t, 10*time.Second, "it serves", func() bool { return up.Status().State == "serving" })
	if err := up.Abort("no reason"); !errors.Is(err, upgrade.ErrNotReady) {
		t.Errorf("abort without an upgrade: %v", err)
	}
	stop()
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	if err := up.Commit(); !errors.Is(err, upgrade.ErrClosed) {
		t.Errorf("commit after Run: %v", err)
	}
	if err := up.Run(t.Context(), serveUntilDone); !errors.Is(err, upgrade.ErrClosed) {
		t.Errorf("second Run: %v", err)
	}
}

// Close ends Run and waits until Run has returned. It may be called several times, from any goroutine.
func TestCloseEndsTheRun(t *testing.T) {
	up := newUnsupported(t, upgrade.Options{})
	ended := make(chan struct{})
	begun := make(chan struct{})
	go func() {
		defer close(ended)
		_ = up.Run(t.Context(), func(ctx context.Context) error {
			close(begun)
			<-ctx.Done()
			return nil
		})
	}()
	<-begun
	go up.Close()
	up.Close()
	<-ended
	up.Close()
	never := newUnsupported(t, upgrade.Options{})
	ln, err := never.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	never.Close()
	never.Close()
	if err := never.Run(t.Context(), serveUntilDone); !errors.Is(err, upgrade.ErrClosed) {
		t.Errorf("Run after Close: %v", err)
	}
	ln.Close()
}

// A first process serves even if its checks fail, because there is no other process. The log names the failed check. A check
// whose time is over is logged, too.
func TestFailedCheckDoesNotStopTheOnlyProcess(t *testing.T) {
	for reason, check := range map[string]func(context.Context) error{
		"down":                      func(context.Context) error { return errors.New("down") },
		"context deadline exceeded": func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	} {
		log := &lockedLog{}
		up := newUnsupported(t, upgrade.Options{Timeout: 100 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(log, nil))})
		up.Check("never", check)
		go up.Run(t.Context(), serveUntilDone) // Close ends this call
		testutil.Until(t, 10*time.Second, "it serves", func() bool { return up.Status().State == "serving" })
		if want := `check \"never\": ` + reason; !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %s:\n%s", want, log)
		}
	}
}

// Invalid options are refused. The error names the field and tells what to do.
func TestNonsenseOptionsAreNamed(t *testing.T) {
	for name, opts := range map[string]upgrade.Options{
		"Timeout": {Timeout: -1}, "AbortGrace": {AbortGrace: -1}, "StateLimit": {StateLimit: -1},
	} {
		if _, err := upgrade.NewUnsupported(opts); err == nil || !strings.Contains(err.Error(), "Options."+name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	up := newUnsupported(t, upgrade.Options{})
	if _, err := up.Listen("tcp", "nonsense"); err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("listen: %v", err)
	}
}
