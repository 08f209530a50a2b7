//go:build linux

package upgrade_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// removing makes a service on unix sockets, for connections and datagrams. It removes each path before it listens there.
func removing(s *plan.Settings) {
	onPath(s)
	s.Names, s.Bad = plan.NamesUnix, plan.RemovesPaths
}

// mustReach fails the test unless the generation answers on all paths of the service.
func mustReach(t *testing.T, r *testclient.Service, by string) {
	t.Helper()
	mustAnswer(t, r, by)
	newResolver(t, r).mustAsk(t, 1, by)
}

// mustAnswer does the same as mustReach, but only for connections.
func mustAnswer(t *testing.T, r *testclient.Service, by string) {
	t.Helper()
	p := r.Dial()
	if p.Close(); p.By != by {
		t.Errorf("%s answers on the path, want %s", p.By, by)
	}
	r.Status() // over the admin listener
}

// hidden lists the second names of socket files in the directory of a service.
func hidden(t *testing.T, r *testclient.Service) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(r.Dir, ".*.midair-*"))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// dialer connects to a path again and again.
type dialer struct {
	dials, missing, other int
	longest               time.Duration // the longest time in which the path was missing
	end                   func()
}

func startDialing(t *testing.T, path string) *dialer {
	t.Helper()
	d := &dialer{}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	d.end = sync.OnceFunc(func() { close(stop); wg.Wait() })
	t.Cleanup(d.end)
	wg.Go(func() {
		var since time.Time
		for ; !isOver(stop); time.Sleep(50 * time.Microsecond) { // leaves the service some processor time
			c, err := net.Dial("unix", path)
			d.dials++
			switch {
			case err == nil:
				c.Close()
				if !since.IsZero() {
					d.longest = max(d.longest, time.Since(since))
				}
				since = time.Time{}
				continue
			case strings.Contains(err.Error(), "no such file"):
				d.missing++
			default:
				d.other++
				t.Error(err)
			}
			if since.IsZero() {
				since = time.Now()
			}
		}
	})
	return d
}

// mustMissLittle ends the dialing. It allows short gaps: on a busy machine the scheduler may suspend a process between Remove
// and Listen.
func (d *dialer) mustMissLittle(t *testing.T) {
	t.Helper()
	d.end()
	t.Logf("%d dials, of which %d found no path, for %v at most, and %d were refused", d.dials, d.missing, d.longest, d.other)
	if d.longest > 250*time.Millisecond {
		t.Errorf("the path was away for %v", d.longest)
	}
}

// A program removes the path of its unix socket before it listens there. It can be reached on the path after an upgrade,
// however the upgrade ends. During the upgrade clients find no socket only in the moment between Remove and Listen.
func TestRemovedPathComesBack(t *testing.T) {
	for name, change := range map[string]func(*plan.Settings){"alone": nil, "supervised": always, "files at exec": anyFile} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, func(s *plan.Settings) {
				long(s)
				if removing(s); change != nil {
					change(s)
				}
			})
			if name == "files at exec" {
				r.LinkTo(testclient.Unmarked(t))
			}
			d := startDialing(t, r.Addr)
			for n := range 3 {
				r.UpgradeNow()
				mustReach(t, r, fmt.Sprint("g", n+2))
			}
			if a := r.Ask("POST", "/rehearse"); !a.Committed {
				t.Errorf("rehearsal: %s", a.Error)
			}
			mustReach(t, r, "g4")
			r.Change(func(s *plan.Settings) { s.Bad = plan.RemovesPathsCheckFails })
			if a := r.Ask("POST", "/upgrade"); a.Phase != "check" || !strings.Contains(a.Reason, "the database is not there") {
				t.Errorf("upgrade: %+v", a)
			}
			mustReach(t, r, "g4")
			r.Change(func(s *plan.Settings) { s.Bad = plan.RemovesPaths })
			_, done := r.Soaking()
			r.Ask("POST", "/abort")
			<-done
			mustReach(t, r, "g4")
			r.Release("other")
			r.UpgradeNow()
			r.Rollback()
			mustReach(t, r, "g6")
			d.mustMissLittle(t)
			r.SignalMain(syscall.SIGTERM)
			r.WaitFamily(t, 0, patience)
			for _, path := range append(hidden(t, r), r.Addr, filepath.Join(r.Dir, "names"), filepath.Join(r.Dir, "admin.sock")) {
				if exists(path) {
					t.Errorf("%s is there after the end", path)
				}
			}
		})
	}
}

// A generation removes the path at its end, as many programs do after Run. The path of the other process comes back when this
// generation has ended, whether it is a candidate that was taken back or an old process.
func TestPathComesBackAfterTheOtherProcessHasEnded(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { onPath(s); long(s); s.Bad = plan.RemovesPathAtEnd })
	reach := func(by string) {
		t.Helper()
		r.WaitFamily(t, 1, patience)
		testutil.Until(t, patience, "the path is back", func() bool { return exists(r.Addr) })
		mustAnswer(t, r, by)
	}
	for n := range 2 {
		_, done := r.Soaking()
		r.Ask("POST", "/abort")
		<-done
		reach(fmt.Sprint("g", n+1))
		r.UpgradeNow()
		reach(fmt.Sprint("g", n+2))
	}
	p := r.Dial().Begin() // so that the older process ends later than the process that has replaced it
	r.UpgradeNow()
	r.UpgradeNow()
	p.Finish()
	reach("g5")
}

// A foreign file at the path of a socket is not replaced: the upgrade fails, and the error names the socket. When the file has
// been removed, the path comes back.
func TestForeignFileAtThePathStays(t *testing.T) {
	for name, put := range map[string]func(t *testing.T, path string) (remove func()){
		"listener": func(t *testing.T, path string) func() {
			ln, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { ln.Close() })
			return func() { ln.Close() }
		},
		"datagrams": func(t *testing.T, path string) func() {
			pc, err := net.ListenPacket("unixgram", path)
			if err != nil {
				t.Fatal(err)
			}
			return func() { pc.Close(); os.Remove(path) }
		},
		"regular file": func(t *testing.T, path string) func() {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return func() { os.Remove(path) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, func(s *plan.Settings) { removing(s); s.Bad = "" })
			for _, path := range []string{r.Addr, filepath.Join(r.Dir, "names")} {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
				remove := put(t, path)
				before, err := os.Lstat(path)
				if err != nil {
					t.Fatal(err)
				}
				r.MustFail("check", path+": something else is at its path")
				if now, err := os.Lstat(path); err != nil || !os.SameFile(before, now) {
					t.Errorf("what was put at the path is gone: %v", err)
				}
				remove()
			}
			r.Upgrade()
			mustReach(t, r, "g2")
			if err := os.Remove(r.Addr); err != nil {
				t.Fatal(err)
			}
			put(t, r.Addr)
			r.SignalMain(syscall.SIGTERM)
			r.WaitFamily(t, 0, patience)
			if !exists(r.Addr) || len(hidden(t, r)) > 0 {
				t.Errorf("after the end: what was put there is there: %v; %q is left", exists(r.Addr), hidden(t, r))
			}
		})
	}
}

// A socket file that a dead process has left at the path is replaced. If a path cannot be restored, the upgrade fails, and the
// error names the path.
func TestPathIsPutBackOrNamed(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { removing(s); s.Bad = "" })
	if err := os.Remove(r.Addr); err != nil {
		t.Fatal(err)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: r.Addr})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	ln.Close()
	r.Change(long)
	r.Upgrade()
	mustReach(t, r, "g2")
	_, done := r.Soaking()
	if err := os.Remove(r.Addr); err != nil { // after the checks
		t.Fatal(err)
	}
	r.Ask("POST", "/commit")
	<-done
	mustReach(t, r, "g3")
	for _, path := range append(hidden(t, r), r.Addr) {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	r.MustFail("check", r.Addr+": its path was removed, and no hard link to its file is left")
	r.MustSay("upgrade: a unix socket cannot be reached")
}

// A process that opened its socket as root, and is no longer root, may not make a hard link to the socket file. It restores the
// path once, and logs that it cannot do so again.
func TestPathComesBackAfterRootIsDropped(t *testing.T) {
	t.Parallel()
	protected, err := os.ReadFile("/proc/sys/fs/protected_hardlinks")
	if err != nil || strings.TrimSpace(string(protected)) != "1" {
		t.Skip("NOT RUN: fs.protected_hardlinks is off, everybody may make links")
	}
	r := dropping(t, func(s *plan.Settings) { removing(s); s.Names = "" })
	r.Upgrade()
	mustAnswer(t, r, "g2")
	r.MustSay("cannot be put back again")
	r.Change(func(s *plan.Settings) { s.Bad = "" })
	r.Upgrade()
	mustAnswer(t, r, "g3")
	if err := os.Remove(r.Addr); err != nil {
		t.Fatal(err)
	}
	r.MustFail("check", "no hard link to its file is left")
}

// The hidden names of a socket file are removed with the socket: when the program closes the socket, when a new version does
// not open it, and, after a kill, when a process listens on the path again. No other file is removed.
func TestHiddenNamesGo(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { removing(s); s.Bad = plan.FirstReopensTwice })
	if n := len(hidden(t, r)); n != 3 {
		t.Errorf("there are %q", hidden(t, r))
	}
	other := filepath.Join(r.Dir, ".svc.sock.midair-0123456789abcdef") // belongs to another service that runs
	ln, err := net.Listen("unix", other)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	file := filepath.Join(r.Dir, ".svc.sock.midair-0123456789abcde0")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r.SignalMain(syscall.SIGKILL)
		if _, err := r.Wait(patience); err != nil { // the sockets stay open until all threads of the process have ended
			t.Fatal(err)
		}
		if n := len(hidden(t, r)); n != 5 {
			t.Errorf("after the kill there are %q", hidden(t, r))
		}
		if err := os.Remove(r.Set.PIDFile); err != nil {
			t.Fatal(err)
		}
		r.Proc = testutil.Start(t, "service", testutil.Cfg{Env: []string{r.Env()}})
		testutil.Until(t, patience, "the service serves again", func() bool { return r.MainPID() != 0 })
		mustReach(t, r, "g1")
		if n := len(hidden(t, r)); n != 5 || !exists(other) || !exists(file) {
			t.Errorf("after a new start there are %q", hidden(t, r))
		}
	}
	r.Change(func(s *plan.Settings) { s.Network, s.Addr, s.Names, s.Bad = "tcp", "127.0.0.1:0", "", "" })
	r.Upgrade()
	testutil.Until(t, patience, "what the new version has not taken goes", func() bool { return !exists(r.Addr) && len(hidden(t, r)) == 3 })
}

// A service that is started again after a crash gets its sockets by their names. Then a removed path comes back as well,
// whichever process has removed it, and it comes back in the next upgrade, too.
func TestRestartFindsTheRemovedPath(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { always(s); removing(s) })
	for n := range 2 {
		r.WaitKnown()
		dead := r.MainPID()
		if n > 0 {
			if err := os.Remove(r.Addr); err != nil {
				t.Fatal(err)
			}
		}
		r.SignalMain(syscall.SIGKILL)
		mustBeOneService(t, r, dead)
		p := r.Dial()
		by := p.By
		p.Close()
		newResolver(t, r).mustAsk(t, 1, by)
		if len(hidden(t, r)) != 3 {
			t.Errorf("there are %q", hidden(t, r))
		}
		r.Upgrade()
		p = r.Dial()
		if p.Close(); p.By == by {
			t.Errorf("%s answers after the upgrade", by)
		}
	}
	r.MustStop(syscall.SIGTERM)
	if len(hidden(t, r)) > 0 {
		t.Errorf("after the end there are %q", hidden(t, r))
	}
}
