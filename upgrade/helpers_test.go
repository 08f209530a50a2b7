//go:build linux

package upgrade_test

import (
	"os"
	"path/filepath"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

const patience = testclient.Patience

// smallLoad has enough clients that there are connections in every state at any moment.
var smallLoad = testutil.LoadOptions{KeepAlive: 6, New: 3, SlowEvery: 20}

// Changes of the settings that many tests make.

// long makes a soak that lasts until a commit or an abort.
func long(s *plan.Settings) { s.Soak = time.Minute }

// staying does the same as long, and connections do not move.
func staying(s *plan.Settings) { s.Soak, s.NoMove = time.Minute, true }

// impatient sets a short Timeout, so that a candidate that hangs fails soon.
func impatient(s *plan.Settings) { s.Timeout = 4 * time.Second }

// anyFile allows files without the mark of this library, and programs with tableflip only.
func anyFile(s *plan.Settings) { s.AllowPlain, s.AllowWrapper = true, true }

// wrappers lets scripts be started.
func wrappers(s *plan.Settings) { s.AllowWrapper = true }

// always makes the service start its own supervisor.
func always(s *plan.Settings) { s.Supervisor = "always" }

// onPath makes the service listen on a unix socket.
func onPath(s *plan.Settings) {
	s.Network, s.Addr = "unix", filepath.Join(filepath.Dir(s.PIDFile), "svc.sock")
}

// byWeights makes Bake give the candidate the weights, one after the other.
func byWeights(weights ...float64) func(*plan.Settings) {
	return func(s *plan.Settings) { s.Bake, s.Weights, s.Soak = plan.BakeSteps, weights, 0 }
}

// dying is how long a process needs to die after a signal, or after it has begun to end.
const dying = 50 * time.Millisecond

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func isOver(stop <-chan struct{}) bool {
	select {
	case <-stop:
		return true
	default:
		return false
	}
}
