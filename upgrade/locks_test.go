package upgrade_test

import (
	"path/filepath"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
)

// Every mutex of this package and of its internal packages has its place in the order of the locks, in parts.go, and every lock
// that is named there exists.
func TestLocksHaveAnOrder(t *testing.T) {
	have := testutil.LocksOf(t, ".", "Mutex", "RWMutex")
	for _, p := range []string{"broadcast", "handoff", "listener", "pidfile", "sdnotify", "state", "supervisor", "wire"} {
		for _, name := range testutil.LocksOf(t, filepath.Join("internal", p), "Mutex", "RWMutex") {
			have = append(have, p+"."+name)
		}
	}
	have = append(have, "process.Child.queue", "wire.Link.turn") // of another package, and a channel
	testutil.LocksAreOrdered(t, "parts.go", have)
}
