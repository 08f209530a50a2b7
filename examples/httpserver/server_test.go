package main

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
)

// Arguments that make no sense end the program with status 2 and a line that says why.
func TestUsage(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"-fail=nonsense", `"nonsense" is none of start, check, hang`},
		{"-fail=check=1", `want it like "check"`},
		{"-fail=errors", `want it like "errors=0.2"`},
		{"-fail=errors=2", "not between 0 and 1"},
		{"-fail=errors=NaN", "not between 0 and 1"},
		{"-fail=slow=fast", "invalid duration"},
		{"-fail=after-commit=-1s", "negative"},
		{"-tls-cert=x", "-tls-cert and -tls-key need each other"},
		{"-grace=0", "-grace must be more than 0"},
		{"-flags=", "-flags must not be empty"},
		{"-sessions=", "-sessions must not be empty"},
		{"-upgrade-timeout=-1s", "-upgrade-timeout must be more than 0"},
		{"-nonsense", "flag provided but not defined"},
		{"serve", `"serve" is no flag and no subcommand`},
		{"upgrade", "say which service"},
		{"upgrade -pid-file x -rollback", "need -admin"},
		{"upgrade -admin x -rollback -rehearse", "exclude each other"},
		{"upgrade -pid-file x -timeout 0", "-timeout must be more than 0"},
		{"demo please", `"please" is no flag`},
	} {
		code, out := runCommand(t, testutil.Cfg{Dir: t.TempDir()}, build(t, "v1"), strings.Fields(c.args)...)
		if code != 2 || !strings.Contains(out, c.want) {
			t.Errorf("%s: exit code %d, want 2 and %q:\n%s", c.args, code, c.want, out)
		}
	}
	if code, out := runCommand(t, testutil.Cfg{}, build(t, "v1"), "-h"); code != 0 || !strings.Contains(out, "-upgrade-timeout") {
		t.Errorf("-h: exit code %d:\n%s", code, out)
	}
}

// What cannot be opened ends the program with status 1.
func TestCannotStart(t *testing.T) {
	s := startSite(t)
	for _, c := range []struct{ args, want string }{
		{"-addr " + s.addr, "address already in use"},
		{"-addr 127.0.0.1:0 -admin " + s.addr, "-admin: "},
		{"-addr 127.0.0.1:0 -admin unix:/nowhere/admin", "-admin: "},
		{"-addr 127.0.0.1:0 -admin= -addr-file /nowhere/addr", "-addr-file: "},
		{"-addr 127.0.0.1:0 -admin= -flags /nowhere/flags", "-flags: "},
		{"-addr 127.0.0.1:0 -admin= -sessions /dev/null/s", "-sessions: "},
		{"-addr 127.0.0.1:0 -admin= -tls-cert /nowhere/c -tls-key /nowhere/k", "/nowhere/c"},
	} {
		code, out := runCommand(t, testutil.Cfg{Dir: t.TempDir()}, build(t, "v1"), strings.Fields(c.args)...)
		if code != 1 || !strings.Contains(out, c.want) {
			t.Errorf("%s: exit code %d, want 1 and %q:\n%s", c.args, code, c.want, out)
		}
	}
}

// The files, the log and the answers agree on who serves where.
func TestIdentity(t *testing.T) {
	s := startSite(t)
	pid := fmt.Sprint(s.mainPID())
	if pid == fmt.Sprint(s.PID()) {
		t.Errorf("%s supervises itself", pid)
	}
	if got := strings.TrimSpace(s.read("pid")); got != pid {
		t.Errorf("the pid file names %s, want %s", got, pid)
	}
	if rest := s.WaitOutput(patience, "msg=serving addr="+s.addr); !strings.Contains(rest, "version=v1") {
		t.Errorf("the log says %q", rest)
	}
	for _, path := range []string{"/", "/version", "/nowhere", "/echo", "/readyz", "/slow?d=x"} {
		h := s.ask("GET", path, "").header
		if h.Get("X-Version") != "v1" || h.Get("X-Generation") != "1" || h.Get("X-Pid") != pid {
			t.Errorf("%s: the headers are %v", path, h)
		}
	}
	if r := s.ask("GET", "/version", ""); r.body != "v1\n1\n"+pid+"\n" {
		t.Errorf("/version: %q", r.body)
	}
	left, err := filepath.Glob(s.file(".*"))
	left = slices.DeleteFunc(left, func(path string) bool { // the second name of the admin socket
		return strings.HasPrefix(filepath.Base(path), ".admin.midair-")
	})
	if err != nil || len(left) > 0 {
		t.Errorf("temporary files are left: %v, %v", left, err)
	}
}

// Each endpoint does what it says, and refuses what makes no sense with a text that says what would.
func TestEndpoints(t *testing.T) {
	s := startSite(t)
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/", "", 200, "kill -HUP"},
		{"POST", "/echo", "hello", 200, "hello"},
		{"POST", "/echo", "", 200, ""},
		{"POST", "/echo", strings.Repeat("x", maxBody+1), 413, "too large"},
		{"GET", "/echo", "", 405, "Not Allowed"},
		{"GET", "/slow?d=1ms", "", 200, "slept 1ms"},
		{"POST", "/slow?d=1ms", "", 200, "slept 1ms"},
		{"GET", "/slow?d=-1s", "", 400, "want a time between 0s and 5m0s"},
		{"GET", "/slow?d=6m", "", 400, `d="6m"`},
		{"GET", "/slow?d=soon", "", 400, `d="soon"`},
		{"GET", "/stream?n=3&every=1ms", "", 200, "1\n2\n3\n"},
		{"GET", "/stream?n=0", "", 400, "want a number between 1 and 100000"},
		{"GET", "/stream?n=x", "", 400, `n="x"`},
		{"GET", "/stream?every=x", "", 400, `every="x"`},
		{"GET", "/count", "", 200, "1\n"},
		{"POST", "/count", "", 200, "1\n"},
		{"GET", "/cart", "", 200, "stable\n"},
		{"GET", "/visitor", "", 200, `"side": "stable"`},
		{"POST", "/visitor", "", 405, "Not Allowed"},
		{"GET", "/flag/cart-v2", "", 200, `"value": 0`},
		{"GET", "/flag/nothing", "", 404, "no such flag"},
		{"GET", "/flag/", "", 404, "not found"},
		{"GET", "/healthz", "", 200, "ok"},
		{"GET", "/readyz", "", 200, "ok"},
		{"GET", "/nowhere", "", 404, "not found"},
	} {
		if r := s.ask(c.method, c.path, c.body); r.status != c.status || !strings.Contains(r.body, c.want) {
			t.Errorf("%s %s: status %d, want %d and %q:\n%.200s", c.method, c.path, r.status, c.status, c.want, r.body)
		}
	}
}

// A stop tells load balancers at once, while it answers what was begun; an upgrade tells them nothing.
func TestReadiness(t *testing.T) {
	s := startSite(t)
	kept := &http.Client{Transport: &http.Transport{}}
	defer kept.CloseIdleConnections()
	ready := func() reply {
		req, err := http.NewRequest("GET", "http://"+s.addr+"/readyz", nil)
		if err != nil {
			t.Fatal(err)
		}
		r, err := send(kept, req)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	first := ready()
	s.post("/upgrade?force=1", 200)
	testutil.Until(t, patience, "the old process passes the connection on", func() bool {
		r := ready()
		if r.status != 200 {
			t.Fatalf("not ready during an upgrade: %+v", r)
		}
		return r.generation() == 2
	})
	if first.status != 200 {
		t.Errorf("%d before the stop", first.status)
	}
	s.post("/drain", 202) // it begins the stop and does not wait until every part has heard of it
	testutil.Until(t, patience, "not ready during the stop", func() bool { return ready().status == 503 })
	s.mustEnd(0)
}

// A stop answers what was begun, removes the pid file, and exits with 0.
func TestStop(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		s := startSite(t)
		resp, err := oneShot().Get("http://" + s.addr + "/stream?n=20&every=10ms")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		lines.Scan()
		s.signal(sig)
		n := 1
		for lines.Scan() {
			n++
		}
		if err := lines.Err(); err != nil || n != 20 {
			t.Errorf("%v: %d lines, %v", sig, n, err)
		}
		s.mustEnd(0)
		if _, err := os.Stat(s.file("pid")); !os.IsNotExist(err) {
			t.Errorf("%v: the pid file is left: %v", sig, err)
		}
	}
}

// A second interrupt does not wait for anybody.
func TestSecondInterrupt(t *testing.T) {
	s := startSite(t)
	resp, err := oneShot().Get("http://" + s.addr + "/stream?n=1000&every=100ms")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	s.signal(syscall.SIGINT)
	s.WaitOutput(patience, "upgrade: stopping")
	s.signal(syscall.SIGINT)
	s.mustEnd(128 + int(syscall.SIGINT))
}

// A request that takes longer than -grace is cut, and the exit status tells.
func TestGrace(t *testing.T) {
	s := startSite(t, "-grace", "100ms")
	resp, err := oneShot().Get("http://" + s.addr + "/stream?n=1000&every=100ms")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	s.signal(syscall.SIGTERM)
	s.mustEnd(1)
	s.WaitOutput(patience, "/stream")
}

// A hangup under load replaces the process, again and again, and nobody notices.
func TestHangupLosesNothing(t *testing.T) {
	s := startSite(t)
	l := s.load()
	s.release()
	for generation := 2; generation <= 4; generation++ {
		pid := s.mainPID()
		s.signal(syscall.SIGHUP)
		testutil.Until(t, patience, "another process serves", func() bool { return s.mainPID() != pid })
		testutil.Until(t, patience, "it answers", func() bool { return s.ask("GET", "/version", "").generation() == generation })
	}
	s.mustLoseNothing(l)
	if r := s.ask("GET", "/version", ""); r.version() != "v2" {
		t.Errorf("%s answers, want v2", r.version())
	}
	s.WaitFamily(t, 1, patience)
	s.signal(syscall.SIGTERM)
	s.mustEnd(0)
}

// A request that is under way during an upgrade ends where it began.
func TestStreamOverUpgrade(t *testing.T) {
	s := startSite(t)
	s.release()
	resp, err := oneShot().Get("http://" + s.addr + "/stream?n=100&every=5ms")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	s.post("/upgrade", 200)
	n := 0
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		n++
	}
	if n != 100 || resp.Header.Get("X-Version") != "v1" {
		t.Errorf("%d lines by %s, want 100 by v1", n, resp.Header.Get("X-Version"))
	}
	if r := s.ask("GET", "/version", ""); r.version() != "v2" || r.generation() != 2 {
		t.Errorf("generation %d of %s answers", r.generation(), r.version())
	}
	s.WaitFamily(t, 1, patience)
}

// The page names the process that made it, and its commands work as they are.
func TestPage(t *testing.T) {
	s := startSite(t)
	r := s.ask("GET", "/", "")
	for _, want := range []string{
		fmt.Sprintf("kill -HUP <span data-pid>%d</span>", s.mainPID()),
		"curl --unix-socket " + s.file("admin") + " http://admin/upgrade -X POST",
		s.file("current") + " demo",
		`/"defaultVariant": "25%"/' ` + s.file("flags.json"),
	} {
		if !strings.Contains(r.body, want) {
			t.Errorf("the page does not have %q", want)
		}
	}
	if csp := r.header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") {
		t.Errorf("the page may load anything: %q", csp)
	}
	for _, outside := range []string{"src=\"http", "href=\"http", "@import", "url("} {
		if strings.Contains(r.body, outside) {
			t.Errorf("the page is not self-contained: %q", outside)
		}
	}
}
