package sessionsoak

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"
)

// hybridThink is the pause of a visitor of the hybrid between two requests.
const hybridThink = 300 * time.Millisecond

// A hybridVisitor is a visitor that also checks who answers, on which side, and what the flag "banner" is.
type hybridVisitor struct {
	visitor
	crowd *hybridCrowd

	version   string              // of the last answer
	weight    float64             // of the last answer
	asStable  float64             // the greatest weight at which the visitor was stable; -1 if never
	asCanary  float64             // the least weight at which the visitor was on the canary; +Inf if never
	canaries  map[string]struct{} // the versions that have answered on the canary
	failures  int                 // answers of a canary that is bad
	drawn     int                 // answers at a weight above 0
	mostSpent time.Duration       // of a request
}

// A hybridCrowd is all visitors of a hybrid, half of which keep their connections, and what they may expect.
type hybridCrowd struct {
	crowd
	all []*hybridVisitor

	mu     sync.Mutex
	only   string // the version that must answer a request that begins now; empty: any
	bad    bool   // the canary may fail
	banner bannerState
}

// bannerState is what has become of the flag "banner". Version v1 does not have the flag.
type bannerState uint8

const (
	bannerOn     bannerState = iota
	bannerEdited             // the file has changed
	bannerOff                // an answer was without the banner: no later request may have it
)

func newHybridCrowd(t *testing.T, n int, addr string) *hybridCrowd {
	c := &hybridCrowd{crowd: crowd{end: make(chan struct{})}}
	for i := range n {
		v := &hybridVisitor{
			visitor: visitor{addr: addr, fresh: i%2 == 0}, crowd: c,
			asStable: -1, asCanary: math.Inf(1), canaries: map[string]struct{}{},
		}
		c.all = append(c.all, v)
		c.visitors = append(c.visitors, &v.visitor)
	}
	for i, v := range c.all {
		c.crowd.all.Go(func() { // until the crowd is stopped
			if v.pause(hybridThink * time.Duration(i) / time.Duration(n)) {
				v.run()
			}
		})
	}
	c.stop = sync.OnceFunc(func() {
		close(c.end)
		c.crowd.all.Wait()
	})
	t.Cleanup(c.stop)
	return c
}

// expects returns what the crowd expects of a request that begins now.
func (c *hybridCrowd) expects() (only string, bad bool, banner bannerState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.only, c.bad, c.banner
}

func (c *hybridCrowd) expect(fn func(*hybridCrowd)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fn(c)
}

// count returns the number of visitors for which fn is true.
func (c *hybridCrowd) count(fn func(*hybridVisitor) bool) (n int) {
	for _, v := range c.all {
		v.mu.Lock()
		if fn(v) {
			n++
		}
		v.mu.Unlock()
	}
	return n
}

// answers returns how many answers each visitor has got.
func (c *hybridCrowd) answers() (all []int) {
	for _, v := range c.all {
		v.mu.Lock()
		all = append(all, v.counted+v.failures)
		v.mu.Unlock()
	}
	return all
}

// run asks until the crowd is stopped.
func (v *hybridVisitor) run() {
	defer v.hangUp()
	for {
		v.ask()
		if !v.pause(hybridThink) {
			return
		}
	}
}

// pause reports whether the crowd goes on after d.
func (v *hybridVisitor) pause(d time.Duration) bool {
	select {
	case <-v.crowd.end:
		return false
	case <-time.After(d):
		return true
	}
}

// ask sends one request and checks the answer. It takes the place of the method of visitor.
func (v *hybridVisitor) ask() {
	only, bad, banner := v.crowd.expects()
	begin := time.Now()
	resp, body, err := v.exchange()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.mostSpent = max(v.mostSpent, time.Since(begin))
	if err != nil {
		v.hangUp()
		v.complain("a request is lost: %v", err)
		return
	}
	h := resp.Header
	v.version = h.Get("X-Version")
	switch {
	case resp.StatusCode == http.StatusOK:
		v.number(body)
	case resp.StatusCode == http.StatusInternalServerError && bad && h.Get("X-Side") == "canary":
		v.failures++
	default:
		v.complain("%s of %s: %s", resp.Status, v.version, body)
	}
	if only != "" && v.version != only {
		v.complain("%s answers, and only %s may", v.version, only)
	}
	v.side(h)
	v.sees(h.Get("X-Banner"), banner)
}

// complain notes what is wrong. The caller holds mu.
func (v *hybridVisitor) complain(format string, args ...any) {
	v.wrong = append(v.wrong, fmt.Sprintf(format, args...))
}

// side checks that the weight alone decides the side: there is one limit for all processes, and the visitor is on the canary at
// greater weights, and stable at smaller ones.
func (v *hybridVisitor) side(h http.Header) {
	weight, err := strconv.ParseFloat(h.Get("X-Weight"), 64)
	switch side := h.Get("X-Side"); {
	case err != nil:
		v.complain("the weight is %q", h.Get("X-Weight"))
		return
	case side == "stable":
		v.asStable = max(v.asStable, weight)
	case side == "canary":
		v.asCanary = min(v.asCanary, weight)
		v.canaries[v.version] = struct{}{}
	default:
		v.complain("the side is %q", side)
	}
	if v.asStable >= v.asCanary {
		v.complain("stable at a weight of %v, and on the canary at %v", v.asStable, v.asCanary)
	}
	v.weight = weight
	if weight > 0 {
		v.drawn++
	}
}

// sees checks the flag "banner" in an answer. before is the state of the flag when the request was sent.
func (v *hybridVisitor) sees(banner string, before bannerState) {
	if v.version == "v1" {
		return
	}
	c := v.crowd
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case banner == "true" && before == bannerOff:
		v.complain("%s has a banner after an answer without it", v.version)
	case banner == "false" && c.banner == bannerOn:
		v.complain("%s has no banner", v.version)
	case banner == "false":
		c.banner = bannerOff
	}
}
