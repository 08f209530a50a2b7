package main

import (
	"os"
	"strings"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
)

// deploy calls the upgrade subcommand in the service's directory.
func (s *site) deploy(args ...string) (int, string) {
	s.t.Helper()
	return runCommand(s.t, testutil.Cfg{Dir: s.dir}, build(s.t, "v1"), append([]string{"upgrade"}, args...)...)
}

// A deploy script learns of a success by the exit status 0.
func TestUpgradeCommand(t *testing.T) {
	for args, want := range map[string]string{
		"-admin unix:admin":                 "upgraded: v1 -> v2, generation 1 -> 2, pid ",
		"-pid-file pid":                     "upgraded: v1 -> v2, generation 1 -> 2, pid ",
		"-pid-file pid -json":               `"committed":true`,
		"-admin unix:admin -json":           `"kind":"upgrade"`,
		"-pid-file wrong -admin unix:admin": "generation 1 -> 2",
	} {
		s := startSite(t)
		s.release()
		if code, out := s.deploy(strings.Fields(args)...); code != 0 || !strings.Contains(out, want) {
			t.Errorf("%s: exit code %d: %s", args, code, out)
		}
		if r := s.ask("GET", "/version", ""); r.version() != "v2" {
			t.Errorf("%s: %s answers", args, r.version())
		}
	}
}

// And of a failure by the exit status 1 and a reason.
func TestUpgradeCommandFails(t *testing.T) {
	s := startSite(t)
	s.releaseBad("check")
	for args, want := range map[string]string{
		"-admin unix:admin":           "not upgraded: phase check: check \"self-test\": this release is bad",
		"-pid-file pid":               "not upgraded: upgrade: check: candidate pid ",
		"-pid-file pid -json":         `"phase":"check"`,
		"-admin unix:admin -rehearse": "self-test",
		"-admin unix:admin -rollback": "no earlier build",
		"-pid-file wrong":             "there is no pid file wrong",
		"-admin unix:wrong":           "no such file",
		"-admin " + s.addr:            "404 Not Found",
	} {
		var code int
		var out string
		// The file has the outcome of an upgrade a moment before the process takes the next request.
		testutil.Until(t, patience, "the upgrade before has ended", func() bool {
			code, out = s.deploy(strings.Fields(args)...)
			return !strings.Contains(out, "already in progress")
		})
		if code != 1 || !strings.Contains(out, want) {
			t.Errorf("%s: exit code %d: %s", args, code, out)
		}
	}
	for content, want := range map[string]string{"": "is no pid", "x\n": "is no pid", "1\n": "is no pid", "-5": "is no pid", "2147483646": "pid 2147483646 of odd"} {
		if err := os.WriteFile(s.file("odd"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if code, out := s.deploy("-pid-file", "odd"); code != 1 || !strings.Contains(out, want) {
			t.Errorf("a pid file of %q: exit code %d: %s", content, code, out)
		}
	}
	if r := s.ask("GET", "/version", ""); r.version() != "v1" {
		t.Errorf("%s answers", r.version())
	}
}

// A rehearsal and a rollback can be scripted too, and the same build needs to be forced.
func TestUpgradeCommandOtherThanUpgrade(t *testing.T) {
	s := startSite(t)
	s.release()
	for _, c := range []struct {
		args, want string
		code       int
	}{
		{"-rehearse", "rehearsed: v1 -> v2, generation 1 -> 2", 0},
		{"", "upgraded: v1 -> v2, generation 1 -> 2", 0},
		{"", "the build that is running", 1},
		{"-force", "upgraded: v2 -> v2, generation 2 -> 3", 0},
		{"-rollback", "upgraded: v2 -> v1, generation 3 -> 4", 0},
	} {
		code, out := s.deploy(append(strings.Fields(c.args), "-admin", "unix:admin")...)
		if code != c.code || !strings.Contains(out, c.want) {
			t.Errorf("%s: exit code %d: %s", c.args, code, out)
		}
	}
}

// One that takes too long goes on, and the command says so.
func TestUpgradeCommandDoesNotWaitForEver(t *testing.T) {
	s := startSite(t, "-soak", "1h")
	s.release()
	code, out := s.deploy("-admin", "unix:admin", "-timeout", "300ms")
	if code != 1 || !strings.Contains(out, "no outcome yet, and the upgrade goes on") {
		t.Errorf("exit code %d: %s", code, out)
	}
	s.untilPhase("soak")
	s.post("/commit", 200)
	testutil.Until(t, patience, "v2 serves", func() bool { return s.ask("GET", "/version", "").version() == "v2" })
}

// A service that stops instead of upgrading is no success.
func TestUpgradeCommandOfAServiceThatStops(t *testing.T) {
	s := startSite(t, "-soak", "1h")
	s.release()
	p := testutil.StartCommand(t, testutil.Cfg{Dir: s.dir}, build(t, "v1"), "upgrade", "-pid-file", "pid")
	s.untilPhase("soak")
	s.post("/drain", 202)
	code, err := p.Wait(patience)
	if out := p.Output(); err != nil || code != 1 || !strings.Contains(out, "not upgraded") {
		t.Errorf("exit code %d, %v: %s", code, err, out)
	}
	s.mustEnd(0)
}
