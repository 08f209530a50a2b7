package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// asker is a visitor who asks for flags, and compares every answer with the contents that the flag file has had.
type asker struct {
	browser
	*editions
	fresh bool // a connection for each request
	dark  string

	mu sync.Mutex
	askerTally
}

// askerTally is what an asker, or all askers, have counted.
type askerTally struct {
	requests, evaluations int
	lost, wrong           []string
	reasons               map[string]int
	generations           map[string]int // evaluations, by the generation that answered
}

// flagPaths are what askers ask for: each flag through OpenFeature, and all handles at once.
var flagPaths = []string{"/flag/banner", "/flag/dark-mode", "/visitor", "/flag/cart-v2", "/flag/limits"}

// ask sends one request, which is answered, wrong or lost.
func (a *asker) ask(path string) {
	start := a.now.Load()
	header, body, err := a.get(path)
	end := a.now.Load()
	if a.fresh {
		a.hangUp()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.requests++
	switch {
	case header == nil:
		a.lost = append(a.lost, err.Error())
		return
	case err == nil && path == "/visitor":
		err = a.judgeVisitor(body, start, end)
	case err == nil:
		err = a.judgeFlag(body, start, end)
	}
	a.generations[header.Get("X-Generation")]++
	if err != nil {
		a.wrong = append(a.wrong, fmt.Sprintf("%s, generation %s, ticks %d to %d: %v in %s",
			path, header.Get("X-Generation"), start, end, err, strings.Join(strings.Fields(body), " ")))
	}
}

// judgeFlag checks variant and reason of an answer of /flag/.
func (a *asker) judgeFlag(body string, start, end int64) error {
	var got flagAnswer
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		return err
	}
	a.evaluations++
	a.reasons[string(got.Reason)]++
	name, number, _ := strings.Cut(got.Variant, "-")
	var n int
	if _, err := fmt.Sscanf(number, "%d", &n); err != nil || got.Value == nil || got.Error != "" {
		return fmt.Errorf("variant %q, reason %s, error %q: %w", got.Variant, got.Reason, got.Error, err)
	}
	want := map[string]string{"banner": "STATIC", "limits": "STATIC", "cart-v2": "STATIC", "dark-mode": "TARGETING_MATCH"}[got.Key]
	if string(got.Reason) != want {
		return fmt.Errorf("reason %s, want %s", got.Reason, want)
	}
	if got.Key == "dark-mode" {
		return a.judge(n, name, start, end)
	}
	return a.judge(n, a.dark, start, end)
}

// judgeVisitor checks what the handles gave.
func (a *asker) judgeVisitor(body string, start, end int64) error {
	var got visitorAnswer
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		return err
	}
	a.evaluations += 3
	var n int
	if _, err := fmt.Sscanf(got.Banner, "Welcome %d", &n); err != nil {
		return fmt.Errorf("banner %q: %w", got.Banner, err)
	}
	side := map[bool]string{true: "on", false: "off"}[got.Dark]
	if err := a.judge(n, side, start, end); err != nil {
		return err
	}
	return a.judge(int(got.Weight*10000+0.5)-5000, side, start, end)
}

// judge checks that an answer is of a content that it may be of, and that the visitor's side of dark-mode is as before.
func (a *asker) judge(n int, side string, start, end int64) error {
	if !a.allows(n, start, end) {
		return fmt.Errorf("content %d is not that of the file, which has content %d", n, a.last())
	}
	if a.dark == "" {
		a.dark = side
	}
	if side != a.dark {
		return fmt.Errorf("dark-mode went from %s to %s", a.dark, side)
	}
	return nil
}

// askers ask at the same time until the end of the test, or until stop.
type askers struct {
	all  []*asker
	stop func()
}

// startAskers waits until every asker has answers.
func (s *site) startAskers(e *editions, n int) *askers {
	s.t.Helper()
	ending, running := make(chan struct{}), new(sync.WaitGroup)
	as := &askers{stop: sync.OnceFunc(func() { close(ending); running.Wait() })}
	s.t.Cleanup(as.stop)
	for i := range n {
		a := &asker{browser: browser{wire: wire{addr: s.addr}}, editions: e, fresh: i%4 == 3}
		a.reasons, a.generations = map[string]int{}, map[string]int{}
		as.all = append(as.all, a)
		running.Go(func() { a.run(ending) })
	}
	testutil.Until(s.t, patience, "every asker has answers", func() bool {
		for _, a := range as.all {
			if a.tally().evaluations < 20 {
				return as.sum().bad() > 0
			}
		}
		return true
	})
	return as
}

func (a *asker) run(ending <-chan struct{}) {
	defer a.hangUp()
	pause := time.NewTicker(2 * time.Millisecond)
	defer pause.Stop()
	for n := 0; ; n++ {
		select {
		case <-ending:
			return
		case <-pause.C:
			a.ask(flagPaths[n%len(flagPaths)])
		}
	}
}

func (a *asker) tally() askerTally {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.askerTally
	t.reasons, t.generations = maps.Clone(t.reasons), maps.Clone(t.generations)
	return t
}

func (t askerTally) bad() int { return len(t.lost) + len(t.wrong) }

// sum adds up what all askers have counted.
func (as *askers) sum() askerTally {
	total := askerTally{reasons: map[string]int{}, generations: map[string]int{}}
	for _, a := range as.all {
		t := a.tally()
		total.requests, total.evaluations = total.requests+t.requests, total.evaluations+t.evaluations
		total.lost, total.wrong = append(total.lost, t.lost...), append(total.wrong, t.wrong...)
		for reason, n := range t.reasons {
			total.reasons[reason] += n
		}
		for generation, n := range t.generations {
			total.generations[generation] += n
		}
	}
	return total
}

// mustBeRight ends the test if an answer was wrong or lost.
func (as *askers) mustBeRight(t *testing.T, when string) {
	t.Helper()
	sum := as.sum()
	if sum.bad() == 0 {
		return
	}
	for _, what := range append(sum.lost, sum.wrong...)[:min(sum.bad(), 5)] {
		t.Error(what)
	}
	t.Fatalf("%s: %d of %d requests lost, %d wrong", when, len(sum.lost), sum.requests, len(sum.wrong))
}
