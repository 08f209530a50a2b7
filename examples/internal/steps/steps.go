// Package steps makes an upgrade progressive: the new process gets a growing share of the connections, and is judged by
// plain thresholds on what both processes report. It stands in for a judge that knows statistics.
package steps

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/midair-go/midair/upgrade"
)

// Step is a weight and how long it lasts.
type Step struct {
	Weight float64       `json:"weight"`
	For    time.Duration `json:"for"`
}

// Plan is what comes before a commit, as a flag such as "5%:10s,25%:10s,100%:10s". Its zero value is empty.
type Plan []Step

// String gives the plan as Set reads it.
func (p *Plan) String() string {
	var parts []string
	for _, s := range *p {
		parts = append(parts, fmt.Sprintf("%s%%:%v", strconv.FormatFloat(s.Weight*100, 'f', -1, 64), s.For))
	}
	return strings.Join(parts, ",")
}

// Set reads a plan.
func (p *Plan) Set(text string) error {
	*p = nil
	for part := range strings.SplitSeq(text, ",") {
		share, lasts, ok := strings.Cut(part, ":")
		percent, err1 := strconv.ParseFloat(strings.TrimSuffix(share, "%"), 64)
		d, err2 := time.ParseDuration(lasts)
		if err := errors.Join(err1, err2); err != nil || !ok || !strings.HasSuffix(share, "%") {
			return fmt.Errorf(`step %q: want it like "5%%:10s"`, part)
		}
		if !(percent > 0 && percent <= 100) || d <= 0 {
			return fmt.Errorf("step %q: want more than 0%% and at most 100%%, and a time of more than 0", part)
		}
		*p = append(*p, Step{percent / 100, d})
	}
	return nil
}

// What the judge minds. It does not promote a process of which it knows nothing.
const (
	enough      = 20   // requests of the new process, before it is judged at all
	moreErrors  = 0.05 // share of errors above that of the old process
	slower      = 2    // times the mean latency of the old process,
	slowerBy    = 50 * time.Millisecond
	lookEvery   = 50 * time.Millisecond
	reportEvery = 100 * time.Millisecond
	channel     = "steps.figures"
)

// Progress is how far an upgrade is, for a status page.
type Progress struct {
	Step   int     `json:"step"` // from 1
	Steps  int     `json:"steps"`
	Weight float64 `json:"weight"`
	Left   string  `json:"left"` // of the step
	Stable Figures `json:"stable"`
	Canary Figures `json:"canary"`
}

// Judge compares the two processes of a progressive upgrade.
type Judge struct {
	plan  Plan
	meter *Meter

	mu     sync.Mutex
	now    *Progress
	until  time.Time
	canary Figures
}

// NewJudge returns the judge of a process whose requests the meter counts.
func NewJudge(p Plan, m *Meter) *Judge { return &Judge{plan: p, meter: m} }

// Progress returns how far the upgrade is that is under way; nil if there is none.
func (j *Judge) Progress() *Progress {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.now == nil {
		return nil
	}
	p := *j.now
	p.Left, p.Canary = time.Until(j.until).Round(time.Second/10).String(), j.canary
	return &p
}

// Bake is for upgrade.Options; nil for an empty plan.
func (j *Judge) Bake() func(context.Context, *upgrade.Candidate) error {
	if len(j.plan) == 0 {
		return nil
	}
	return j.bake
}

func (j *Judge) bake(ctx context.Context, c *upgrade.Candidate) error {
	begin := j.meter.Figures()
	j.set(func() { j.now, j.canary = &Progress{Steps: len(j.plan)}, Figures{} })
	defer j.set(func() { j.now = nil })
	c.Subscribe(channel, func(b []byte) error {
		var f Figures
		err := json.Unmarshal(b, &f)
		j.set(func() { j.canary = f })
		return err
	})
	for n, s := range j.plan {
		if err := c.SetWeight(s.Weight); err != nil {
			return err
		}
		j.set(func() { j.now.Step, j.now.Weight, j.until = n+1, s.Weight, time.Now().Add(s.For) })
		if err := j.watch(ctx, s, begin); err != nil {
			return err
		}
	}
	return nil
}

func (j *Judge) set(fn func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	fn()
}

// watch looks on until the step is over.
func (j *Judge) watch(ctx context.Context, s Step, begin Figures) error {
	look, end := time.NewTicker(lookEvery), time.NewTimer(s.For)
	defer look.Stop()
	defer end.Stop()
	before := j.reported()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
			stable, canary := j.meter.Figures().since(begin), j.reported()
			j.set(func() { j.now.Stable = stable })
			if err := verdict(stable, canary); err != nil {
				return err
			}
		case <-end.C:
			if j.reported().Requests == before.Requests {
				return fmt.Errorf("inconclusive: the new process has answered no request at weight %v", s.Weight)
			}
			return nil
		}
	}
}

func (j *Judge) reported() Figures {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.canary
}

// verdict says what is wrong with the new process.
func verdict(stable, canary Figures) error {
	if canary.Requests < enough {
		return nil
	}
	if canary.ErrorRate() > stable.ErrorRate()+moreErrors {
		return fmt.Errorf("regression: %.0f %% errors in %d requests of the new process, %.0f %% in %d of the old one",
			100*canary.ErrorRate(), canary.Requests, 100*stable.ErrorRate(), stable.Requests)
	}
	if stable.Requests >= enough && canary.Mean() > slower*stable.Mean()+slowerBy {
		return fmt.Errorf("regression: a request takes %v on average in the new process, %v in the old one", canary.Mean(), stable.Mean())
	}
	return nil
}
