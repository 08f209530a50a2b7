package testutil_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
)

// startFault runs a role that passes the points before, here and after with the given faults.
func startFault(t *testing.T, specs ...string) *testutil.Proc {
	t.Helper()
	return testutil.Start(t, "fault", testutil.Cfg{
		Args: []string{"before", "here", "after"},
		Env:  []string{testutil.FaultEnv(specs...)},
	})
}

// A fault ends the process at its point, in its way, and says so first.
func TestFaultEndsProcessAtPoint(t *testing.T) {
	for _, tt := range []struct {
		action string
		code   int
	}{{"kill", 128 + 9}, {"exit:5", 5}, {"exit:0", 0}, {"panic", 2}} {
		t.Run(tt.action, func(t *testing.T) {
			p := startFault(t, testutil.FaultSpec("other", "kill", ""), testutil.FaultSpec("here", tt.action, ""))
			if code, err := p.Wait(patience); code != tt.code || err != nil {
				t.Errorf("exit code %d, %v, want %d", code, err, tt.code)
			}
			want := fmt.Sprintf("passed before\nfault here %s %d\n", tt.action, p.PID())
			if !strings.HasPrefix(p.Output(), want) {
				t.Errorf("output %q, want %q", p.Output(), want)
			}
		})
	}
}

// A process that hangs at a point stays there and can be killed.
func TestFaultHangs(t *testing.T) {
	p := startFault(t, testutil.FaultSpec("here", "hang", ""))
	p.WaitOutput(patience, "fault here hang ")
	p.Kill()
	if out := p.Output(); strings.Contains(out, "passed here") {
		t.Errorf("output %q, want nothing after the hang", out)
	}
}

// A process that is held at a point goes on when it may.
func TestFaultHoldsUntilItMayGoOn(t *testing.T) {
	once := filepath.Join(t.TempDir(), "once")
	p := startFault(t, testutil.FaultSpec("here", "hold", once))
	p.WaitOutput(patience, "fault here hold ")
	if out := p.Output(); strings.Contains(out, "passed here") {
		t.Errorf("output %q, want nothing after the hold", out)
	}
	if err := os.WriteFile(once+testutil.GoOnSuffix, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, err := p.Wait(patience); code != 0 || err != nil {
		t.Errorf("exit code %d, %v, want 0", code, err)
	}
	p.WaitOutput(patience, "passed after")
}

// A fault with conditions acts only where they hold.
func TestFaultHasConditions(t *testing.T) {
	there := filepath.Join(t.TempDir(), "there")
	if err := os.WriteFile(there, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, action string
		code         int
	}{
		{"generation", "exit:5@2", 5},
		{"other generation", "exit:5@3", 0},
		{"file", "exit:5@" + there, 5},
		{"missing file", "exit:5@" + there + ".not", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := startFault(t, testutil.FaultSpec("here", tt.action, ""))
			if code, err := p.Wait(patience); code != tt.code || err != nil {
				t.Errorf("exit code %d, %v, want %d", code, err, tt.code)
			}
		})
	}
}

// A fault with a file to create acts once, in the first process that reaches it.
func TestFaultActsOnce(t *testing.T) {
	once := filepath.Join(t.TempDir(), "once")
	for i, want := range []int{5, 0, 0} {
		p := startFault(t, testutil.FaultSpec("here", "exit:5", once))
		if code, err := p.Wait(patience); code != want || err != nil {
			t.Errorf("process %d: exit code %d, %v, want %d", i, code, err, want)
		}
	}
}

// A fault that cannot be understood is never taken for none.
func TestFaultRefusesNonsense(t *testing.T) {
	for _, spec := range []string{"here", "here=", "=kill", "here=explode", "here=exit:x", "here=kill@", "here=hold"} {
		if _, err := testutil.ParseFaults(spec); err == nil {
			t.Errorf("%q is understood", spec)
		}
	}
	p := startFault(t, "here=explode")
	if code, err := p.Wait(patience); code != 2 || err != nil {
		t.Errorf("exit code %d, %v, want 2", code, err)
	}
}
