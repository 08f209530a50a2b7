package main

import (
	"context"
	"encoding/json"
	"io/fs"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/midair-go/midair/examples/internal/admin"
	"github.com/midair-go/midair/internal/testutil"
)

// POST /upgrade waits for the end and says 200; the next request reaches the new process.
func TestUpgradeCommitted(t *testing.T) {
	s := startSite(t)
	s.release()
	if a := s.post("/upgrade", 200); a.Phase != "commit" || a.Reason != "" || a.Outcome == nil || a.Outcome.Version != "v2" {
		t.Errorf("the answer is %+v", a)
	}
	st := s.status()
	if st.Upgrade.Generation != 2 || st.Upgrade.Version != "v2" || st.Upgrade.State != "serving" || st.Upgrade.PID != s.mainPID() {
		t.Errorf("status: %+v", st.Upgrade)
	}
	if st.Drain.Phase != "serving" {
		t.Errorf("the new process drains: %+v", st.Drain)
	}
}

// A second upgrade at the same time is a conflict, and an abort ends the first with the reason.
func TestUpgradeInProgressAndAborted(t *testing.T) {
	s := startSite(t)
	s.releaseBad("hang")
	first := s.later(context.Background(), "/upgrade")
	s.untilPhase("start")
	if a := s.post("/upgrade", 409); !strings.Contains(a.Reason, "already in progress") {
		t.Errorf("the conflict says %+v", a)
	}
	if a := s.post("/commit", 422); !strings.Contains(a.Reason, "not prepared") {
		t.Errorf("the early commit says %+v", a)
	}
	s.post("/abort", 200)
	if a := s.decoded(<-first, 500); a.Phase != "start" || !strings.Contains(a.Reason, "asked for over the admin interface") {
		t.Errorf("the aborted upgrade says %+v", a)
	}
	if last := s.status().Upgrade.Last; last == nil || last.Committed || last.Phase != "start" {
		t.Errorf("status: the last outcome is %+v", last)
	}
	s.WaitFamily(t, 1, patience)
}

// What cannot even be started is refused, and so are a commit and an abort of nothing.
func TestUpgradeRefused(t *testing.T) {
	s := startSite(t)
	s.linkTo(s.file("nothing"))
	if a := s.post("/upgrade", 422); a.Phase != "start" || !strings.Contains(a.Reason, "no such file") {
		t.Errorf("a missing executable: %+v", a)
	}
	s.linkTo(s.file("pid"))
	if a := s.post("/upgrade", 422); a.Phase != "start" || !strings.Contains(a.Reason, "not executable") {
		t.Errorf("a file that is no executable: %+v", a)
	}
	s.linkTo(build(t, "v1"))
	if a := s.post("/upgrade", 422); a.Phase != "start" || !strings.Contains(a.Reason, "the build that is running") {
		t.Errorf("the same build: %+v", a)
	}
	if a := s.post("/rollback", 422); !strings.Contains(a.Reason, "no earlier build") {
		t.Errorf("a rollback of the first: %+v", a)
	}
	for _, path := range []string{"/commit", "/abort"} {
		if a := s.post(path, 422); !strings.Contains(a.Reason, "no upgrade is in progress") {
			t.Errorf("%s: %+v", path, a)
		}
	}
}

// A commit by hand ends the soak.
func TestCommitByHand(t *testing.T) {
	s := startSite(t, "-soak", "1h")
	s.release()
	first := s.later(context.Background(), "/upgrade")
	s.untilPhase("soak")
	s.post("/commit", 200)
	s.decoded(<-first, 200)
	if g := s.status().Upgrade.Generation; g != 2 {
		t.Errorf("generation %d serves, want 2", g)
	}
}

// A rehearsal says what an upgrade would end with, and changes nothing; a rollback goes back to the version before.
func TestRehearsalAndRollback(t *testing.T) {
	s := startSite(t)
	l := s.load()
	s.releaseBad("check")
	if a := s.post("/upgrade?rehearse=1", 500); a.Phase != "check" || !strings.Contains(a.Reason, "self-test") {
		t.Errorf("rehearsal of a bad release: %+v", a)
	}
	s.release()
	if a := s.post("/upgrade?rehearse=1", 200); a.Phase != "smoke" || a.Outcome == nil || a.Outcome.Committed {
		t.Errorf("rehearsal: %+v", a)
	}
	if st := s.status().Upgrade; st.Generation != 1 || st.PID != s.mainPID() {
		t.Errorf("after the rehearsals: %+v", st)
	}
	s.post("/upgrade", 200)
	if p := s.status().Upgrade.Previous; p == nil || p.Version != "v1" {
		t.Errorf("the previous build is %+v", p)
	}
	s.linkTo(s.file("nothing"))
	s.post("/rollback", 200)
	if r := s.ask("GET", "/version", ""); r.version() != "v1" || r.generation() != 3 {
		t.Errorf("generation %d of %s answers", r.generation(), r.version())
	}
	s.mustLoseNothing(l)
}

// Whoever asked for an upgrade may go away: it goes on.
func TestUpgradeOutlivesItsClient(t *testing.T) {
	s := startSite(t, "-soak", "1h")
	s.release()
	ctx, hangUp := context.WithCancel(context.Background())
	first := s.later(ctx, "/upgrade")
	s.untilPhase("soak")
	hangUp()
	<-first
	if c := s.status().Upgrade.Candidate; c == nil || c.Phase != "soak" {
		t.Errorf("the candidate is %+v, want one in its soak", c)
	}
	s.post("/commit", 200)
	testutil.Until(t, patience, "v2 serves", func() bool { return s.ask("GET", "/version", "").version() == "v2" })
}

// POST /drain stops the service. The admin listener stays to the end, so that the drain can be watched.
func TestDrain(t *testing.T) {
	s := startSite(t)
	resp, err := oneShot().Get("http://" + s.addr + "/stream?n=1000&every=10ms")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	s.post("/drain", 202)
	testutil.Until(t, patience, "the drain is seen", func() bool {
		st := s.status()
		return st.Upgrade.State == "stopping" && st.Drain.Phase == "draining" && st.Drain.Active == 1
	})
	if a := s.post("/upgrade", 422); !strings.Contains(a.Reason, "closed") {
		t.Errorf("an upgrade of a service that stops: %+v", a)
	}
	resp.Body.Close()
	s.mustEnd(0)
}

// The status is JSON with a part for each package.
func TestStatus(t *testing.T) {
	s := startSite(t)
	r, err := s.operate(context.Background(), "GET", "/status")
	var parts map[string]map[string]any
	if err == nil {
		err = json.Unmarshal([]byte(r.body), &parts)
	}
	if err != nil || parts["upgrade"]["state"] != "serving" || parts["drain"]["phase"] != "serving" {
		t.Errorf("%v: %s", err, r.body)
	}
	if r.version() != "v1" || r.header.Get("Content-Type") != "application/json" {
		t.Errorf("the headers are %v", r.header)
	}
	if r, err = s.operate(context.Background(), "GET", "/"); err != nil || !strings.Contains(r.body, "GET /status") {
		t.Errorf("the page: %v: %.100s", err, r.body)
	}
}

// GET changes nothing, and web pages of other origins are kept out.
func TestAdminRefuses(t *testing.T) {
	s := startSite(t)
	header := func(key, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(key, value) }
	}
	for _, c := range []struct {
		method, path string
		change       func(*http.Request)
		status       int
	}{
		{"GET", "/upgrade", header("A", ""), 405},
		{"GET", "/commit", header("A", ""), 405},
		{"GET", "/abort", header("A", ""), 405},
		{"HEAD", "/drain", header("A", ""), 405},
		{"POST", "/status", header("A", ""), 405},
		{"POST", "/drain", header("Origin", "http://elsewhere.example"), 403},
		{"POST", "/drain", header("Sec-Fetch-Site", "cross-site"), 403},
		{"POST", "/commit", header("Sec-Fetch-Site", "same-origin"), 422},
		{"POST", "/commit", func(r *http.Request) { r.Host = "anything.example" }, 422},
	} {
		r, err := s.operate(context.Background(), c.method, c.path, c.change)
		if err != nil || r.status != c.status {
			t.Errorf("%s %s: status %d, %v, want %d: %s", c.method, c.path, r.status, err, c.status, r.body)
		}
	}
	if st := s.status(); st.Upgrade.Generation != 1 || st.Upgrade.State != "serving" {
		t.Errorf("something has changed: %+v", st.Upgrade)
	}
}

// The admin listener can be a TCP port as well, and can be turned off.
func TestAdminAddress(t *testing.T) {
	s := startSite(t, "-admin", "127.0.0.1:0")
	addr := s.WaitOutput(patience, "msg=admin addr=")
	var status siteView
	err := admin.NewClient(addr).Status(t.Context(), &status)
	if err != nil || status.Upgrade.PID != s.mainPID() {
		t.Errorf("%+v, %v", status, err)
	}
	s = startSite(t, "-admin=")
	if out := s.Output(); strings.Contains(out, "msg=admin") {
		t.Errorf("there is an admin listener:\n%s", out)
	}
	if strings.Contains(s.ask("GET", "/", "").body, "/upgrade -X POST") {
		t.Error("the page offers an admin listener that does not exist")
	}
	s.release()
	s.signal(syscall.SIGHUP)
	testutil.Until(t, patience, "v2 serves", func() bool { return s.ask("GET", "/version", "").version() == "v2" })
}

// The unix socket is for this user alone, survives upgrades, goes with the service, and one that was left behind is
// replaced.
func TestAdminSocket(t *testing.T) {
	s := startSite(t)
	mode := func() fs.FileMode {
		info, err := os.Stat(s.file("admin"))
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode()
	}
	if m := mode(); m != fs.ModeSocket|0o600 {
		t.Errorf("the mode is %v", m)
	}
	s.post("/upgrade?force=1", 200)
	if m := mode(); m != fs.ModeSocket|0o600 {
		t.Errorf("after an upgrade the mode is %v", m)
	}
	s.post("/drain", 202)
	s.mustEnd(0)
	if _, err := os.Stat(s.file("admin")); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: s.file("admin"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	ln.Close()
	p := testutil.StartCommand(t, testutil.Cfg{Dir: s.dir}, build(t, "v1"), "-addr=127.0.0.1:0", "-admin=unix:admin")
	p.WaitOutput(patience, "upgrade: serving")
	if st := s.status(); !slices.Contains(p.Family(), st.Upgrade.PID) {
		t.Errorf("status: %+v", st.Upgrade)
	}
}
