package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// guest is a visitor who asks without a pause, now and then in several requests at once, and writes down every answer.
type guest struct {
	browser

	mu     sync.Mutex
	rounds int
	counts []int    // the answers of /count
	sides  []string // the answers of /cart, without repetitions
	lost   []error
}

func (g *guest) count(b *browser) {
	_, body, err := b.get("/count")
	n := 0
	if err == nil {
		n, err = strconv.Atoi(body)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil {
		g.lost = append(g.lost, err)
		return
	}
	g.counts = append(g.counts, n)
}

func (g *guest) cart() {
	_, side, err := g.get("/cart")
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rounds++
	if err != nil {
		g.lost = append(g.lost, err)
	} else if n := len(g.sides); n == 0 || g.sides[n-1] != side {
		g.sides = append(g.sides, side)
	}
}

// atOnce asks for the count on some connections at the same time.
func (g *guest) atOnce(n int) {
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			b := &browser{wire: wire{addr: g.addr}, cookie: g.cookie}
			defer b.hangUp()
			g.count(b)
		})
	}
	all.Wait()
}

// seen is what g has written down.
func (g *guest) seen() (rounds int, counts []int, sides []string, lost []error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.rounds, slices.Clone(g.counts), slices.Clone(g.sides), slices.Clone(g.lost)
}

// path is the way that g took between the sides.
func (g *guest) path() string {
	_, _, sides, _ := g.seen()
	return strings.Join(sides, " ")
}

// forget leaves the present side only.
func (g *guest) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sides = g.sides[len(g.sides)-1:]
}

// final is the count that the service has.
func (g *guest) final() (int, error) {
	var a visitorAnswer
	_, body, err := g.get("/visitor")
	if err == nil {
		err = json.Unmarshal([]byte(body), &a)
	}
	return a.Count, err
}

// crowd is a number of guests.
type crowd struct {
	t      *testing.T
	guests []*guest
	end    func()
}

// startCrowd lets guests come until the end of the test, or until stop.
func (s *site) startCrowd(n int) *crowd {
	s.t.Helper()
	ending, running := make(chan struct{}), new(sync.WaitGroup)
	c := &crowd{t: s.t, end: sync.OnceFunc(func() { close(ending); running.Wait() })}
	s.t.Cleanup(c.end)
	for range n {
		g := &guest{browser: browser{wire: wire{addr: s.addr}}}
		c.guests = append(c.guests, g)
		running.Go(func() { g.visit(ending) })
	}
	c.pass()
	return c
}

func (g *guest) visit(ending <-chan struct{}) {
	defer g.hangUp()
	pause := time.NewTicker(20 * time.Millisecond)
	defer pause.Stop()
	for i := 1; ; i++ {
		select {
		case <-ending:
			return
		case <-pause.C:
		}
		g.count(&g.browser)
		if i%4 == 0 {
			g.atOnce(3)
		}
		g.cart()
	}
}

// pass waits until every guest has begun and ended a round.
func (c *crowd) pass() {
	c.t.Helper()
	want := map[*guest]int{}
	for _, g := range c.guests {
		rounds, _, _, _ := g.seen()
		want[g] = rounds + 2
	}
	testutil.Until(c.t, patience, "every guest comes by", func() bool {
		for g, n := range want {
			if rounds, _, _, _ := g.seen(); rounds < n {
				return false
			}
		}
		return true
	})
}

// stop ends the visits and accounts for every request: those that were answered are counted, each once. It returns how
// many requests were answered and how many were not.
func (c *crowd) stop() (answered, lost int) {
	c.t.Helper()
	c.end()
	for i, g := range c.guests {
		_, counts, _, failed := g.seen()
		final, err := g.final()
		g.hangUp()
		slices.Sort(counts)
		distinct := len(slices.Compact(slices.Clone(counts)))
		if err != nil || distinct != len(counts) || final < len(counts) || final > len(counts)+len(failed) {
			c.t.Errorf("guest %d: %d answers, %d of them different, %d lost: the count is %d, %v", i, len(counts), distinct, len(failed), final, err)
		}
		answered, lost = answered+len(counts), lost+len(failed)
	}
	return answered, lost
}

// mustLoseNothing is stop where no request may be lost.
func (c *crowd) mustLoseNothing() (answered int) {
	c.t.Helper()
	answered, lost := c.stop()
	if lost == 0 {
		return answered
	}
	for i, g := range c.guests {
		if _, _, _, failed := g.seen(); len(failed) > 0 {
			c.t.Errorf("guest %d has lost %d requests: %v", i, len(failed), failed[0])
		}
	}
	return answered
}

// mustGo fails if a guest took another way between the sides than one of these. It returns how many took each.
func (c *crowd) mustGo(paths ...string) map[string]int {
	c.t.Helper()
	n := map[string]int{}
	for i, g := range c.guests {
		path := g.path()
		if n[path]++; !slices.Contains(paths, path) {
			c.t.Errorf("guest %d went %q, want one of %q", i, path, paths)
		}
	}
	return n
}

// forget makes the present side of each guest its first.
func (c *crowd) forget() {
	for _, g := range c.guests {
		g.forget()
	}
}

// flagFile is the default file with another weight.
func flagFile(weight string) string {
	return strings.Replace(defaultFlags, `"defaultVariant": "0%"`, `"defaultVariant": "`+weight+`"`, 1)
}

// weigh edits the flag file and waits until the service, which is one process by then, goes by it.
func (s *site) weigh(variant string) {
	s.t.Helper()
	var percent float64
	_, err := fmt.Sscanf(variant, "%f%%", &percent)
	if err := errors.Join(err, writeFile(s.file("flags.json"), flagFile(variant))); err != nil {
		s.t.Fatal(err)
	}
	testutil.Until(s.t, patience, "a weight of "+variant, func() bool {
		st := s.status()
		return st.Canary.Weight == percent/100 && strings.HasPrefix(st.Flags.State, "ready")
	})
}

// serving waits until this generation serves alone.
func (s *site) serving(generation int) {
	s.t.Helper()
	testutil.Until(s.t, patience, fmt.Sprintf("generation %d serves", generation), func() bool {
		st := s.status()
		return st.Upgrade.Generation == generation && st.Upgrade.State == "serving" && st.Upgrade.PID == s.mainPID()
	})
	s.WaitFamily(s.t, 1, patience)
}

// mustEvaluate fails if flags were evaluated in error.
func (s *site) mustEvaluate() {
	s.t.Helper()
	if n := s.status().Flags.EvaluationErrors; n > 0 {
		s.t.Errorf("%d evaluations in error", n)
	}
}
