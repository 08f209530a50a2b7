package sessionsoak

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/canary/judge"
	"github.com/midair-go/midair/canary/rollout"
	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
)

var rounds = flag.Int("midair.rounds", 1, "how often the hybrid goes through its chain of releases, with a good and with a bad canary")

// versions are those of the hybrid.
var versions = []string{"v1", "v2", "v2.1", "v3"}

const (
	hybridVisitors = 200
	// held is the time of a step that does not end in a test.
	held = 10 * time.Minute
	// hybridPatience is the longest time for a step, also on a machine that is busy.
	hybridPatience = 2 * time.Minute
)

// A service goes through all ways of a release, one after the other, under load that never repeats a request: a rollout of
// processes, a flag that is edited, a canary handler with an upgrade in the middle of a step, blue and green with an abort and a
// commit, and a rollback. No request is lost or refused, each session has counted exactly the answered requests, a visitor changes
// the side only by the weight, and each outcome is judged once. A bad canary is taken back before it has half of the visitors, and
// all else goes on.
func TestHybridReleaseLosesNothing(t *testing.T) {
	for _, version := range versions {
		buildHybrid(t, version) // no step waits for it then
	}
	for round := range *rounds {
		for _, bad := range []bool{false, true} {
			name := map[bool]string{false: "good", true: "bad"}[bad]
			t.Run(fmt.Sprintf("%s%d", name, round), func(t *testing.T) {
				t.Parallel()
				h := startHybrid(t)
				h.rollOutProcesses()
				h.turnFlagOff()
				h.rollOutHandler(bad)
				h.switchBlueAndGreen()
				h.rollBack()
				h.account(bad)
			})
		}
	}
}

// A hybrid is a running service of the program in the directory hybrid, from the test's side.
type hybrid struct {
	*testutil.Proc
	t     *testing.T
	dir   string
	admin http.Client
	flags flagFile
	pages *testutil.Load
	crowd *hybridCrowd
}

// A flagFile is what the flag file has.
type flagFile struct {
	banner, released, bad bool
	plan                  rollout.Steps
}

// An operated is the answer to an operator.
type operated struct {
	Error              string
	Upgrade            upgrade.Status
	Processes, Handler rollout.Status
}

// startHybrid starts version v1 with its load.
func startHybrid(t *testing.T) *hybrid {
	h := &hybrid{t: t, dir: t.TempDir(), flags: flagFile{
		banner: true, plan: rollout.Steps{{Weight: 0.05, For: held}, {Weight: 0.25, For: held}, {Weight: 0.5, For: held}},
	}}
	h.admin.Timeout = hybridPatience
	h.admin.Transport = &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(h.dir, "admin.sock"))
	}}
	h.edit(func(*flagFile) {})
	h.release("v1", "soak")
	h.Proc = testutil.StartCommand(t, testutil.Cfg{Dir: h.dir}, filepath.Join(h.dir, "current"))
	addr := strings.TrimSpace(h.WaitOutput(patience, "serving at "))
	h.pages = testutil.StartLoad(t, testutil.LoadOptions{Addr: addr, KeepAlive: 4, New: 2, Think: think})
	h.crowd = newHybridCrowd(t, hybridVisitors, addr)
	h.answered(2)
	return h
}

// rollOutProcesses gives version v2 10 and 50 % of the connections, and then all.
func (h *hybrid) rollOutProcesses() {
	h.t.Helper()
	h.release("v2", "processes")
	a := h.ask("POST", "/upgrade").Processes
	if a.State != rollout.Promoted {
		h.t.Fatalf("the rollout of processes is %v: %v", a.State, a.Judge)
	}
	for _, weight := range []float64{0.1, 0.5} {
		i := slices.IndexFunc(a.Judge.Weights, func(w judge.WeightCounts) bool { return w.Weight == weight })
		if i < 0 {
			h.t.Fatalf("nothing was judged at a weight of %v: %+v", weight, a.Judge.Weights)
		}
		of, all := a.Judge.Weights[i].Canary.Requests, a.Judge.Weights[i].Stable.Requests
		all += of
		if share := float64(of) / float64(all); !(share > weight/3 && share < min(3*weight, 0.9)) {
			h.t.Errorf("the new process has answered %d of %d judged requests at a weight of %v", of, all, weight)
		}
		h.t.Logf("the new process has answered %d of %d judged requests at a weight of %v", of, all, weight)
	}
	h.alone("v2")
}

// turnFlagOff turns the banner off, which version v2 has.
func (h *hybrid) turnFlagOff() {
	h.t.Helper()
	h.answered(1)
	h.crowd.expect(func(c *hybridCrowd) { c.banner = bannerEdited })
	h.edit(func(f *flagFile) { f.banner = false })
	testutil.Until(h.t, hybridPatience, "an answer without the banner", func() bool {
		_, _, banner := h.crowd.expects()
		return banner == bannerOff
	})
	h.answered(2)
}

// rollOutHandler gives the canary handler 5 and 25 % of the visitors. The process is upgraded in the middle of the first step.
func (h *hybrid) rollOutHandler(bad bool) {
	h.t.Helper()
	h.crowd.expect(func(c *hybridCrowd) { c.bad = bad })
	h.edit(func(f *flagFile) { f.released, f.bad = true, bad })
	before := h.until("the middle of the first step", func(s rollout.Status) bool {
		return s.State == rollout.RolledBack || s.Step == 1 && left(s) < held-time.Second && s.Judge.Canary.Requests > 20 && (!bad || s.Judge.Canary.Bad > 0)
	})
	h.answered(2)
	h.upgradeInAStep(before)
	if bad {
		h.wantTakenBack()
		return
	}
	h.answered(3)
	h.edit(func(f *flagFile) { f.plan[0].For, f.plan[0].MinSamples = time.Second, 50 })
	h.until("the second step", func(s rollout.Status) bool { return s.Step == 2 && s.Weight == 0.25 })
	h.answered(3)
	h.wantShares()
}

// upgradeInAStep upgrades by a soak, and checks that the rollout goes on where it was before.
func (h *hybrid) upgradeInAStep(before rollout.Status) {
	h.t.Helper()
	h.release("v2.1", "soak")
	old := h.ask("POST", "/upgrade").Handler
	after := h.alone("v2.1")
	for _, counts := range [][2]judge.Counts{{before.Judge.Stable, after.Judge.Stable}, {before.Judge.Canary, after.Judge.Canary}} {
		if counts[1].Requests < counts[0].Requests || counts[1].Bad < counts[0].Bad {
			h.t.Errorf("the evidence after the upgrade is of %+v, and of %+v before", counts[1], counts[0])
		}
	}
	if after.State < before.State || after.Step != before.Step || after.State == rollout.Ramping && left(after) > left(before) {
		h.t.Errorf("%v, step %d, %q after the upgrade, and %v, step %d, %q before",
			after.State, after.Step, after.Waits, before.State, before.Step, before.Waits)
	}
	h.t.Logf("evidence of %d and %d requests before the upgrade, %d and %d in the old process at the commit, %d and %d in the new one",
		before.Judge.Stable.Requests, before.Judge.Canary.Requests, old.Judge.Stable.Requests, old.Judge.Canary.Requests,
		after.Judge.Stable.Requests, after.Judge.Canary.Requests)
}

// wantShares checks that each visitor of the canary at 5 % was on the canary in both processes, and that a quarter is now.
func (h *hybrid) wantShares() {
	h.t.Helper()
	first := h.crowd.count(func(v *hybridVisitor) bool { return v.asCanary <= 0.05 })
	both := h.crowd.count(func(v *hybridVisitor) bool { return v.asCanary <= 0.05 && len(v.canaries) == 2 })
	now := h.crowd.count(func(v *hybridVisitor) bool { return v.asCanary <= 0.25 })
	if first == 0 || both != first || now <= first || now < hybridVisitors/10 || now > hybridVisitors/2 {
		h.t.Errorf("%d visitors on the canary at 5 %%, %d of them in both processes, and %d of %d at 25 %%", first, both, now, hybridVisitors)
	}
}

// wantTakenBack lets the steps of a bad canary end, and checks that the canary is taken back before it has 50 %.
func (h *hybrid) wantTakenBack() {
	h.t.Helper()
	h.edit(func(f *flagFile) {
		f.plan = rollout.Steps{{Weight: 0.05, For: time.Second, MinSamples: 100}, {Weight: 0.25, For: time.Second, MinSamples: 1000}, {Weight: 0.5, For: held}}
	})
	s := h.until("the end of the bad canary", func(s rollout.Status) bool { return s.State == rollout.RolledBack })
	for _, d := range s.Decisions {
		if d.Weight >= 0.5 {
			h.t.Errorf("the bad canary has had a weight of %v", d.Weight)
		}
	}
	h.answered(1)
	if n := h.crowd.count(func(v *hybridVisitor) bool { return v.weight > 0 || v.asCanary >= 0.5 && v.asStable >= 0.5 }); n > 0 {
		h.t.Errorf("%d visitors have met the bad canary too late", n)
	}
	h.t.Logf("taken back in step %d: %v", s.Step, s.Judge)
}

// switchBlueAndGreen gives version v3 all traffic, takes it back, and does it again with a commit.
func (h *hybrid) switchBlueAndGreen() {
	h.t.Helper()
	before := h.ask("GET", "/status").Handler
	h.release("v3", "blue-green")
	for _, end := range []string{"/abort", "/commit"} {
		done := make(chan operated, 1)
		go func() { // ends with the upgrade, for which the client waits at most hybridPatience
			a, err := h.try("POST", "/upgrade")
			a.Error += errorText(err)
			done <- a
		}()
		h.only("v3")
		if a := h.ask("POST", end); a.Handler.State != before.State || a.Handler.Weight != before.Weight {
			h.t.Errorf("the rollout is %v at %v under v3, and was %v at %v", a.Handler.State, a.Handler.Weight, before.State, before.Weight)
		}
		a := <-done
		if aborted := strings.Contains(a.Error, "asked for by the test"); aborted != (end == "/abort") || !aborted && a.Error != "" {
			h.t.Fatalf("%s: the upgrade has ended with %q", end, a.Error)
		}
		h.alone(map[string]string{"/abort": "v2.1", "/commit": "v3"}[end])
	}
}

// rollBack starts the binary before.
func (h *hybrid) rollBack() {
	h.t.Helper()
	before := h.ask("GET", "/status").Handler
	h.ask("POST", "/rollback")
	after := h.alone("v2.1")
	if after.State != before.State || after.Step != before.Step || after.Weight != before.Weight {
		h.t.Errorf("the rollout is %v at %v after the rollback, and was %v at %v", after.State, after.Weight, before.State, before.Weight)
	}
}

// account ends the load and checks all of it.
func (h *hybrid) account(bad bool) {
	h.t.Helper()
	h.answered(1)
	h.crowd.stop()
	pages := testutil.Account(h.t, h.pages.Stop(), filepath.Join(h.dir, "journal"))
	pages.MustBeClean(h.t)
	s := h.crowd.sum()
	for _, w := range s.wrong {
		h.t.Error(w)
	}
	failures, longest := 0, time.Duration(0)
	for _, v := range h.crowd.all {
		failures, longest = failures+v.failures, max(longest, v.mostSpent)
	}
	if bad != (failures > 0) {
		h.t.Errorf("the canary has failed %d requests", failures)
	}
	h.t.Logf("%d pages and %d counted requests of %d sessions, %d failed by the canary, none lost, the longest took %v",
		pages.Total, s.counted, len(h.crowd.all), failures, longest)
	h.wantAllJudged()
}

// wantAllJudged checks that each answer at a weight between 0 and 1 is in the evidence once, whichever processes the visitors have
// met. It is called when the visits have ended.
func (h *hybrid) wantAllJudged() {
	h.t.Helper()
	drawn := uint64(0)
	for _, v := range h.crowd.all {
		drawn += uint64(v.drawn)
	}
	var judged uint64
	testutil.Within(patience, func() bool { // the last outcome may come after its answer
		s := h.ask("GET", "/status").Handler.Judge
		judged = s.Stable.Requests + s.Canary.Requests
		return judged >= drawn
	})
	if judged != drawn {
		h.t.Errorf("%d requests were judged, and the weight has decided %d", judged, drawn)
	}
	h.t.Logf("%d requests were drawn and judged", drawn)
}

// buildHybrid builds a version of the program, unless it is built.
func buildHybrid(t *testing.T, version string) (path string) {
	t.Helper()
	return testutil.Build(t, "github.com/midair-go/midair/internal/compat/sessionsoak/hybrid", "-s -w -X main.version="+version)
}

// release puts a version in the place of the program, and says how the next upgrade gives it traffic.
func (h *hybrid) release(version, way string) {
	h.t.Helper()
	path := buildHybrid(h.t, version)
	h.write("way", []byte(way))
	next := filepath.Join(h.dir, "next")
	if err := errors.Join(os.Symlink(path, next), os.Rename(next, filepath.Join(h.dir, "current"))); err != nil {
		h.t.Fatal(err)
	}
}

// edit changes the flag files of all versions. The first version does not have the banner.
func (h *hybrid) edit(change func(*flagFile)) {
	h.t.Helper()
	change(&h.flags)
	for _, version := range versions {
		variants := map[string]any{
			"banner": h.flags.banner && version != "v1", "cart-released": h.flags.released, "cart-bad": h.flags.bad,
			"cart-plan": map[string]any{"steps": h.flags.plan},
		}
		all := map[string]any{}
		for name, value := range variants {
			all[name] = map[string]any{"state": "ENABLED", "variants": map[string]any{"now": value}, "defaultVariant": "now"}
		}
		b, err := json.Marshal(map[string]any{"flags": all})
		if err != nil {
			h.t.Fatal(err)
		}
		h.write(version+".json", b)
	}
}

// write replaces a file in one moment.
func (h *hybrid) write(name string, content []byte) {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	if err := errors.Join(os.WriteFile(path+".new", content, 0o600), os.Rename(path+".new", path)); err != nil {
		h.t.Fatal(err)
	}
}

// ask is a request of an operator, which has to succeed.
func (h *hybrid) ask(method, path string) operated {
	h.t.Helper()
	a, err := h.try(method, path)
	if err != nil || a.Error != "" {
		h.t.Fatalf("%s %s: %v %s", method, path, err, a.Error)
	}
	return a
}

func (h *hybrid) try(method, path string) (a operated, err error) {
	r, err := http.NewRequest(method, "http://admin"+path, nil)
	if err != nil {
		return a, err
	}
	resp, err := h.admin.Do(r)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	return a, json.NewDecoder(resp.Body).Decode(&a)
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// until waits for a status of the rollout of the handler, and returns that status.
func (h *hybrid) until(what string, fn func(rollout.Status) bool) (s rollout.Status) {
	h.t.Helper()
	testutil.Until(h.t, hybridPatience, what, func() bool {
		s = h.ask("GET", "/status").Handler
		return fn(s)
	})
	return s
}

// answered waits until each visitor has got n more answers to requests that it has begun from now on.
func (h *hybrid) answered(n int) {
	h.t.Helper()
	before := h.crowd.answers()
	testutil.Until(h.t, hybridPatience, "answers for each visitor", func() bool {
		for i, now := range h.crowd.answers() {
			if now <= before[i]+n { // the first answer may be to a request that was begun before
				return false
			}
		}
		return true
	})
}

// only waits until a version answers all visitors, and checks that no other one does then.
func (h *hybrid) only(version string) {
	h.t.Helper()
	testutil.Until(h.t, hybridPatience, version+" answers all visitors", func() bool {
		return h.crowd.count(func(v *hybridVisitor) bool { return v.version != version }) == 0
	})
	h.crowd.expect(func(c *hybridCrowd) { c.only = version })
	h.answered(1)
	h.crowd.expect(func(c *hybridCrowd) { c.only = "" })
	h.answered(0) // from here on, no request expects the version
}

// alone waits until a version is the only process beside the supervisor and answers all visitors, and returns the status of the
// rollout of the handler right after the upgrade.
func (h *hybrid) alone(version string) (s rollout.Status) {
	h.t.Helper()
	testutil.Until(h.t, hybridPatience, version+" leads", func() bool {
		a := h.ask("GET", "/status")
		s = a.Handler
		return a.Upgrade.Version == version && a.Upgrade.State == "serving"
	})
	h.WaitFamily(h.t, 2, hybridPatience)
	h.only(version)
	return s
}

// left is how much of the step is left, 0 if the step waits for something else.
func left(s rollout.Status) time.Duration {
	text, _, _ := strings.Cut(s.Waits, " of the step are left")
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0
	}
	return d
}
