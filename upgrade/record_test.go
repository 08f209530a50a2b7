//go:build unix

package upgrade

import (
	"path/filepath"
	"testing"

	"github.com/midair-go/midair/internal/sys"
)

// If the new process has already written the outcome, the old process releases its reserved room on the disk at once, and not
// only after its drain.
func TestRecordedOutcomeNeedsNoRoom(t *testing.T) {
	dir := t.TempDir()
	u, err := NewUnsupported(Options{PIDFile: filepath.Join(dir, "pid")})
	if err != nil {
		t.Fatal(err)
	}
	out := Outcome{Begun: sys.Uptime(), Committed: true, Generation: 2}
	u.estate.recordOutcome(out)
	u.estate.reserveOutcome()
	out.Generation = 3
	u.estate.recordOutcome(out)
	if last, err := readOutcome(u.estate.pid.ReadLast()); err != nil || last.Generation != 2 {
		t.Errorf("%+v, %v", last, err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
