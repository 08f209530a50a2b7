//go:build linux

package testclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
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

// TryAsk sends a request to the admin socket, and returns an error if there is no answer: the process may die before.
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

// Status returns the status of the main process.
func (r *Service) Status() upgrade.Status {
	r.t.Helper()
	return r.Ask("GET", "/status").Status
}

// Candidate returns the pid of the candidate. Without a candidate the test ends.
func (r *Service) Candidate() int {
	r.t.Helper()
	c := r.Status().Candidate
	if c == nil {
		r.t.Fatal("there is no candidate")
	}
	return c.PID
}

// Upgrade asks for an upgrade, and ends the test unless the upgrade is committed.
func (r *Service) Upgrade() {
	r.t.Helper()
	if a := r.Ask("POST", "/upgrade"); !a.Committed {
		r.t.Fatalf("upgrade: %s", a.Error)
	}
}

// UpgradeNow is Upgrade for a service with a long soak: it asks for the commit in the phase soak.
func (r *Service) UpgradeNow() {
	r.t.Helper()
	done := r.BeginUpgrade()
	r.WaitPhase("soak")
	r.Ask("POST", "/commit")
	if a := <-done; !a.Committed {
		r.t.Fatalf("upgrade: %s", a.Error)
	}
}

// BeginUpgrade asks for an upgrade, and does not wait for its end. The answer comes on the channel; the answer is empty if the
// process dies.
func (r *Service) BeginUpgrade() <-chan plan.Answer { return r.Begin(context.Background(), "/upgrade") }

// Begin sends a POST request to the admin socket, and does not wait for the answer, which comes on the channel.
func (r *Service) Begin(ctx context.Context, path string) <-chan plan.Answer {
	done := make(chan plan.Answer, 1)
	go func() { // ends with the answer, or when the process with the admin socket ends
		a, _ := r.TryAsk(ctx, "POST", path)
		done <- a
	}()
	return done
}

// Soaking begins an upgrade, and returns when the upgrade is in the phase soak, in which both processes accept.
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

// WaitServing waits until the process in the pid file serves, has the given generation, and has another pid than the argument
// not.
func (r *Service) WaitServing(generation, not int) {
	r.t.Helper()
	testutil.Until(r.t, Patience, fmt.Sprintf("generation %d serves, other than pid %d", generation, not), func() bool {
		a, err := r.TryAsk(context.Background(), "GET", "/status")
		s := a.Status
		return err == nil && s.State == "serving" && s.Generation == generation && s.PID == r.MainPID() && s.PID != not
	})
}

// ServesWithout reports whether the process in the pid file serves, and is another process than pid.
func (r *Service) ServesWithout(pid int) bool {
	if now := r.MainPID(); now == 0 || now == pid {
		return false
	}
	a, err := r.TryAsk(context.Background(), "GET", "/status")
	return err == nil && a.Status.State == "serving" && a.Status.PID == r.MainPID()
}

// WaitKnown waits until the supervisor has logged that the process in the pid file is the main generation.
func (r *Service) WaitKnown() {
	r.t.Helper()
	testutil.Until(r.t, Patience, "the supervisor knows", func() bool {
		return strings.Contains(r.Output(), fmt.Sprintf("supervisor: main generation pid=%d", r.MainPID()))
	})
}

// AtStep waits until the judge of plan.BakeSteps has come to step n.
func (r *Service) AtStep(n int) {
	r.t.Helper()
	testutil.Until(r.t, Patience, fmt.Sprint("step ", n), func() bool {
		b, err := os.ReadFile(filepath.Join(r.Dir, "step"))
		return err == nil && string(b) == fmt.Sprint(n)
	})
}

// GoOn makes the judge of plan.BakeSteps go on to the next step.
func (r *Service) GoOn() {
	r.t.Helper()
	if err := os.Remove(filepath.Join(r.Dir, "step")); err != nil {
		r.t.Fatal(err)
	}
}

// Rollback asks for a rollback, and ends the test unless the rollback is committed.
func (r *Service) Rollback() {
	r.t.Helper()
	if a := r.Ask("POST", "/rollback"); !a.Committed {
		r.t.Fatalf("rollback: %s", a.Error)
	}
}

// MustFail asks for an upgrade, and ends the test unless the upgrade fails in the phase, with a reason that contains the
// argument reason, and the old process is still the service. reason may have alternatives: "one|another".
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

// MustRecover is called under a load, after an upgrade of the generation has failed. It ends the test unless the generation
// still serves, and an upgrade to a good release is committed.
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

// Order gives a process the order to broadcast, and does not wait.
func (r *Service) Order(pid int, order plan.Say) {
	r.t.Helper()
	path := plan.SayFile(r.Dir, pid)
	b, err := json.Marshal(order)
	if err == nil {
		err = os.WriteFile(path+".new", b, 0o600)
	}
	if err = errors.Join(err, os.Rename(path+".new", path)); err != nil {
		r.t.Fatal(err)
	}
}

// Say makes a process broadcast, and returns the errors of Broadcast, a line each.
func (r *Service) Say(pid int, name string, data ...string) string {
	r.t.Helper()
	r.Order(pid, plan.Say{Name: name, Data: data})
	testutil.Until(r.t, Patience, "the order to broadcast is carried out", func() bool {
		_, err := os.Lstat(plan.SayFile(r.Dir, pid))
		return errors.Is(err, fs.ErrNotExist)
	})
	b, err := os.ReadFile(plan.SaidFile(r.Dir, pid))
	if err != nil {
		r.t.Fatal(err)
	}
	return string(b)
}

// Heard returns the broadcasts of a name that a process has got.
func (r *Service) Heard(pid int, name string) (data []string) {
	r.t.Helper()
	b, err := os.ReadFile(plan.HeardFile(r.Dir, pid))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if got, text, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " "); ok && got == name {
			data = append(data, text)
		}
	}
	return data
}

// MustHear ends the test unless the last broadcasts of the name News that a process has got are these, soon.
func (r *Service) MustHear(pid int, want ...string) {
	r.t.Helper()
	last := func() []string {
		all := r.Heard(pid, plan.News)
		return all[max(0, len(all)-len(want)):]
	}
	if !testutil.Within(Patience, func() bool { return slices.Equal(last(), want) }) {
		r.t.Fatalf("process %d has got %.300q, want %.300q", pid, r.Heard(pid, plan.News), want)
	}
}
