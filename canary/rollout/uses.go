package rollout

import (
	"maps"
	"slices"
	"sync"

	"github.com/midair-go/midair/canary/judge"
)

const (
	maxUses    = 16  // names of outcomes
	maxUseName = 64  // bytes of a name
	maxSenders = 256 // processes
)

// A Use has the counts of an outcome that the program has defined and counted by Record, such as an abandoned purchase. A
// Rollout does not act on a Use; a function Options.Opinion can.
type Use struct {
	Name   string `json:"name"`
	Stable Share  `json:"stable"`
	Canary Share  `json:"canary"`
}

// A Share is how many outcomes a side has had, how many of them were bad, and the rate of bad outcomes with its interval.
type Share struct {
	Bad  uint64     `json:"bad"`
	All  uint64     `json:"all"`
	Rate judge.Rate `json:"rate"`
}

// counted has the counters of all processes: by process and by name, the bad and all outcomes of stable, and those of the canary.
type counted map[string]map[string][4]uint64

// uses counts what Record gets. The counters of other processes are joined by the greater number, so that they may come twice.
type uses struct {
	mu  sync.Mutex
	own string // the name of this process
	all counted
}

// add counts an outcome of the canary if of is true, else of stable. It reports whether there was room for the name.
func (u *uses) add(name string, onCanary, bad bool) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.all == nil {
		u.all = counted{}
	}
	mine := u.all[u.own]
	if mine == nil {
		mine = map[string][4]uint64{}
		u.all[u.own] = mine
	}
	n, known := mine[name]
	if !known && len(mine) >= maxUses {
		return false
	}
	side := 0
	if onCanary {
		side = 2
	}
	if bad {
		n[side]++
	}
	n[side+1]++
	mine[name] = n
	return true
}

// counted returns a copy of the counters.
func (u *uses) counted() counted {
	u.mu.Lock()
	defer u.mu.Unlock()
	c := counted{}
	for sender, names := range u.all {
		c[sender] = maps.Clone(names)
	}
	return c
}

// mine returns a copy of the counters of this process.
func (u *uses) mine() counted {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.all == nil {
		return nil
	}
	return counted{u.own: maps.Clone(u.all[u.own])}
}

// join adds the counters of other processes.
func (u *uses) join(other counted) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.all == nil {
		u.all = counted{}
	}
	for sender, names := range other {
		if u.all[sender] == nil {
			if len(u.all) >= maxSenders {
				continue
			}
			u.all[sender] = map[string][4]uint64{}
		}
		for name, n := range names {
			mine := u.all[sender][name]
			for i := range n {
				mine[i] = max(mine[i], n[i])
			}
			u.all[sender][name] = mine
		}
	}
}

func (u *uses) status(alpha float64) (all []Use) {
	sums := map[string][4]uint64{}
	for _, names := range u.counted() {
		for name, n := range names {
			sum := sums[name]
			for i := range n {
				sum[i] += n[i]
			}
			sums[name] = sum
		}
	}
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		n := sums[name]
		all = append(all, Use{name, shareOf(n[0], n[1], alpha), shareOf(n[2], n[3], alpha)})
	}
	return all
}

func shareOf(bad, all uint64, alpha float64) Share {
	return Share{Bad: bad, All: all, Rate: judge.NewRate(bad, all, alpha)}
}
