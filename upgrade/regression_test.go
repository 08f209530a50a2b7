//go:build linux

package upgrade_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
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

// What a review found. Each of these tests has failed once.

const patience = 20 * time.Second

// peer is a client with one connection, so it stays with one process.
type peer struct {
	t    *testing.T
	c    net.Conn
	r    *bufio.Reader
	by   string // the version that answers
	last bool   // the process has said that it hangs up, as it does when it is to end
}

func (r *running) dial() *peer {
	r.t.Helper()
	network, addr := network(r.set), r.addr
	if strings.HasPrefix(addr, "/") {
		network = "unix"
	}
	c, err := net.Dial(network, addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	p := &peer{t: r.t, c: c, r: bufio.NewReader(c)}
	p.ask("/work")
	return p
}

// connect opens connections until a process of the given version has one.
func (r *running) connect(by string) (p *peer) {
	r.t.Helper()
	testutil.Until(r.t, patience, "a connection to "+by, func() bool {
		if p = r.dial(); p.by != by {
			p.c.Close()
		}
		return p.by == by
	})
	return p
}

// ask sends a request and returns the number that the answer is, if it is one.
func (p *peer) ask(path string) (n int) {
	p.t.Helper()
	p.send("POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
	_, _ = fmt.Sscan(p.answer(http.StatusOK), &n)
	return n
}

// begin sends a request that the service executes until finish is called, and returns when it does.
func (p *peer) begin() *peer {
	p.t.Helper()
	p.send("POST /work HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n")
	p.answer(http.StatusContinue)
	return p
}

func (p *peer) finish() {
	p.t.Helper()
	p.send("x")
	p.answer(http.StatusOK)
	p.c.Close()
}

func (p *peer) send(s string) {
	p.t.Helper()
	_ = p.c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(p.c, s); err != nil {
		p.t.Fatalf("write to %s: %v", p.by, err)
	}
}

func (p *peer) answer(status int) string {
	p.t.Helper()
	resp, err := http.ReadResponse(p.r, nil)
	if err != nil {
		p.t.Fatalf("answer of %s: %v", p.by, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status {
		p.t.Fatalf("answer of %s: %s, %v", p.by, resp.Status, err)
	}
	if v := resp.Header.Get("X-Version"); v != "" {
		p.by = v
	}
	p.last = resp.Close
	return string(b)
}

// waitEnding waits until the process is to end.
func (p *peer) waitEnding() {
	p.t.Helper()
	testutil.Until(p.t, patience, p.by+" ends", func() bool { p.ask("/work"); return p.last })
}

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

// A reason of any length gets to the old process, which then serves on.
func TestLongReasonIsNoDeath(t *testing.T) {
	t.Parallel()
	r := startService(t, func(s *settings) { s.Bad = "check-long" })
	l := r.load(smallLoad)
	r.mustFail("check", strings.Repeat("x", 1000))
	r.mustRecover(l, 1)
	r.account(l).MustBeClean(t)
}

// A candidate that has no descriptor left for the commit's state gives up, and does not take the old process for dead.
func TestCandidateWithoutDescriptorsGivesUp(t *testing.T) {
	t.Parallel()
	const most = 40
	r := startService(t, long)
	r.change(func(s *settings) { s.NoFile = most })
	before := r.mainPID()
	candidate, done := r.soaking()
	var held []net.Conn
	testutil.Until(t, patience, "the candidate has no descriptor left", func() bool {
		if c, err := net.Dial("tcp", r.addr); err == nil {
			held = append(held, c)
		}
		return lowDescriptors(candidate, most) == most
	})
	r.ask("POST", "/commit")
	r.WaitOutput(patience, "upgrade: lost the control socket")
	for _, c := range held {
		c.Close()
	}
	if a := <-done; a.Committed || !strings.Contains(a.Reason, "descriptors are missing") {
		t.Errorf("upgrade: %+v", a)
	}
	r.WaitFamily(t, 1, patience)
	r.waitServing(1, 0)
	if r.mainPID() != before || strings.Contains(r.Output(), "has died") {
		t.Errorf("the pid file names %d, not %d", r.mainPID(), before)
	}
}

// lowDescriptors counts the descriptors of a process with numbers below most: the others were there before the limit.
func lowDescriptors(pid, most int) (n int) {
	fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	for _, e := range fds {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd < most {
			n++
		}
	}
	return n
}

// A listener that is opened while the service runs accepts.
func TestListenerOpenedLateAccepts(t *testing.T) {
	t.Parallel()
	r := startService(t, nil)
	r.waitServing(1, 0)
	r.ask("POST", "/listen")
	r.mustBeGreeted("late.sock")
	r.upgrade()
	r.waitServing(2, 0)
	r.ask("POST", "/listen")
	r.mustBeGreeted("late.sock")
}

// mustBeGreeted asks the service to accept and close a connection to a socket in its directory.
func (r *running) mustBeGreeted(name string) {
	r.t.Helper()
	c, err := net.Dial("unix", filepath.Join(r.dir, name))
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		r.t.Fatalf("%s is not accepted on: %v", name, err)
	}
}

// The path that a failed candidate has left does not stop the next one, which needs the same path.
func TestStaleUnixPathIsReplaced(t *testing.T) {
	t.Parallel()
	r := startService(t, func(s *settings) { s.Bad = "check-newsock" })
	r.mustFail("check", "the database is not there")
	r.change(func(s *settings) { s.Bad = "newsock" })
	r.upgrade()
	r.mustBeGreeted("new.sock")
}

// A process that stops while a new instance of the service has begun leaves that one's path alone.
func TestStopLeavesTheNextInstancesPath(t *testing.T) {
	for n, name := range []string{"first generation", "second generation"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startService(t, onPath)
			for range n {
				r.upgrade()
				r.WaitFamily(t, 1, patience)
			}
			p := r.dial().begin()
			r.signalMain(syscall.SIGTERM)
			testutil.Until(t, patience, "the path is removed", func() bool { return !exists(r.addr) })
			ln, err := net.Listen("unix", r.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			p.finish()
			r.WaitFamily(t, 0, patience)
			if !exists(r.addr) {
				t.Error("the path of the new instance is removed")
			}
		})
	}
}

// onPath makes the service listen on a unix socket.
func onPath(s *settings) {
	s.Network, s.Addr = "unix", filepath.Join(filepath.Dir(s.PIDFile), "svc.sock")
}

// A HUP that came during an upgrade is not forgotten when the commit of that upgrade fails.
func TestHangupSurvivesAFailedCommit(t *testing.T) {
	t.Parallel()
	f := faultAt(t, "new.ready", "kill")
	r := startService(t, long, f.env)
	r.signalMain(syscall.SIGHUP)
	r.waitPhase("soak")
	r.signalMain(syscall.SIGHUP)
	for range 10 { // the signal is noticed by then
		r.ask("GET", "/status")
	}
	r.change(func(s *settings) { s.Soak = 50 * time.Millisecond })
	r.ask("POST", "/commit")
	testutil.Until(t, patience, "the commit has failed", func() bool { return r.faulted() != 0 })
	testutil.Until(t, patience, "another candidate is committed", func() bool {
		a, err := r.tryAsk(context.Background(), "POST", "/commit")
		return err == nil && a.Status.Generation == 2 && a.Status.State == "serving" && a.Status.PID == r.mainPID()
	})
}

// An old process that was frozen for longer than it waits looks for the answer before it believes that there is none.
func TestFrozenOldProcessFindsTheAnswer(t *testing.T) {
	for n, frozen := range []string{"at the commit", "at the commit", "later", "later", "later"} {
		t.Run(fmt.Sprint(frozen, n), func(t *testing.T) { // more than once: it finds the answer and the end of the time
			t.Parallel()
			f := faultAt(t, "new.commit", "stop")
			r := startService(t, func(s *settings) { s.Timeout = 4 * time.Second }, f.env)
			old, done := r.mainPID(), r.beginUpgrade()
			testutil.Until(t, patience, "the commit", r.frozen)
			if frozen == "later" {
				r.connect("g1") // it accepts again: the last limit runs
			}
			_ = syscall.Kill(old, syscall.SIGSTOP)
			testutil.Until(t, patience, "the old process is frozen", func() bool { return stopped(old) })
			testutil.Until(t, patience, "the new process serves", func() bool {
				_ = syscall.Kill(r.faulted(), syscall.SIGCONT)
				return r.mainPID() == r.faulted()
			})
			r.dial().ask("/slow?d=4500ms") // when this is answered the limit is over
			_ = syscall.Kill(old, syscall.SIGCONT)
			if a := <-done; !a.Committed || r.mainPID() != r.faulted() {
				t.Errorf("upgrade: %+v", a)
			}
		})
	}
}

// dialFrom is dial from an address of this machine.
func (r *running) dialFrom(ip string) *peer {
	r.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	c, err := d.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	p := &peer{t: r.t, c: c, r: bufio.NewReader(c)}
	p.ask("/work")
	return p
}

// connectOnly opens a connection and sends nothing.
func (r *running) connectOnly() *peer {
	r.t.Helper()
	c, err := net.Dial(network(r.set), r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return &peer{t: r.t, c: c, r: bufio.NewReader(c)}
}

// openSockets is how many sockets a process has open.
func openSockets(pid int) (n int) {
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}
