package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/midair-go/midair/upgrade"
)

// fail is the default of -fail. Set with -ldflags "-X main.fail=check" it makes a binary that is bad by itself.
var fail string

// failure is a way for a release to be bad, so that upgrades can be tried that must not succeed. It acts in a process
// that is an upgrade; errors, slow and panic act in every process.
type failure struct {
	mode     string // empty: a good release
	delay    time.Duration
	share    float64
	upgraded bool // this process is an upgrade
	up       *upgrade.Upgrader
}

// failures are the modes and what each needs behind an equals sign.
var failures = []struct{ mode, needs string }{
	{"start", ""}, {"check", ""}, {"hang", ""}, {"after-ready", ""}, {"leak-fd", ""},
	{"after-commit", "2s"}, {"slow", "200ms"}, {"errors", "0.2"}, {"panic", "0.1"},
}

func failureNames() string {
	var names []string
	for _, f := range failures {
		names = append(names, strings.TrimSuffix(f.mode+"="+f.needs, "="))
	}
	return strings.Join(names, ", ")
}

// String gives the mode.
func (f *failure) String() string { return f.mode }

// Set reads "mode" or "mode=value".
func (f *failure) Set(s string) error {
	*f = failure{}
	if s == "" {
		return nil
	}
	mode, value, valued := strings.Cut(s, "=")
	for _, known := range failures {
		if known.mode != mode {
			continue
		}
		f.mode = mode
		if valued != (known.needs != "") {
			return fmt.Errorf("%q: want it like %q", s, strings.TrimSuffix(mode+"="+known.needs, "="))
		}
		return f.setValue(value)
	}
	return fmt.Errorf("%q is none of %s", s, failureNames())
}

func (f *failure) setValue(value string) (err error) {
	switch f.mode {
	case "after-commit", "slow":
		if f.delay, err = time.ParseDuration(value); err == nil && f.delay < 0 {
			err = errors.New("negative")
		}
	case "errors", "panic":
		if f.share, err = strconv.ParseFloat(value, 64); err == nil && !(f.share >= 0 && f.share <= 1) {
			err = errors.New("not between 0 and 1")
		}
	}
	if err != nil {
		return fmt.Errorf("%s=%s: %w", f.mode, value, err)
	}
	return nil
}

// beforeNew is what goes wrong before the old process has heard anything. Only the environment tells here whether this
// process is an upgrade.
func (f *failure) beforeNew() {
	if os.Getenv("TABLEFLIP_HAS_PARENT_7DIU3") == "" {
		return
	}
	switch f.mode {
	case "start":
		die("fails at its start")
	case "hang":
		time.Sleep(time.Hour) // not for ever: nobody should have to look for it
		die("has hung for an hour")
	}
}

func die(how string) {
	slog.Error("this release is bad", "how", how)
	os.Exit(7)
}

// afterNew adds what goes wrong in the checks.
func (f *failure) afterNew(up *upgrade.Upgrader) {
	f.up, f.upgraded = up, up.Status().Generation > 1
	if f.mode == "check" && f.upgraded {
		up.Check("self-test", func(context.Context) error { return errors.New("this release is bad: it fails its own check") })
	}
}

// listener is ln for a good release.
func (f *failure) listener(ctx context.Context, ln net.Listener) net.Listener {
	switch {
	case !f.upgraded:
	case f.mode == "after-ready":
		return doomed{ln}
	case f.mode == "after-commit":
		go f.dieAfterCommit(ctx) // ends with ctx
	}
	return ln
}

// doomed is a listener whose process ends a moment after it may accept, when it has said that it is ready. It accepts
// nothing: the deadline lets Accept return without a connection. So nobody loses a request.
type doomed struct{ net.Listener }

// Accept ends the process, or returns the error of a listener that was closed before.
func (d doomed) Accept() (net.Conn, error) {
	if l, ok := d.Listener.(interface{ SetDeadline(time.Time) error }); ok {
		_ = l.SetDeadline(time.Unix(1, 0)) // fails if it is closed, and so does Accept
	}
	conn, err := d.Listener.Accept()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		time.Sleep(10 * time.Millisecond)
		die("exits right after it was prepared")
	}
	return conn, err
}

func (f *failure) dieAfterCommit(ctx context.Context) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var end <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if f.up.Status().State == "serving" {
				tick.Stop()
				end = time.After(f.delay)
			}
		case <-end:
			die("exits " + f.delay.String() + " after the commit")
		}
	}
}

// middleware is what goes wrong with requests. Probes are spared: such a release looks healthy from outside.
func (f *failure) middleware(next http.Handler) http.Handler {
	var leak leak
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch hit := rand.Float64() < f.share; {
		case strings.HasSuffix(r.URL.Path, "z"):
		case f.mode == "slow":
			_ = sleep(r.Context(), f.delay) // a client that has gone needs no answer
		case f.mode == "panic" && hit:
			panic("this release is bad: it panics")
		case f.mode == "errors" && hit:
			http.Error(w, "this release is bad: it answers with errors", http.StatusInternalServerError)
			return
		case f.mode == "leak-fd" && f.upgraded:
			leak.another()
		}
		next.ServeHTTP(w, r)
	})
}

// leak keeps descriptors that nobody needs.
type leak struct {
	mu    sync.Mutex
	files []*os.File // without this the garbage collector would close them
}

func (l *leak) another() {
	f, err := os.Open(os.DevNull)
	if err != nil {
		return // that is what it is for
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.files = append(l.files, f)
}
