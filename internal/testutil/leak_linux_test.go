package testutil_test

import (
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
)

// leakEnv makes TestLeaksOnPurpose leak.
const leakEnv = "LEAK"

// A goroutine, a descriptor or a child that is left after the tests fails the run, and the message shows it.
func TestMainFailsOnLeak(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for kind, want := range map[string]string{
		"goroutine": "leakGoroutine",
		"fd":        "/dev/zero",
		"child":     "sleep 1000",
	} {
		t.Run(kind, func(t *testing.T) {
			cfg := testutil.Cfg{Env: []string{leakEnv + "=" + kind, "MIDAIR_TEST_SETTLE=100ms"}}
			p := testutil.StartCommand(t, cfg, self, "-test.run=^TestLeaksOnPurpose$")
			if code, err := p.Wait(patience); code != 1 || err != nil {
				t.Errorf("exit code %d, %v, want 1", code, err)
			}
			if out := p.Output(); !strings.Contains(out, "testutil: leaked") || !strings.Contains(out, want) {
				t.Errorf("output %q does not show %q", out, want)
			}
		})
	}
}

// A run that leaves nothing passes, with idle connections of the default client, a signal handler and a process used.
func TestMainPassesWithoutLeak(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := testutil.StartCommand(t, testutil.Cfg{Env: []string{leakEnv + "=none"}}, self, "-test.run=^TestLeaksOnPurpose$")
	if code, err := p.Wait(patience); code != 0 || err != nil {
		t.Errorf("exit code %d, %v, want 0\n%s", code, err, p.Output())
	}
}

// TestLeaksOnPurpose is the other process of the tests above.
func TestLeaksOnPurpose(t *testing.T) {
	switch os.Getenv(leakEnv) {
	case "goroutine":
		go leakGoroutine(make(chan int))
	case "fd":
		if f, err := os.Open("/dev/zero"); err == nil {
			leakedFile = f
		}
	case "child":
		if err := exec.Command("sleep", "1000").Start(); err != nil {
			t.Fatal(err)
		}
	case "none":
		leakNothing(t)
	default:
		t.Skip("runs in a process of its own")
	}
}

var leakedFile *os.File

func leakGoroutine(c chan int) { <-c }

func leakNothing(t *testing.T) {
	addr := newServer(t, func(http.ResponseWriter, *http.Request) {})
	resp, err := http.Get("http://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	testutil.Start(t, "idle", testutil.Cfg{}).WaitOutput(patience, "ready")
}

// A role can tell its own counts.
func TestRoleKnowsItsCounts(t *testing.T) {
	p := testutil.Start(t, "counts", testutil.Cfg{})
	if _, err := p.Wait(patience); err != nil {
		t.Fatal(err)
	}
	out := p.Output()
	for _, want := range []string{"fd 0 /dev/null\n", "/output\n", " 0\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("counts %q, want %q", out, want)
		}
	}
}

// Counts sees goroutines, descriptors and a child come and go.
func TestCountsFollow(t *testing.T) {
	const many = 50 // more than earlier tests may still be ending
	g0, f0, c0 := testutil.Counts()
	c := make(chan int)
	var files []*os.File
	for range many {
		go leakGoroutine(c)
		f, err := os.Open("/dev/zero")
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if g, f, c := testutil.Counts(); g < g0+many/2 || f < f0+many/2 || c != c0+1 {
		t.Errorf("counts %d %d %d after %d %d %d", g, f, c, g0, f0, c0)
	}
	close(c)
	for _, f := range files {
		f.Close()
	}
	cmd.Process.Kill()
	cmd.Wait()
	testutil.Until(t, patience, "the counts to fall", func() bool {
		g, f, c := testutil.Counts()
		return g < g0+many/2 && f < f0+many/2 && c == c0
	})
}

// A role that no test starts is named.
func TestUnusedRoleIsNamed(t *testing.T) {
	left := testutil.NeverStarted(map[string]func() int{"nobody plays this": nil})
	if len(left) != 1 || !strings.Contains(left[0], "nobody plays this") {
		t.Errorf("never started: %q", left)
	}
}

// A role that does not exist ends with a message.
func TestUnknownRoleSaysSo(t *testing.T) {
	p := testutil.Start(t, "no such role", testutil.Cfg{})
	if code, err := p.Wait(patience); code != 2 || err != nil {
		t.Errorf("exit code %d, %v, want 2", code, err)
	}
	p.WaitOutput(patience, `no role "no such role"`)
}
