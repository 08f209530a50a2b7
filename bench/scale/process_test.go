//go:build linux

package scale

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/internal/testutil"
)

// patience is how long the tests wait for something that normally takes some milliseconds.
const patience = 15 * time.Second

// patienceFor is how long the tests wait for something that happens to n connections.
func patienceFor(n int) time.Duration { return patience + time.Duration(n)*2*time.Millisecond }

// service is a running service of a test: first only the old process, and then the old and the new process.
type service struct {
	t    *testing.T
	dir  string
	proc *testutil.Proc
	addr string
	old  *process
	gone chan time.Duration // gets sys.Uptime at the end of the old process
}

// start starts a service, and ends all its processes at the end of the test.
func start(t *testing.T, env ...string) *service {
	t.Helper()
	s := &service{t: t, dir: t.TempDir(), gone: make(chan time.Duration, 1)}
	s.proc = testutil.Start(t, "service", testutil.Cfg{Env: append(env, dirEnv+"="+s.dir)})
	go func() { // ends with the old process, which ends with the test
		<-s.proc.Exited()
		s.gone <- sys.Uptime()
	}()
	testutil.Until(t, patience, "the service has written its pid", func() bool { return s.pid() != 0 })
	s.old = s.connect(s.pid())
	s.addr = s.old.status(t).Addr
	return s
}

// pid returns the pid in the pid file, or 0.
func (s *service) pid() int {
	b, _ := os.ReadFile(filepath.Join(s.dir, "pid"))
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return n
}

// upgrade begins an upgrade.
func (s *service) upgrade() { s.old.signal(s.t, syscall.SIGHUP) }

// candidate waits for the candidate of the upgrade that has begun. The service must have a judge.
func (s *service) candidate() *process {
	s.t.Helper()
	pid := 0
	testutil.Until(s.t, patience, "Bake runs", func() bool { pid = s.old.status(s.t).Candidate; return pid != 0 })
	return s.connect(pid)
}

// successor waits until another process than the old one is in the pid file.
func (s *service) successor() *process {
	s.t.Helper()
	testutil.Until(s.t, patience, "the upgrade is committed", func() bool { return s.pid() != s.old.pid })
	return s.connect(s.pid())
}

// left waits for the end of the old process, which had n connections before the upgrade. It returns how long after the commit the
// process has ended, and its last status.
func (s *service) left(n int) (after time.Duration, last status) {
	s.t.Helper()
	select {
	case at := <-s.gone:
		_, line, _ := strings.Cut(s.proc.Output(), lastStatus(s.old.pid))
		line, _, _ = strings.Cut(line, "\n")
		if err := json.Unmarshal([]byte(line), &last); err != nil {
			s.t.Fatalf("the old process has written no status at its end: %q", line)
		}
		return at - last.Ended, last
	case <-time.After(patienceFor(n)):
		s.t.Errorf("the old process is there %v after the commit: %+v", patienceFor(n), s.old.status(s.t))
		return patienceFor(n), s.old.status(s.t)
	}
}

// process is a process of the service, with a connection to its control socket.
type process struct {
	pid    int
	client *http.Client
}

func (s *service) connect(pid int) *process {
	s.t.Helper()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socketOf(s.dir, pid))
	}
	p := &process{pid, &http.Client{Timeout: patience, Transport: &http.Transport{DialContext: dial, MaxConnsPerHost: 1}}}
	s.t.Cleanup(p.client.CloseIdleConnections)
	p.status(s.t) // from now on the process needs no descriptor for the control connection
	return p
}

func (p *process) status(t *testing.T) status {
	t.Helper()
	s, err := p.tryStatus()
	if err != nil {
		t.Fatalf("status of %d: %v", p.pid, err)
	}
	return s
}

// tryStatus returns an error if the process has ended.
func (p *process) tryStatus() (s status, err error) {
	resp, err := p.client.Get("http://process/status")
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		return s, err
	}
	_, err = io.Copy(io.Discard, resp.Body) // so that the connection is used again
	return s, err
}

// do sends a command.
func (p *process) do(t *testing.T, command string, value any) {
	t.Helper()
	resp, err := p.client.PostForm("http://process/"+command, url.Values{"v": {fmt.Sprint(value)}})
	if err != nil {
		t.Fatalf("%s %v: %v", command, value, err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %v: %s", command, value, b)
	}
}

func (p *process) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(p.pid, sig); err != nil {
		t.Fatalf("signal %v to %d: %v", sig, p.pid, err)
	}
}
