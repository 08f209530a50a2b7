//go:build linux

package upgrade_test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// hanging makes a release with a kept value that hangs when it gets the data of the commit message.
func hanging(s *plan.Settings) { s.Timeout, s.Bad = 2*time.Second, plan.ValueHangsAtCommit }

// If a kept value hangs at the commit, the upgrade fails within its limit, and the old process serves on.
func TestValueThatHangsAtTheCommitIsTakenBack(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, hanging)
	l := r.Load(smallLoad)
	r.MustFail("commit", "UnmarshalBinary has not returned")
	r.Account(l).MustBeClean(t)
}

// If a kept value hangs at the commit and the old process dies, the candidate serves. SIGTERM ends the candidate while the
// value hangs, and also after the limit.
func TestSurvivorServesWhileAValueHangs(t *testing.T) {
	t.Parallel()
	for name, late := range map[string]bool{"in its time": false, "later": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, func(s *plan.Settings) {
				hanging(s)
				if !late {
					s.Timeout = 20 * time.Second
				}
			})
			old := r.MainPID()
			r.BeginUpgrade()
			r.WaitOutput(patience, plan.SaysUnmarshalHangs)
			if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			r.DialTo("g2").Close()
			candidate := 0
			for _, pid := range r.Generations() {
				if pid != old {
					candidate = pid
				}
			}
			if late {
				r.WaitServing(2, old)
				if !strings.Contains(r.Output(), "serving although not everything is right") {
					t.Error("nothing is said about it")
				}
			}
			if err := syscall.Kill(candidate, syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			testutil.Until(t, patience, "the survivor has ended", func() bool { return len(r.Family()) == 0 })
		})
	}
}
