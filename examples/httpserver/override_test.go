package main

import (
	"encoding/json"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/flags"
	"github.com/midair-go/midair/internal/testutil"
)

// expiring is how long after its end an override may be in force: a margin for a busy machine.
const expiring = time.Second

// overridden returns the variant in an answer of /flag/ if it comes from an override, and otherwise "none".
func (s *site) overridden(body string) string {
	s.t.Helper()
	var got flagAnswer
	if err := json.Unmarshal([]byte(body), &got); err != nil || got.Error != "" || got.Variant == "" {
		s.t.Fatalf("%v in %s", err, body)
	}
	if got.Reason != "OVERRIDE" {
		return "none"
	}
	return got.Variant
}

// mustGive fails unless all answers of the generations for dark-mode are the variant of an override, or "none" is.
func (s *site) mustGive(want string, generations ...int) {
	s.t.Helper()
	var all []string
	for _, body := range s.answers("/flag/dark-mode", generations...) {
		all = append(all, s.overridden(body))
	}
	if got := slices.Compact(slices.Sorted(slices.Values(all))); len(got) != 1 || got[0] != want {
		s.t.Errorf("generations %d: overridden to %q, want %s", generations, got, want)
	}
}

// override overrides dark-mode, and waits until n processes know. The duration is the parameter for; empty: no end.
func (s *site) override(n int, variant, duration, reason string) flags.Override {
	s.t.Helper()
	q := url.Values{"flag": {"dark-mode"}, "variant": {variant}, "for": {duration}, "reason": {reason}}
	began := time.Now()
	s.post("/override?"+q.Encode(), 200)
	s.mustSay(n, `an override is set" name=flags reason=`+reason)
	o := s.status().Flags.Overrides["dark-mode"]
	if o.Variant != variant || o.Reason != reason || o.At.Before(began.Add(-time.Second)) {
		s.t.Errorf("the status says %+v, want variant %s since %v", o, variant, began)
	}
	return o
}

// mustExpire fails unless the override is in force in each generation until its end, and not after that.
func (s *site) mustExpire(until time.Time, generations ...int) {
	s.t.Helper()
	during, after := map[int]int{}, map[int]int{}
	testutil.Until(s.t, patience, "each generation answers after the end", func() bool {
		began := time.Now()
		r := s.ask("GET", "/flag/dark-mode", "")
		ended, holds := time.Now(), s.overridden(r.body) != "none"
		switch {
		case ended.Before(until) && !holds:
			s.t.Errorf("generation %d: no override %v before its end", r.generation(), until.Sub(ended))
		case began.After(until.Add(expiring)) && holds:
			s.t.Errorf("generation %d: an override %v after its end", r.generation(), began.Sub(until))
		case holds:
			during[r.generation()]++
		default:
			after[r.generation()]++
		}
		return s.t.Failed() || !slices.ContainsFunc(generations, func(g int) bool { return after[g] < 10 })
	})
	s.t.Logf("answers by generation: with the override %v, without %v", during, after)
}

// An override reaches the candidate while both processes serve, and so does its end, by an operator and by its time. It stays
// after an abort.
func TestOverrideReachesACandidate(t *testing.T) {
	s := startSite(t, "-soak", "1h")
	s.release()
	outcome := s.later(t.Context(), "/upgrade")
	s.untilPhase("soak")
	s.mustGive("none", 1, 2)

	if o := s.override(2, "on", "30m", "contrast"); o.Until.Sub(o.At).Round(time.Second) != 30*time.Minute {
		t.Errorf("it ends at %v: %+v", o.Until, o)
	}
	s.mustGive("on", 1, 2)
	s.post("/restore?flag=dark-mode&reason=mended", 200)
	s.mustSay(2, `an override is cleared" name=flags reason=mended`)
	s.mustGive("none", 1, 2)

	s.mustExpire(s.override(2, "on", "2s", "short").Until, 1, 2)
	s.mustGive("none", 1, 2)
	if all := s.status().Flags.Overrides; len(all) > 0 {
		t.Errorf("after the end the status says %+v", all)
	}

	s.override(2, "off", "", "endless")
	s.post("/abort", 200)
	s.decoded(<-outcome, 500)
	s.mustGive("off", 1)
}

// held is an answer that takes its time, and comes from a process that drains.
type held struct {
	reply
	came time.Time
}

// hold makes the upgrade to a program that answers slowly. It returns where its answer for dark-mode will come.
func (s *site) hold(path string) <-chan held {
	s.t.Helper()
	s.releaseTo(path)
	answers := make(chan held, 1)
	go func() {
		b := browser{wire: wire{addr: s.addr}}
		defer b.hangUp()
		header, body, err := b.get("/flag/dark-mode")
		if err != nil {
			body = err.Error()
		}
		answers <- held{reply{header: header, body: body}, time.Now()}
	}()
	testutil.Until(s.t, patience, "the request is under way", func() bool { return s.status().Drain.Active > 0 })
	return answers
}

// releaseTo makes the upgrade to a program.
func (s *site) releaseTo(path string) {
	s.t.Helper()
	s.linkTo(path)
	s.post("/upgrade", 200)
}

// An override is in force in three older generations that drain, and ends in them by its time. The generation with the stream
// tells by its log, the other two by answers that began before the override was made.
func TestOverrideReachesWhoDrains(t *testing.T) {
	slow, slower := badBuild(t, "v2", "slow=3s"), badBuild(t, "v3", "slow=5s") // before the time runs
	s := startSite(t)
	s.holdStream()
	second := s.hold(slow)
	third := s.hold(slower)
	s.releaseTo(build(t, "v1"))
	asked := time.Now()
	s.override(4, "on", "", "contrast")
	s.mustGive("on", 4)
	if a := <-second; a.generation() != 2 || s.overridden(a.body) != "on" {
		t.Errorf("%v after the override: generation %d, %s", a.came.Sub(asked), a.generation(), a.body)
	}
	s.WaitFamily(t, 3, patience) // the second has ended
	until := s.override(3, "on", "500ms", "short").Until
	s.mustExpire(until, 4)
	a := <-third
	if left := until.Sub(a.came); left > 0 || a.generation() != 3 || s.overridden(a.body) != "none" {
		t.Errorf("%v before the end: generation %d, %s", left, a.generation(), a.body)
	}
	t.Logf("the third generation answers %v after the end", a.came.Sub(until))
}

// An override outlives upgrades, and kill -9 of the process that was told. Its end is the same in all processes. A restore ends
// it for later processes too.
func TestOverrideOutlivesProcesses(t *testing.T) {
	s := startSite(t)
	until := s.override(1, "on", "1h", "contrast").Until
	s.releaseTo(build(t, "v2"))
	s.mustGive("on", 2)
	s.signal(syscall.SIGKILL)
	s.mustGive("on", 3)
	if o := s.status().Flags.Overrides["dark-mode"]; !o.Until.Equal(until) || o.Reason != "contrast" {
		t.Errorf("after kill -9 the status says %+v, want an end at %v", o, until)
	}
	s.post("/restore?flag=dark-mode", 200)
	s.mustGive("none", 3)
	s.signal(syscall.SIGKILL)
	s.mustGive("none", 4)
	s.post("/upgrade?force=1", 200)
	s.mustGive("none", 5)
}

// A request that makes no sense is answered with 400, and changes nothing.
func TestOverrideRefused(t *testing.T) {
	s := startSite(t)
	for query, want := range map[string]string{
		"/override?flag=dark-mod&variant=on":               "no such flag",
		"/override?flag=dark-mode&variant=maybe":           `no variant "maybe"`,
		"/override?flag=dark-mode":                         `no variant ""`,
		"/override?variant=on":                             "needs the key of a flag",
		"/override?flag=dark-mode&variant=on&for=tomorrow": `for="tomorrow"`,
		"/override?flag=dark-mode&variant=on&for=-1m":      "is over",
		"/restore": "want the key of the flag",
	} {
		if a := s.post(query, 400); !strings.Contains(a.Reason, want) {
			t.Errorf("%s: %q, want %q", query, a.Reason, want)
		}
	}
	s.mustGive("none", 1)
	s.override(1, "on", "", "contrast")
	if a := s.post("/override?flag=dark-mode&variant=maybe", 400); !strings.Contains(a.Reason, "no variant") {
		t.Errorf("beside an override: %+v", a)
	}
	s.mustGive("on", 1)
	s.post("/restore?flag=banner", 200) // nothing to restore is no mistake
	s.mustGive("on", 1)
}

// An override is in force also if its file cannot be written, and the answer says both. The next change writes the file.
func TestOverrideFileCannotBeWritten(t *testing.T) {
	s := startSite(t)
	file := s.file("flags.json.overrides")
	if err := os.Mkdir(file, 0o700); err != nil {
		t.Fatal(err)
	}
	a := s.post("/override?flag=dark-mode&variant=on", 500)
	if !strings.Contains(a.Reason, "the change is in force in this process, but the file") || !strings.Contains(a.Reason, file) {
		t.Errorf("the answer is %+v", a)
	}
	s.mustGive("on", 1)
	if st := s.status().Flags; st.OverrideError == "" {
		t.Errorf("the status says %+v", st)
	}
	s.post("/restore?flag=dark-mode", 500)
	s.mustGive("none", 1)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	s.override(1, "off", "", "again")
	if st := s.status().Flags; st.OverrideError != "" {
		t.Errorf("with a good file the status says %s", st.OverrideError)
	}
	s.signal(syscall.SIGKILL)
	s.mustGive("off", 2)
}
