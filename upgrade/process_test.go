package upgrade_test

import (
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// No request is lost by an upgrade, and none is executed twice.
func TestUpgradeLosesNothingUnderLoad(t *testing.T) {
	r := startService(t, nil)
	l := r.load(testutil.LoadOptions{KeepAlive: 32, New: 8, SlowEvery: 50})
	const upgrades = 10
	for range upgrades {
		r.upgrade()
	}
	testutil.Until(t, 10*time.Second, "the last generation answers", func() bool { return l.Seen("g11") })
	a := r.account(l)
	t.Logf("%d upgrades\n%s", upgrades, a)
	a.MustBeClean(t)
	r.WaitFamily(t, 1, 30*time.Second)
}
