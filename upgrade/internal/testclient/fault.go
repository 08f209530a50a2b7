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

// Fault is a planned failure of a process at a step.
type Fault struct {
	Env   string // the variable of the environment with the fault, for Start
	once  string // the file that the process creates when it fails
	kills bool   // the process ends at once
}

// FaultAt makes the first process that comes to the step fail there. Later processes do not fail. The first generation does
// not fail at a step of a commit, although its start has these steps too.
func FaultAt(t *testing.T, step, action string) Fault {
	once, kills := filepath.Join(openDir(t), "once"), action == "kill"
	if step == "new.commit" || step == "new.ready" || step == "new.write" || step == "new.announced" {
		action += "@2"
	}
	return Fault{testutil.FaultEnv(testutil.FaultSpec(step, action, once)), once, kills}
}

// openDir returns a directory in which a service of another user may write.
func openDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o777)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Held waits until a process has come to the step of a fault with the action hold, and is held there.
func (f Fault) Held(r *Service) {
	r.t.Helper()
	testutil.Until(r.t, Patience, "a process is held", func() bool { return r.Faulted() != 0 })
}

// GoOn makes the process that is held go on.
func (f Fault) GoOn(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(f.once+testutil.GoOnSuffix, nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// FaultLater makes the first process fail that comes to the step after the function begin was called.
func FaultLater(t *testing.T, step, action string) (f Fault, begin func()) {
	dir := openDir(t)
	once, when := filepath.Join(dir, "once"), filepath.Join(dir, "now")
	begin = func() {
		if err := os.WriteFile(when, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Fault{testutil.FaultEnv(testutil.FaultSpec(step, action+"@"+when, once)), once, action == "kill"}, begin
}

// Time returns when the process has failed; zero before the failure.
func (f Fault) Time() time.Time {
	info, err := os.Stat(f.once)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}
