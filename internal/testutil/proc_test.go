package testutil_test

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// A role gets arguments, environment and directory, and its exit code and both outputs come back.
func TestRoleGetsConfigurationAndReturnsExitCode(t *testing.T) {
	dir := t.TempDir()
	p := testutil.Start(t, "exit", testutil.Cfg{Args: []string{"a", "b c"}, Env: []string{"EXTRA=more"}, Dir: dir})
	code, err := p.Wait(patience)
	if code != 7 || err != nil {
		t.Errorf("exit code %d, %v, want 7", code, err)
	}
	for _, want := range []string{"args [a b c] dir " + dir + " <nil> extra more", "to stderr"} {
		if !strings.Contains(p.Output(), want) {
			t.Errorf("output %q, want %q", p.Output(), want)
		}
	}
}

// A process can be signalled, and waiting for one that runs ends with an error that says so.
func TestSignalReachesProcess(t *testing.T) {
	p := testutil.Start(t, "idle", testutil.Cfg{})
	p.WaitOutput(patience, "ready")
	if _, err := p.Wait(time.Millisecond); !errors.Is(err, testutil.ErrStillRunning) {
		t.Errorf("wait for a running process: %v", err)
	}
	p.Signal(syscall.SIGTERM)
	if code, err := p.Wait(patience); code != 0 || err != nil {
		t.Errorf("exit code %d, %v, want 0", code, err)
	}
}

// The exit code of a killed process names the signal, as in a shell.
func TestKilledProcessReportsSignal(t *testing.T) {
	p := testutil.Start(t, "idle", testutil.Cfg{})
	p.Kill()
	p.Kill()
	if code, err := p.Wait(patience); code != 128+9 || err != nil {
		t.Errorf("exit code %d, %v, want 137", code, err)
	}
}

// Programs other than the test binary run the same way.
func TestCommandRunsWithArguments(t *testing.T) {
	p := testutil.StartCommand(t, testutil.Cfg{Args: []string{"-c"}}, "/bin/sh", "echo from $0; exit 3", "shell")
	if rest := p.WaitOutput(patience, "from "); rest != "shell" {
		t.Errorf("output after marker %q, want shell", rest)
	}
	if code, err := p.Wait(patience); code != 3 || err != nil {
		t.Errorf("exit code %d, %v, want 3", code, err)
	}
}
