package drain_test

import (
	"path/filepath"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
)

// Every lock of this package, of its internal packages and of grpcdrain has its place in the order of the locks, in server.go,
// and every lock that is named there exists.
func TestLocksHaveAnOrder(t *testing.T) {
	have := testutil.LocksOf(t, ".", "Mutex", "RWMutex", "Once")
	below, err := filepath.Glob("internal/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range append(below, "grpcdrain") {
		for _, name := range testutil.LocksOf(t, dir, "Mutex", "RWMutex", "Once") {
			have = append(have, filepath.Base(dir)+"."+name)
		}
	}
	testutil.LocksAreOrdered(t, "server.go", have)
}
