//go:build linux

package upgrade_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// What is kept survives a good upgrade; what the candidate has changed comes back on an abort; a value that refuses
// what was sent with the commit takes the commit back.
func TestKeptValuesSurvive(t *testing.T) {
	r := startService(t, func(s *settings) { s.Soak = time.Minute })
	r.add(1, "g1")
	r.upgradeNow()
	r.WaitFamily(t, 1, 20*time.Second)
	r.add(2, "g2")

	_, aborted := r.soaking()
	testutil.Until(t, 20*time.Second, "the candidate has raised the value", func() bool {
		_, by := r.post("/add")
		return by == "g3"
	})
	n, _ := r.post("/add")
	r.ask("POST", "/abort")
	<-aborted
	r.WaitFamily(t, 1, 20*time.Second)
	if got, by := r.post("/add"); got < n || by != "g2" {
		t.Fatalf("after the abort %s says %d: want at least %d of g2", by, got, n)
	}

	r.change(func(s *settings) { s.Bad = "refuse-commit" })
	_, done := r.soaking()
	r.ask("POST", "/commit")
	if a := <-done; a.Committed || a.Phase != "commit" || !strings.Contains(a.Reason, "not in this shape") {
		t.Fatalf("upgrade with a value that refuses: %+v", a)
	}
	r.WaitFamily(t, 1, 20*time.Second)
	if _, by := r.post("/add"); by != "g2" {
		t.Fatalf("after the refusal %s answers", by)
	}
}

// What is kept survives the old process as soon as that has sent it, which may be before the new one has said hello.
func TestKeptValuesOutliveTheOldProcess(t *testing.T) {
	for _, step := range []string{"old.welcomed", "old.hello", "old.prepared"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			f := faultAt(t, step, "kill")
			r := startService(t, nil, f.env)
			r.add(1, "g1")
			if a, err := r.tryAsk(context.Background(), "POST", "/upgrade"); err == nil {
				t.Fatalf("the old process answered: %+v", a)
			}
			testutil.Until(t, patience, "another process serves", func() bool { return r.servesWithout(r.faulted()) })
			r.add(2, "g2")
		})
	}
}
