//go:build linux

package upgrade_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// judged has settings of services with a judge, by the name of the option.
var judged = map[string]func(*plan.Settings){
	"Options.Verify": func(s *plan.Settings) { s.Verify = plan.VerifyPasses },
	"Options.Smoke":  func(s *plan.Settings) { s.Smoke = plan.SmokePasses },
	"Options.Bake":   func(s *plan.Settings) { s.Bake = plan.BakePasses },
}

// A candidate without the control protocol cannot avoid a judge. When it reports that it is ready, it is refused, and the error
// names the judge. It is ended although it ignores SIGTERM and has left its process group. The old process serves on, and
// upgrades to the next build, which the judge accepts.
func TestPlainCandidateGoesPastNoJudge(t *testing.T) {
	t.Parallel()
	for option, judge := range judged {
		t.Run(option, func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, func(s *plan.Settings) { judge(s); wrappers(s); s.AbortGrace, s.Bad = time.Second, plan.OnlyReady })
			r.LinkTo(testclient.Unmarked(t))
			l := r.Load(smallLoad)
			a := r.MustFail("start", "does not speak the control protocol: it knows tableflip only, and is out of the reach of "+option+": use a build with this library, or set Options.AllowPlain")
			if a.PID == 0 || !testclient.Gone(a.PID) {
				t.Errorf("pid %d was not started, or lives on", a.PID)
			}
			r.Change(func(s *plan.Settings) { s.Bad = "" })
			r.Upgrade()
			r.WaitFamily(t, 1, patience)
			r.Account(l).MustBeClean(t)
		})
	}
}

// The same test with the example of tableflip's documentation, for a SIGHUP and for Restart.
func TestTableflipGoesPastNoJudge(t *testing.T) {
	t.Parallel()
	for option, judge := range judged {
		t.Run(option, func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, func(s *plan.Settings) { judge(s); wrappers(s) })
			pid := r.MainPID()
			r.Flip(true)
			r.SignalMain(syscall.SIGHUP)
			testutil.Until(t, patience, "the upgrade has failed", func() bool {
				return strings.Contains(r.Output(), "failed, this process serves on")
			})
			r.MustSay("out of the reach of " + option)
			r.WaitFamily(t, 1, patience)
			testutil.Until(t, patience, "the pid file is as before", func() bool { return r.MainPID() == pid })
			l := r.Load(smallLoad)
			r.Flip(false)
			r.SignalMain(syscall.SIGHUP) // tableflip has removed the path of the admin socket
			testutil.Until(t, patience, "the next generation answers", func() bool { return l.Seen("g2") })
			r.Account(l).MustBeClean(t)
		})
	}
}

// With AllowPlain a program with tableflip only takes over without being judged, and the log reports this.
func TestAllowPlainLetsTableflipTakeOver(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) {
		anyFile(s)
		s.Verify, s.Smoke, s.Bake = plan.VerifyPasses, plan.SmokeFails, plan.BakeFails
	})
	l := r.Load(smallLoad)
	r.Flip(true)
	r.Upgrade()
	testutil.Until(t, patience, "tableflip answers", func() bool { return l.Seen("plain") })
	r.MustSay("it is not judged")
	r.WaitFamily(t, 1, patience)
	r.Account(l).MustBeClean(t)
}

// AllowPlain has no effect on a candidate with the control protocol: it is judged.
func TestAllowPlainSparesNobodyElse(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.AllowPlain, s.Smoke = true, plan.SmokeFails })
	r.MustFail("smoke", "the smoke test finds fault")
}

// A program whose build information shows that it uses tableflip only is refused before its start. This holds for an upgrade, a
// restart and a rehearsal, with and without a judge. With AllowPlain the program is accepted, and it does not need
// AllowWrapper.
func TestTableflipIsRefusedByItsFile(t *testing.T) {
	t.Parallel()
	flip := buildTableflip(t)
	for _, c := range []struct {
		name, path, reason string
		change             func(*plan.Settings)
	}{
		{"upgrade", "/upgrade-to-the-file", "which knows tableflip only, and is out of the reach of Options.Smoke: ", judged["Options.Smoke"]},
		{"restart", "/upgrade", "which knows tableflip only, and is out of the reach of Options.Bake: ", judged["Options.Bake"]},
		{"rehearsal", "/rehearse", "which knows tableflip only, and cannot be rehearsed", nil},
		{"allowed", "/upgrade", "exit status 3", func(s *plan.Settings) { s.Smoke, s.AllowPlain = plan.SmokePasses, true }},
		{"no judge", "/upgrade", "which knows tableflip only, and accepts before it is committed: ", nil},
		{"wrappers allowed", "/upgrade", "which knows tableflip only, and accepts before it is committed: ", wrappers},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, c.change)
			r.LinkTo(flip)
			a := r.Ask("POST", c.path)
			if a.Committed || a.Phase != "start" || !strings.Contains(a.Reason, c.reason) {
				t.Errorf("upgrade: %+v", a)
			}
			if started := a.PID != 0; started != (c.reason == "exit status 3") {
				t.Errorf("started %v: %s", started, a.Reason)
			}
			r.LinkTo(testclient.Binary(t))
			r.Upgrade()
		})
	}
}

// buildTableflip builds a program of a module of its own, which uses tableflip and not this library, and exits with status 3.
func buildTableflip(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	sums, err := os.ReadFile("../go.sum")
	if err != nil {
		t.Fatal(err)
	}
	version, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", "github.com/cloudflare/tableflip").Output()
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"go.mod":  "module example.com/flip\n\ngo 1.26\n\nrequire github.com/cloudflare/tableflip " + string(version),
		"go.sum":  string(sums),
		"main.go": "package main\n\nimport (\n\t\"os\"\n\n\t\"github.com/cloudflare/tableflip\"\n)\n\nfunc main() {\n\t_, _ = tableflip.New(tableflip.Options{})\n\tos.Exit(3)\n}\n",
	} {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	cmd := exec.Command("go", "build", "-o", "flip", ".")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOWORK=off")
	if out, err2 := cmd.CombinedOutput(); err != nil || err2 != nil {
		t.Fatalf("build: %v, %v\n%s", err, err2, out)
	}
	return filepath.Join(dir, "flip")
}
