//go:build linux

package upgrade_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
)

// faulty is how a bad release answers from the moment on that the file "bad" is there. It tells the judge of each failure.
func (s *service) faulty() func(http.ResponseWriter) (answered bool) {
	if !s.upgraded || !slices.Contains([]string{"errors=0.2", "panic=0.1", "exit"}, s.set.Bad) {
		return func(http.ResponseWriter) bool { return false }
	}
	var n atomic.Int64
	every := map[string]int64{"errors=0.2": 5, "panic=0.1": 10, "exit": 1}[s.set.Bad]
	return func(w http.ResponseWriter) bool {
		if !exists(filepath.Join(s.dir, "bad")) || n.Add(1)%every != 0 {
			return false
		}
		_ = s.up.Publish("figures", nil)
		switch s.set.Bad {
		case "exit":
			writeTime(s.dir, "exited")
			os.Exit(7)
		case "panic=0.1":
			panic("this release is bad")
		}
		http.Error(w, "this release is bad", http.StatusInternalServerError)
		return true
	}
}

// enoughFailures is when the judge has seen enough.
const enoughFailures = 5

// watchFigures is the judge of those failures. It writes down when it has decided.
func watchFigures(dir string, c *upgrade.Candidate) <-chan error {
	found := make(chan error, 1)
	failures := 0
	c.Subscribe("figures", func([]byte) error {
		if failures++; failures == enoughFailures {
			writeTime(dir, "verdict")
			found <- errors.New("too many failures")
		}
		return nil
	})
	return found
}

func writeTime(dir, name string) {
	now := strconv.FormatInt(time.Now().UnixNano(), 10)
	_ = os.WriteFile(filepath.Join(dir, name), []byte(now), 0o600)
}

// verdict is when the judge has decided, exited when the bad process was about to end; zero if that did not happen.
func (r *running) verdict() time.Time { return r.readTime("verdict") }

func (r *running) exited() time.Time { return r.readTime("exited") }

func (r *running) readTime(name string) time.Time {
	b, _ := os.ReadFile(filepath.Join(r.dir, name))
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.Unix(0, n)
}

var takenBack = regexp.MustCompile(`upgrade: taken back candidate=\d+ accepting_after=(\S+)`)

// A release that goes bad at any step is taken back: nobody is refused, no idle connection ends, and what is lost or
// answered with an error is what the bad process itself had received. The next release, which is good, succeeds.
func TestBadReleaseIsTakenBackAtEveryStep(t *testing.T) {
	weights := []float64{0.05, 0.25, 0.5, 1}
	from := 0
	if testing.Short() {
		from = 2
	}
	for _, how := range []string{"errors=0.2", "panic=0.1", "exit", "kill", "stop"} {
		for n := from; n < len(weights); n++ {
			t.Run(fmt.Sprintf("%s at %v", how, weights[n]), func(t *testing.T) {
				t.Parallel()
				r := startService(t, func(s *settings) {
					byWeights(weights...)(s)
					s.AbortGrace = 5 * time.Second
					if how == "stop" {
						s.Silence = time.Second
					}
				})
				takeBackAt(t, r, how, n)
			})
		}
	}
}

func takeBackAt(t *testing.T, r *running, how string, step int) {
	r.change(func(s *settings) { s.Bad = how })
	kept, fresh := r.load(testutil.LoadOptions{KeepAlive: 4}), r.load(testutil.LoadOptions{New: 8})
	var idle []*peer
	for range 40 {
		idle = append(idle, r.dial())
	}
	done := r.beginUpgrade()
	for i := range step {
		r.atStep(i)
		r.goOn()
	}
	r.atStep(step)
	testutil.Until(t, patience, "the candidate answers", func() bool { return fresh.Seen("g2") })
	candidate := r.ask("GET", "/status").Status.Candidate.PID
	switch how {
	case "kill":
		_ = syscall.Kill(candidate, syscall.SIGKILL)
	case "stop":
		_ = syscall.Kill(candidate, syscall.SIGSTOP)
	default:
		if err := os.WriteFile(filepath.Join(r.dir, "bad"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	if a := <-done; a.Committed || a.Phase != "bake" {
		t.Fatalf("upgrade: %+v", a)
	}
	dead := began.Add(dying)
	if at := r.exited(); !at.IsZero() {
		dead = at.Add(dying)
	}
	if got := r.sides(idle)["g1"]; got != len(idle) {
		t.Errorf("%d of %d idle connections are with the old process", got, len(idle))
	}
	for _, l := range []*testutil.Load{kept, fresh} {
		answered := l.Total()
		testutil.Until(t, patience, "the load goes on", func() bool { return l.Total() > answered+100 })
		for _, o := range r.account(l).Offenders {
			if o.Verdict == testutil.Refused || !r.lostWith(o, candidate, dead) || how == "errors=0.2" && o.Status != 500 {
				t.Errorf("lost: %v", o)
			}
		}
	}
	late := time.Duration(0) // when the candidate got its last new connection, after the verdict
	if at := r.verdict(); !at.IsZero() {
		for rec := range fresh.Stop().Records() {
			if rec.PID == candidate && rec.Start.After(at) {
				late = max(late, rec.Start.Sub(at))
			}
		}
	}
	if m := takenBack.FindStringSubmatch(r.Output()); m == nil {
		t.Error("the log does not say how long it took")
	} else {
		t.Logf("from detection to accepting everything: %s; the last new connection of the candidate began %v after the verdict", m[1], late)
	}
	r.goOn() // nobody waits there any more
	r.change(func(s *settings) { s.Bad, s.Weights = "", []float64{0.25, 1} })
	done = r.beginUpgrade()
	for i := range 2 {
		r.atStep(i)
		r.goOn()
	}
	if a := <-done; !a.Committed {
		t.Fatalf("the next upgrade: %+v", a)
	}
	r.WaitFamily(t, 1, patience)
	if got := r.sides(idle)["g2"]; got != len(idle) {
		t.Errorf("%d of %d idle connections are with the new process", got, len(idle))
	}
}

// What the candidate publishes is heard by who has subscribed; an error of a subscriber takes the upgrade back; a process
// that is no candidate is told so.
func TestCandidateReportsToTheJudge(t *testing.T) {
	t.Parallel()
	r := startService(t, func(s *settings) { s.Bake, s.Soak = "listen", 0 })
	if a := r.ask("POST", "/upgrade"); !a.Committed {
		t.Fatalf("upgrade: %+v", a)
	}
	r.change(func(s *settings) { s.Bake = "object" })
	if a := r.ask("POST", "/upgrade"); a.Committed || a.Phase != "bake" || !strings.Contains(a.Reason, `subscriber of "news": I do not like it`) {
		t.Errorf("upgrade: %+v", a)
	}
	if a := r.ask("POST", "/publish"); !a.NotReady {
		t.Errorf("publish by the main process: %+v", a)
	}
}

// judgeNews is a judge that hears the candidate.
func judgeNews(ctx context.Context, set settings, c *upgrade.Candidate) error {
	heard := make(chan string, 100)
	c.Subscribe("other", func([]byte) error { return errors.New("not for us") })
	c.Subscribe("news", func(b []byte) error {
		if set.Bake == "object" {
			return errors.New("I do not like it")
		}
		heard <- string(b)
		return nil
	})
	select {
	case s := <-heard:
		if want := fmt.Sprint("from ", c.PID()); s != want {
			return fmt.Errorf("heard %q, want %q", s, want)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
