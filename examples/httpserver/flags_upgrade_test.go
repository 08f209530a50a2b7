package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/examples/internal/admin"
	"github.com/midair-go/midair/internal/testutil"
)

var (
	flagUpgrades = flag.Int("midair.flag-upgrades", 10, "how many upgrades TestFlagsStayThroughUpgrades makes; half as many fail")
	flagSeed     = flag.Uint64("midair.flag-seed", 0, "`seed` of TestFlagsStayThroughUpgrades; 0: another one each time")
)

// Ways in which upgrades end.
const (
	commits      = "commit"
	failsCheck   = "check"
	diesPrepared = "after-ready"
	hangs        = "hang" // and is aborted
	aborted      = "abort at a random moment"
)

// Moments at which the file is touched.
const (
	before  = "before the upgrade"
	atStart = "when the new process starts"
	within  = "within the upgrade"
)

// flagTrial is a service whose flag file is touched while it is upgraded.
type flagTrial struct {
	*site
	disk   *flagDisk
	askers *askers

	touches, endings, moments, flaws deck // what comes next
	planted, noticed, touched        map[string]int
	ended                            map[string]int // upgrades, by way
	slowest                          map[string]int64
}

// deck gives what it was made of in a random order, again and again.
type deck struct {
	rnd  *rand.Rand
	of   []string
	left []string
}

func (d *deck) next() string {
	if len(d.left) == 0 {
		d.left = slices.Clone(d.of)
		d.rnd.Shuffle(len(d.left), func(i, j int) { d.left[i], d.left[j] = d.left[j], d.left[i] })
	}
	card := d.left[0]
	d.left = d.left[1:]
	return card
}

// startFlagTrial starts the service with content 1 in its flag file.
func startFlagTrial(t *testing.T) *flagTrial {
	seed := *flagSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-midair.flag-seed=%d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	kinds := slices.Sorted(maps.Keys(breakages))
	f := &flagTrial{
		touches: deck{rnd: rnd, of: slices.Concat(kinds, renewals)},
		endings: deck{rnd: rnd, of: []string{failsCheck, diesPrepared, hangs, aborted}},
		moments: deck{rnd: rnd, of: []string{before, atStart, within}},
		flaws:   deck{rnd: rnd, of: kinds},
		planted: map[string]int{}, noticed: map[string]int{}, touched: map[string]int{},
		ended: map[string]int{}, slowest: map[string]int64{},
	}
	f.site = startSite(t)
	for _, fail := range []string{commits, failsCheck, diesPrepared, hangs} {
		f.candidate(fail) // is built before the load starts
	}
	f.disk = &flagDisk{editions: startEditions(t), t: t, path: f.file("flags.json"), rnd: rnd}
	t.Cleanup(f.disk.hangUp)
	f.disk.renew(renewals[0])
	f.askers = &askers{}
	f.untilNoticed()
	f.askers = f.startAskers(f.disk.editions, 8)
	return f
}

// random chooses one of the ways in which the file is renewed.
func (f *flagTrial) random() string { return renewals[f.disk.rnd.IntN(len(renewals))] }

// untilNoticed waits until the service, which is one process by then, goes by the file as it is, or says why it does not.
func (f *flagTrial) untilNoticed() {
	f.t.Helper()
	began, what := f.disk.now.Load(), "good"
	if f.disk.broken != "" {
		what = f.disk.broken
	}
	var st siteView
	ok := testutil.Within(patience, func() bool {
		st = f.status()
		over, state := f.disk.now.Load()-began > 2*noticing, st.Flags.State
		if f.disk.broken != "" {
			return over || strings.HasPrefix(state, "stale: ") && strings.Contains(state, breakages[f.disk.broken])
		}
		return over || state == "ready" && st.Canary.Weight == shareOf(f.disk.last())
	})
	took := f.disk.now.Load() - began
	if f.slowest[what] = max(f.slowest[what], took); !ok || took > noticing {
		f.askers.mustBeRight(f.t, what)
		f.t.Fatalf("file %s, content %d: not noticed within %d ticks: weight %v, %+v",
			what, f.disk.last(), noticing, st.Canary.Weight, st.Flags)
	}
	if st.Flags.EvaluationErrors > 0 {
		f.t.Errorf("%d evaluations in error", st.Flags.EvaluationErrors)
	}
	f.noticed[what]++
	f.disk.settled()
}

// round makes an upgrade that ends in a way, while the file is touched at some moment.
func (f *flagTrial) round(way string) {
	f.t.Helper()
	touch, moment := f.touches.next(), f.moments.next()
	f.touched[moment]++
	name := fmt.Sprintf("upgrade %d (%s), file %s %s", 1+f.ended[commits], way, touch, moment)
	f.linkTo(f.candidate(way))
	if moment == before {
		f.touch(touch)
	}
	outcome := f.later(context.Background(), "/upgrade?force=1")
	switch moment {
	case atStart:
		f.untilStarted(outcome)
		f.touch(touch)
	case within:
		f.disk.pause(300 * time.Millisecond)
		f.touch(touch)
	}
	f.conclude(way, outcome)
	f.alone()
	f.untilNoticed()
	if slices.Contains(sameLooks, touch) {
		f.again(touch)
	}
	f.askers.mustBeRight(f.t, name)
}

// candidate returns the program for an upgrade that ends in a way.
func (f *flagTrial) candidate(way string) string {
	switch way {
	case commits, aborted:
		return build(f.t, fmt.Sprint("v", 1+(1+f.ended[commits])%2))
	}
	return badBuild(f.t, "v2", way)
}

// touch makes the file bad, or gives it the next content. Before that the file gets bad and good again some times, too
// fast for a look each second.
func (f *flagTrial) touch(what string) {
	f.t.Helper()
	for range f.disk.rnd.IntN(3) {
		flaw := f.flaws.next()
		f.disk.spoil(flaw)
		f.touched[flaw]++
		f.disk.pause(30 * time.Millisecond)
		f.disk.renew(f.random())
		f.touched["restored"]++
		f.disk.pause(30 * time.Millisecond)
	}
	f.planted[what]++
	if _, bad := breakages[what]; !bad {
		f.disk.change(what)
		return
	}
	f.disk.spoil(what)
}

// untilStarted waits until the new process runs, or the upgrade has ended.
func (f *flagTrial) untilStarted(outcome <-chan reply) {
	f.t.Helper()
	testutil.Until(f.t, patience, "the new process starts", func() bool {
		c := f.status().Upgrade.Candidate
		return c != nil && c.PID != 0 || len(outcome) > 0
	})
}

// conclude ends the upgrade in its way, and checks that it did end so.
func (f *flagTrial) conclude(way string, outcome <-chan reply) {
	f.t.Helper()
	switch way {
	case commits:
		f.decoded(<-outcome, 200)
	case hangs:
		f.untilStarted(outcome)
		f.post("/abort", 200)
		f.decoded(<-outcome, 500)
	case aborted:
		f.disk.pause(300 * time.Millisecond)
		if _, err := f.operate(context.Background(), "POST", "/abort"); err != nil {
			f.t.Fatal(err)
		}
		r := <-outcome
		var a admin.Answer
		if err := json.Unmarshal([]byte(r.body), &a); err != nil || r.status != 200 && !strings.Contains(a.Reason, "asked for") {
			f.t.Fatalf("%v: %d %s", err, r.status, r.body)
		}
		if r.status == 200 {
			way = commits // the abort came too late
		}
	default:
		f.decoded(<-outcome, 500)
	}
	f.ended[way]++
}

// alone waits until one process serves.
func (f *flagTrial) alone() {
	f.t.Helper()
	testutil.Until(f.t, patience, "one process serves", func() bool {
		st := f.status().Upgrade
		return st.Candidate == nil && st.State == "serving" && st.PID == f.mainPID()
	})
	f.WaitFamily(f.t, 1, patience)
}

// again gives the file the next content once more in the same way. The service has read the file before, so neither the size
// nor the time of the file tell of a change.
func (f *flagTrial) again(way string) {
	f.t.Helper()
	old, err := os.Stat(f.disk.path)
	f.disk.must(err)
	f.disk.change(way)
	info, err := os.Stat(f.disk.path)
	f.disk.must(err)
	if old.Size() != info.Size() || !old.ModTime().Equal(info.ModTime()) {
		f.t.Errorf("%s: %d bytes of %v, before %d of %v", way, info.Size(), info.ModTime(), old.Size(), old.ModTime())
	}
	f.planted[way]++
	f.untilNoticed()
}

// Flags stay what they are through good and failed upgrades under load, while the flag file is deleted, corrupted, written in
// two halves, truncated, replaced with the same size and time, rewritten with the time put back, swapped through a link and made
// good again, before upgrades, in the middle of upgrades, and at the moment when the new process starts. No evaluation ends in an
// error, and no value changes for a visitor unless the file has got another good content.
func TestFlagsStayThroughUpgrades(t *testing.T) {
	f := startFlagTrial(t)
	l := f.load()
	began := time.Now()
	for n := 1; f.ended[commits] < *flagUpgrades; n++ {
		way := commits
		if n%3 == 0 {
			way = f.endings.next()
		}
		f.round(way)
	}
	if f.disk.broken != "" {
		f.disk.renew(f.random())
		f.untilNoticed()
	}
	f.askers.stop()
	f.askers.mustBeRight(t, "at the end")
	report := l.Stop()
	if len(report.Failed) > 0 {
		t.Errorf("%v\nthe first: %v", report, report.Failed[0])
	}
	f.account(time.Since(began), report.Total)
}

// account checks that every kind of fault was planted and noticed, and logs the figures.
func (f *flagTrial) account(took time.Duration, others int) {
	sum := f.askers.sum()
	if strings.Contains(f.Output(), "DATA RACE") {
		f.t.Error("a process has a data race")
	}
	for _, kind := range f.touches.of {
		if f.planted[kind] == 0 {
			f.t.Errorf("never planted: %s", kind)
		}
		if want, bad := breakages[kind]; bad && (f.noticed[kind] == 0 || !strings.Contains(f.Output(), want)) {
			f.t.Errorf("never noticed: %s", kind)
		}
	}
	if sum.reasons["ERROR"] > 0 || len(sum.generations) <= f.ended[commits] {
		f.t.Errorf("reasons %v, generations %v", sum.reasons, sum.generations)
	}
	f.t.Logf("%v: upgrades %v; %d requests with %d evaluations, %d other requests; reasons %v", took.Round(time.Millisecond),
		f.ended, sum.requests, sum.evaluations, others, sum.reasons)
	f.t.Logf("planted to stay %v, noticed %v; planted for a moment, and moments: %v; contents %d; slowest notice in ticks %v",
		f.planted, f.noticed, f.touched, f.disk.last(), f.slowest)
}
