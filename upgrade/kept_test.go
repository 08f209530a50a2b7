//go:build linux

package upgrade_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// A kept value survives a good upgrade. After an abort, the old process has the value that the candidate has changed. If a
// value refuses the data in the commit message, the upgrade is taken back.
func TestKeptValuesSurvive(t *testing.T) {
	r := testclient.Start(t, func(s *plan.Settings) { s.Soak = time.Minute })
	r.MustAdd(1, "g1")
	r.UpgradeNow()
	r.WaitFamily(t, 1, patience)
	r.MustAdd(2, "g2")

	_, aborted := r.Soaking()
	testutil.Until(t, patience, "the candidate has raised the value", func() bool {
		_, by := r.Post("/add")
		return by == "g3"
	})
	n, _ := r.Post("/add")
	r.Ask("POST", "/abort")
	<-aborted
	r.WaitFamily(t, 1, patience)
	if got, by := r.Post("/add"); got < n || by != "g2" {
		t.Fatalf("after the abort %s says %d: want at least %d of g2", by, got, n)
	}

	r.Change(func(s *plan.Settings) { s.Bad = plan.RefuseValueAtCommit })
	_, done := r.Soaking()
	r.Ask("POST", "/commit")
	if a := <-done; a.Committed || a.Phase != "commit" || !strings.Contains(a.Reason, "not in this shape") {
		t.Fatalf("upgrade with a value that refuses: %+v", a)
	}
	r.WaitFamily(t, 1, patience)
	if _, by := r.Post("/add"); by != "g2" {
		t.Fatalf("after the refusal %s answers", by)
	}
}

// A kept value survives the death of the old process from the message welcome on, which may be sent before the new process has
// sent hello.
func TestKeptValuesOutliveTheOldProcess(t *testing.T) {
	for _, step := range []string{"old.welcomed", "old.hello", "old.prepared"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			f := testclient.FaultAt(t, step, "kill")
			r := testclient.Start(t, nil, f.Env)
			r.MustAdd(1, "g1")
			if a, err := r.TryAsk(context.Background(), "POST", "/upgrade"); err == nil {
				t.Fatalf("the old process answered: %+v", a)
			}
			testutil.Until(t, patience, "another process serves", func() bool { return r.ServesWithout(r.Faulted()) })
			r.MustAdd(2, "g2")
		})
	}
}
