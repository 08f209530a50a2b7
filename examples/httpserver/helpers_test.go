package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/examples/internal/admin"
	"github.com/midair-go/midair/internal/testutil"
)

func TestMain(m *testing.M) { testutil.Main(m, roles) }

// roles are what the test binary plays.
var roles = map[string]func() int{}

const patience = 60 * time.Second

// build returns the path of this program under a version.
func build(t testing.TB, version string) string {
	return badBuild(t, version, "")
}

// badBuild is a version that is bad by itself; fail is empty for a good one.
func badBuild(t testing.TB, version, fail string) string {
	t.Helper()
	return testutil.Build(t, "github.com/midair-go/midair/examples/httpserver", "-X main.version="+version+" -X main.fail="+fail)
}

// site is a running service from the test's side.
type site struct {
	*testutil.Proc
	t    *testing.T
	dir  string
	addr string
}

// startSite starts version v1 through the link "current", with every file below one directory, and waits until it
// serves.
func startSite(t *testing.T, args ...string) *site {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("there are no upgrades here")
	}
	dir, err := os.MkdirTemp("", "site") // short: the path of a unix socket is limited
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &site{t: t, dir: dir}
	s.linkTo(build(t, "v1"))
	args = append([]string{"-addr", "127.0.0.1:0", "-addr-file", "addr", "-pid-file", "pid", "-admin", "unix:admin", "-soak", "50ms"}, args...)
	s.Proc = testutil.StartCommand(t, testutil.Cfg{Dir: dir}, s.file("current"), args...)
	testutil.Until(t, patience, "it serves", func() bool { return strings.Contains(s.Output(), "upgrade: serving") || ended(s.Proc) })
	s.addr = strings.TrimSpace(s.read("addr"))
	return s
}

// WaitFamily waits until n processes serve or drain, and with them the supervisor.
func (s *site) WaitFamily(t testing.TB, n int, timeout time.Duration) {
	t.Helper()
	if n > 0 {
		n++
	}
	s.Proc.WaitFamily(t, n, timeout)
}

func ended(p *testutil.Proc) bool {
	select {
	case <-p.Exited():
		return true
	default:
		return false
	}
}

func (s *site) file(name string) string { return filepath.Join(s.dir, name) }

func (s *site) read(name string) string {
	s.t.Helper()
	b, err := os.ReadFile(s.file(name))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b)
}

// linkTo moves the link that upgrades start.
func (s *site) linkTo(path string) {
	s.t.Helper()
	if err := errors.Join(os.Symlink(path, s.file("next")), os.Rename(s.file("next"), s.file("current"))); err != nil {
		s.t.Fatal(err)
	}
}

// release makes v2 the next version.
func (s *site) release() { s.releaseBad("") }

// releaseBad makes v2 the next version, which is bad in that way.
func (s *site) releaseBad(fail string) {
	s.t.Helper()
	s.linkTo(badBuild(s.t, "v2", fail))
}

// mainPID is the process to signal; 0 without a pid file.
func (s *site) mainPID() int {
	pid, _ := readPID(s.file("pid")) // 0 with an error
	return pid
}

// signal signals the process that the pid file names.
func (s *site) signal(sig syscall.Signal) {
	s.t.Helper()
	p, err := os.FindProcess(s.mainPID())
	if err == nil {
		err = p.Signal(sig)
	}
	if err != nil {
		s.t.Fatalf("signal %v to pid %d: %v", sig, s.mainPID(), err)
	}
}

// mustEnd waits for the end of every process, and for that of the first with this exit code.
func (s *site) mustEnd(code int) {
	s.t.Helper()
	got, err := s.Wait(patience)
	if err != nil || got != code {
		s.t.Errorf("exit code %d, %v, want %d", got, err, code)
	}
	s.WaitFamily(s.t, 0, patience)
}

// reply is an answer, read to its end.
type reply struct {
	status int
	header http.Header
	body   string
	proto  string
}

// version, generation of the process that gave the answer.
func (r reply) version() string { return r.header.Get("X-Version") }

func (r reply) generation() int {
	n, _ := strconv.Atoi(r.header.Get("X-Generation"))
	return n
}

// send sends a request over a connection of its own.
func send(c *http.Client, req *http.Request) (reply, error) {
	resp, err := c.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(b), resp.Proto}, err
}

func oneShot() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
}

// ask asks the service.
func (s *site) ask(method, path, body string) reply {
	s.t.Helper()
	req, err := http.NewRequest(method, "http://"+s.addr+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := send(oneShot(), req)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return r
}

// operate asks the admin socket; change may touch the request.
func (s *site) operate(ctx context.Context, method, path string, change ...func(*http.Request)) (reply, error) {
	c := oneShot()
	c.Transport.(*http.Transport).DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", s.file("admin"))
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://admin"+path, nil)
	if err != nil {
		return reply{}, err
	}
	for _, f := range change {
		f(req)
	}
	return send(c, req)
}

// post asks the admin socket and wants the status; it returns phase and reason.
func (s *site) post(path string, status int) admin.Answer {
	s.t.Helper()
	r, err := s.operate(context.Background(), "POST", path)
	if err != nil {
		s.t.Fatalf("POST %s: %v", path, err)
	}
	return s.decoded(r, status)
}

func (s *site) decoded(r reply, status int) (a admin.Answer) {
	s.t.Helper()
	if err := json.Unmarshal([]byte(r.body), &a); err != nil || r.status != status {
		s.t.Fatalf("status %d (want %d), %v: %s", r.status, status, err, r.body)
	}
	return a
}

// later posts in a goroutine of its own and returns where the answer will come.
func (s *site) later(ctx context.Context, path string) <-chan reply {
	replies := make(chan reply, 1)
	go func() {
		r, err := s.operate(ctx, "POST", path)
		if err != nil {
			r.body = err.Error()
		}
		replies <- r
	}()
	return replies
}

func (s *site) status() (st siteView) {
	s.t.Helper()
	r, err := s.operate(context.Background(), "GET", "/status")
	if err == nil {
		err = json.Unmarshal([]byte(r.body), &st)
	}
	if err != nil {
		s.t.Fatalf("status: %v: %s", err, r.body)
	}
	return st
}

// untilPhase waits until an upgrade is in the phase.
func (s *site) untilPhase(phase string) {
	s.t.Helper()
	testutil.Until(s.t, patience, "phase "+phase, func() bool {
		c := s.status().Upgrade.Candidate
		return c != nil && c.PID != 0 && string(c.Phase) == phase // a file that is looked at is no process yet
	})
}

// load keeps clients asking.
func (s *site) load() *testutil.Load {
	s.t.Helper()
	l := testutil.StartLoad(s.t, testutil.LoadOptions{
		Addr: s.addr, KeepAlive: 4, New: 2, Path: "/echo", Body: 100,
		SlowEvery: 50, SlowPath: "/slow?d=30ms", Think: 2 * time.Millisecond,
	})
	testutil.Until(s.t, patience, "the load is on", func() bool { return l.Total() > 50 })
	return l
}

// mustLoseNothing stops the load.
func (s *site) mustLoseNothing(l *testutil.Load) {
	s.t.Helper()
	if r := l.Stop(); len(r.Failed) > 0 {
		s.t.Errorf("%v\nthe first: %v", r, r.Failed[0])
	}
}

// runCommand runs the program to its end and returns its exit code and output.
func runCommand(t *testing.T, cfg testutil.Cfg, exe string, args ...string) (int, string) {
	t.Helper()
	p := testutil.StartCommand(t, cfg, exe, args...)
	code, err := p.Wait(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return code, p.Output()
}
