//go:build linux

package testclient

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// Ask sends a request to the admin socket. Without an answer the test ends.
func (r *Service) Ask(method, path string) plan.Answer {
	r.t.Helper()
	a, err := r.TryAsk(context.Background(), method, path)
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

// TryAsk is Ask for a process that may die before the answer.
func (r *Service) TryAsk(ctx context.Context, method, path string) (a plan.Answer, err error) {
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(r.Dir, "admin.sock"))
	}}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://admin"+path, nil)
	if err != nil {
		return a, err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	return a, json.NewDecoder(resp.Body).Decode(&a)
}

// Status is the status of the main process.
func (r *Service) Status() upgrade.Status {
	r.t.Helper()
	return r.Ask("GET", "/status").Status
}

// Candidate is the pid of the candidate.
func (r *Service) Candidate() int {
	r.t.Helper()
	c := r.Status().Candidate
	if c == nil {
		r.t.Fatal("there is no candidate")
	}
	return c.PID
}

// Upgrade makes an upgrade, which must be committed.
func (r *Service) Upgrade() {
	r.t.Helper()
	if a := r.Ask("POST", "/upgrade"); !a.Committed {
		r.t.Fatalf("upgrade: %s", a.Error)
	}
}

// UpgradeNow is Upgrade for a service with a long soak: the commit is asked for.
func (r *Service) UpgradeNow() {
	r.t.Helper()
	done := r.BeginUpgrade()
	r.WaitPhase("soak")
	r.Ask("POST", "/commit")
	if a := <-done; !a.Committed {
		r.t.Fatalf("upgrade: %s", a.Error)
	}
}

// BeginUpgrade asks for an upgrade that goes on when the method returns. The answer, empty if the process dies, comes on
// the channel.
func (r *Service) BeginUpgrade() <-chan plan.Answer { return r.Begin(context.Background(), "/upgrade") }

// Begin posts to the admin socket and does not wait for the answer, which comes on the channel.
func (r *Service) Begin(ctx context.Context, path string) <-chan plan.Answer {
	done := make(chan plan.Answer, 1)
	go func() { // ends with the answer, or with the process that is asked
		a, _ := r.TryAsk(ctx, "POST", path)
		done <- a
	}()
	return done
}

// Soaking begins an upgrade and returns when both processes accept.
func (r *Service) Soaking() (candidate int, done <-chan plan.Answer) {
	r.t.Helper()
	done = r.BeginUpgrade()
	r.WaitPhase("soak")
	return r.Candidate(), done
}

// WaitPhase waits until the upgrade is in the phase.
func (r *Service) WaitPhase(phase string) {
	r.t.Helper()
	testutil.Until(r.t, Patience, "the phase "+phase, func() bool {
		c := r.Status().Candidate
		return c != nil && string(c.Phase) == phase
	})
}

// WaitServing waits until the process of the pid file serves, as the given generation and not with pid not.
func (r *Service) WaitServing(generation, not int) {
	r.t.Helper()
	testutil.Until(r.t, Patience, fmt.Sprintf("generation %d serves, other than pid %d", generation, not), func() bool {
		a, err := r.TryAsk(context.Background(), "GET", "/status")
		s := a.Status
		return err == nil && s.State == "serving" && s.Generation == generation && s.PID == r.MainPID() && s.PID != not
	})
}

// ServesWithout reports whether the process of the pid file serves, and is another process than pid.
func (r *Service) ServesWithout(pid int) bool {
	if now := r.MainPID(); now == 0 || now == pid {
		return false
	}
	a, err := r.TryAsk(context.Background(), "GET", "/status")
	return err == nil && a.Status.State == "serving" && a.Status.PID == r.MainPID()
}

// WaitKnown waits until the supervisor knows which process is the main generation.
func (r *Service) WaitKnown() {
	r.t.Helper()
	testutil.Until(r.t, Patience, "the supervisor knows", func() bool {
		return strings.Contains(r.Output(), fmt.Sprintf("supervisor: main generation pid=%d", r.MainPID()))
	})
}

// AtStep waits until the judge of plan.BakeSteps is at the step.
func (r *Service) AtStep(n int) {
	r.t.Helper()
	testutil.Until(r.t, Patience, fmt.Sprint("step ", n), func() bool {
		b, err := os.ReadFile(filepath.Join(r.Dir, "step"))
		return err == nil && string(b) == fmt.Sprint(n)
	})
}

// GoOn lets the judge of plan.BakeSteps leave the step.
func (r *Service) GoOn() {
	r.t.Helper()
	if err := os.Remove(filepath.Join(r.Dir, "step")); err != nil {
		r.t.Fatal(err)
	}
}

// Rollback makes a rollback that must be committed.
func (r *Service) Rollback() {
	r.t.Helper()
	if a := r.Ask("POST", "/rollback"); !a.Committed {
		r.t.Fatalf("rollback: %s", a.Error)
	}
}

// MustFail asks for an upgrade, which has to end with the old process serving. The reason may have alternatives: "one|another".
func (r *Service) MustFail(phase, reason string) plan.Answer {
	r.t.Helper()
	before := r.MainPID()
	a := r.Ask("POST", "/upgrade")
	if a.Committed || a.Phase != phase || !slices.ContainsFunc(strings.Split(reason, "|"), func(s string) bool { return strings.Contains(a.Reason, s) }) {
		r.t.Fatalf("upgrade: committed %v, phase %q, reason %q: want phase %q, reason with %q", a.Committed, a.Phase, a.Reason, phase, reason)
	}
	if now := r.MainPID(); now != before {
		r.t.Fatalf("the pid file names %d after the failure, not %d", now, before)
	}
	left := 1
	if r.Set.Supervisor == "always" {
		left = 2
	}
	r.WaitFamily(r.t, left, Patience)
	return a
}

// MustRecover upgrades to a good release after a failure of the generation's upgrade, under a load.
func (r *Service) MustRecover(l *testutil.Load, generation int) {
	r.t.Helper()
	r.Change(func(s *plan.Settings) { s.Bad, s.Bake = "", "" })
	if got := r.Status(); got.Generation != generation || got.State != "serving" {
		r.t.Fatalf("after the failure: generation %d is %s, want %d serving", got.Generation, got.State, generation)
	}
	if r.Set.Soak > time.Second {
		r.UpgradeNow()
	} else {
		r.Upgrade()
	}
	want := fmt.Sprint("g", generation+1)
	testutil.Until(r.t, Patience, want+" answers", func() bool { return l.Seen(want) })
	r.WaitFamily(r.t, 1, 30*time.Second)
}
