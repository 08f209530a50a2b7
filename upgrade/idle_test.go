//go:build linux

package upgrade_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/upgrade"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// askWithin requests an upgrade without a deadline, but with a short limit for a service that tries no upgrade.
func askWithin(r *testclient.Service, idle time.Duration) <-chan requested {
	done := make(chan requested, 1)
	go func() { // ends with the outcome, or with the limit
		out, err := upgrade.RequestWithin(idle, r.Set.PIDFile)
		done <- requested{out, err}
	}()
	return done
}

// If the service cannot write the outcome, a Request without a deadline does not wait for ever.
func TestRequestEndsWithoutAnOutcome(t *testing.T) {
	t.Parallel()
	f := writeFaults["a full disk"]
	r, run := f.withRun(t, nil)
	begin(t, r)
	if err := f.cause(run); err != nil {
		t.Fatal(err)
	}
	q := <-askWithin(r, time.Second)
	if !errors.Is(q.err, context.DeadlineExceeded) || !strings.Contains(q.err.Error(), "tries no upgrade") {
		t.Errorf("%v", q.err)
	}
}

// A Request without a deadline waits until its upgrade has ended, however long that takes. It also waits for the end of an
// upgrade that was under way before.
func TestRequestWaitsForAnUpgradeThatTakesLong(t *testing.T) {
	t.Parallel()
	r := testclient.Start(t, func(s *plan.Settings) { s.Timeout, s.Soak = time.Minute, 2*time.Second })
	held := r.Dial().Begin() // keeps the process that has received the signal alive for longer than the limit
	r.Change(func(s *plan.Settings) { s.Bad = plan.CheckWaits })
	before := r.BeginUpgrade()
	r.WaitOutput(patience, plan.SaysCheckWaits)
	const idle = 400 * time.Millisecond
	asked := askWithin(r, idle)
	select {
	case q := <-asked:
		t.Fatalf("%+v, %v while an upgrade is under way", q.Outcome, q.err)
	case <-time.After(4 * idle):
	}
	r.Touch("release")
	if a := <-before; !a.Committed {
		t.Fatalf("%+v", a)
	}
	(<-asked).mustBeCommitted(t, 3)
	held.Finish()
}
