//go:build linux

package testclient

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// Fault is a failure of a process at a step.
type Fault struct {
	Env  string // for Start
	once string
}

// FaultAt makes the first process at the step fail there; the next processes are spared. The first generation's start has
// the steps of a commit too, and is spared.
func FaultAt(t *testing.T, step, action string) Fault {
	once := filepath.Join(openDir(t), "once")
	if step == "new.commit" || step == "new.ready" || step == "new.write" || step == "new.announced" {
		action += "@2"
	}
	return Fault{testutil.FaultEnv(testutil.FaultSpec(step, action, once)), once}
}

// openDir returns a directory where a service of another user may write.
func openDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o777)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Held waits until a process is held at the step of a fault with the action hold.
func (f Fault) Held(r *Service) {
	r.t.Helper()
	testutil.Until(r.t, Patience, "a process is held", func() bool { return r.Faulted() != 0 })
}

// GoOn lets the process that is held go on.
func (f Fault) GoOn(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(f.once+testutil.GoOnSuffix, nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// FaultLater is FaultAt for the processes at the step after a call of begin.
func FaultLater(t *testing.T, step, action string) (f Fault, begin func()) {
	dir := openDir(t)
	once, when := filepath.Join(dir, "once"), filepath.Join(dir, "now")
	begin = func() {
		if err := os.WriteFile(when, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Fault{testutil.FaultEnv(testutil.FaultSpec(step, action+"@"+when, once)), once}, begin
}

// Time is when the process failed, zero before the failure.
func (f Fault) Time() time.Time {
	info, err := os.Stat(f.once)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}
