//go:build linux

package upgrade_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// The test service from outside: how tests start it, ask it, upgrade it and put it under load.

// running is a service from the test's side.
type running struct {
	*testutil.Proc
	t    *testing.T
	dir  string
	addr string
	set  settings
}

// startService starts a service with soak and limits that suit a test, changed by change.
func startService(t *testing.T, change func(*settings), env ...string) *running {
	t.Helper()
	return startServiceIn(t, "", change, env...)
}

func startServiceIn(t *testing.T, wd string, change func(*settings), env ...string) *running {
	t.Helper()
	return startServiceBy(t, change, func(r *running) *testutil.Proc {
		return testutil.Start(t, "service", testutil.Cfg{Dir: wd, Env: append(env, dirEnv+"="+r.dir)})
	})
}

// startServiceBy starts it by start, which gets everything but the process, and waits until it is up.
func startServiceBy(t *testing.T, change func(*settings), start func(*running) *testutil.Proc) *running {
	t.Helper()
	dir, err := os.MkdirTemp("", "svc") // short: the path of a unix socket is limited
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &running{t: t, dir: dir, set: settings{Addr: "127.0.0.1:0", Soak: 50 * time.Millisecond, Timeout: 15 * time.Second}}
	r.set.PIDFile = filepath.Join(dir, "pid")
	r.linkTo(testBinary(t))
	r.change(change)
	r.Proc = start(r)
	testutil.Until(t, 20*time.Second, "the service has a pid file, and has said that it serves", func() bool {
		return r.mainPID() != 0 && (r.set.Plain || strings.Contains(r.Output(), "upgrade: serving"))
	})
	b, err := os.ReadFile(filepath.Join(dir, "addr"))
	if err != nil {
		t.Fatal(err)
	}
	r.addr = string(b)
	return r
}

func testBinary(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

// linkTo makes the service's executable a link to path.
func (r *running) linkTo(path string) {
	r.t.Helper()
	tmp := filepath.Join(r.dir, "exe.new")
	if err := errors.Join(os.Symlink(path, tmp), os.Rename(tmp, filepath.Join(r.dir, "exe"))); err != nil {
		r.t.Fatal(err)
	}
}

// change writes the settings for the next generations.
func (r *running) change(fn func(*settings)) {
	r.t.Helper()
	if fn != nil {
		fn(&r.set)
	}
	b, err := json.Marshal(r.set)
	if err == nil {
		err = os.WriteFile(filepath.Join(r.dir, "settings.new"), b, 0o600)
	}
	if err == nil {
		err = os.Rename(filepath.Join(r.dir, "settings.new"), filepath.Join(r.dir, "settings"))
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// mainPID is the process to signal.
func (r *running) mainPID() int {
	b, _ := os.ReadFile(r.set.PIDFile)
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return n
}

// signalMain signals the process that the pid file names.
func (r *running) signalMain(sig syscall.Signal) {
	r.t.Helper()
	if err := syscall.Kill(r.mainPID(), sig); err != nil {
		r.t.Fatalf("signal %v to pid %d: %v", sig, r.mainPID(), err)
	}
}

// ask posts to the admin socket.
func (r *running) ask(method, path string) answer {
	r.t.Helper()
	a, err := r.tryAsk(context.Background(), method, path)
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

func (r *running) tryAsk(ctx context.Context, method, path string) (a answer, err error) {
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(r.dir, "admin.sock"))
	}}
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://admin"+path, nil)
	if err != nil {
		return a, err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	return a, json.NewDecoder(resp.Body).Decode(&a)
}

// upgrade asks for an upgrade that must be committed, and waits until the old process has gone.
func (r *running) upgrade() {
	r.t.Helper()
	if a := r.ask("POST", "/upgrade"); !a.Committed {
		r.t.Fatalf("upgrade: %s", a.Error)
	}
}

// upgradeNow is upgrade for a service with a long soak: it commits by hand.
func (r *running) upgradeNow() {
	r.t.Helper()
	done := make(chan answer, 1)
	go func() {
		a, _ := r.tryAsk(context.Background(), "POST", "/upgrade")
		done <- a
	}()
	r.waitPhase("soak")
	r.ask("POST", "/commit")
	if a := <-done; !a.Committed {
		r.t.Fatalf("upgrade: %s", a.Error)
	}
}

// load starts clients of the service.
func (r *running) load(o testutil.LoadOptions) *testutil.Load {
	r.t.Helper()
	o.Addr = r.addr
	if r.set.Network == "unix" {
		o.Network, o.Addr = "unix", r.set.Addr
	}
	return testutil.StartLoad(r.t, o)
}

// account stops the load and classifies its requests.
func (r *running) account(l *testutil.Load) testutil.Accounting {
	r.t.Helper()
	return testutil.Account(r.t, l.Stop(), filepath.Join(r.dir, "journal"))
}

const patience = 20 * time.Second

// beginUpgrade asks for an upgrade that goes on when the function returns. Its answer, empty if the process dies, comes
// on the channel.
func (r *running) beginUpgrade() <-chan answer {
	done := make(chan answer, 1)
	go func() {
		a, _ := r.tryAsk(context.Background(), "POST", "/upgrade")
		done <- a
	}()
	return done
}

// soaking begins an upgrade and returns when both processes accept.
func (r *running) soaking() (candidate int, done <-chan answer) {
	r.t.Helper()
	done = r.beginUpgrade()
	r.waitPhase("soak")
	return r.ask("GET", "/status").Status.Candidate.PID, done
}

// waitServing waits until the process that the pid file names serves, as the given generation and not with pid not.
func (r *running) waitServing(generation, not int) {
	r.t.Helper()
	testutil.Until(r.t, patience, fmt.Sprintf("generation %d serves, other than pid %d", generation, not), func() bool {
		a, err := r.tryAsk(context.Background(), "GET", "/status")
		s := a.Status
		return err == nil && s.State == "serving" && s.Generation == generation && s.PID == r.mainPID() && s.PID != not
	})
}

func long(s *settings) { s.Soak = time.Minute }

// staying is long without connections that move.
func staying(s *settings) { s.Soak, s.NoMove = time.Minute, true }

func (r *running) waitPhase(phase string) {
	r.t.Helper()
	testutil.Until(r.t, 20*time.Second, "the phase "+phase, func() bool {
		c := r.ask("GET", "/status").Status.Candidate
		return c != nil && string(c.Phase) == phase
	})
}
