package keyring

import (
	"slices"
	"time"
)

// The states of a key, in the order in which a key passes through them. After Retiring a key is dropped: it is not in the
// Rotation any more.
const (
	AcceptOnly = "accept-only" // opens, and will seal later
	Active     = "active"      // seals
	Retiring   = "retiring"    // opens what it has sealed before
)

// A Rotation decides which key seals: a key opens in every process before it seals in one. The owner configures the keys of its
// own process, and passes on the keys that other processes have sent. The first of its own keys that fulfils two conditions
// seals:
//   - The key has settled: the process started with the key, or Settle has passed since the key came. By then, all processes
//     that hear of changes by themselves have the key, such as processes that read the same file.
//   - The other process has the key too, or there is no other process. If the other process hears of changes by itself, and
//     the key came too late for its list, the first condition is enough.
//
// If no key fulfils both conditions, the key that seals now goes on, as long as the other process has that key. Otherwise the
// first key of the other process seals. If there is no other process, the last own key seals.
//
// Keys may be called from any goroutine. For all other methods the owner uses a lock of its own, and calls Arrange after
// changes. The fields are set before the first use.
type Rotation[K Key] struct {
	// Limit is the number of keys that are kept. The keys of other processes go first, the oldest before the others.
	Limit int
	// Settle is how long a new key opens before it seals.
	Settle time.Duration
	// Insist makes the first own key seal in any case, as hosts need it that share keys and do not rotate them by time.
	Insist bool

	inUse   Ring[K]
	own     []K // configured, the preferred one first
	retired []K // were configured
	peer    []K // what the other process had last
	older   []K // what other processes had before
	follows bool
	since   map[string]time.Time // when an own key came, by secret; missing: it has settled
	lacking map[string]bool      // own keys that the other process had the time to get, and has not
	dropped map[string]bool
}

// Keys returns the keys in use: first the key that seals, and then all other keys. The caller must not change the slice.
func (r *Rotation[K]) Keys() []K { return r.inUse.Keys() }

// Own returns the configured keys, the preferred one first.
func (r *Rotation[K]) Own() []K { return r.own }

// Empty reports whether there is no key at all.
func (r *Rotation[K]) Empty() bool {
	return len(r.own)+len(r.retired)+len(r.peer)+len(r.older) == 0
}

// HasPeer reports whether the keys of another process were learned.
func (r *Rotation[K]) HasPeer() bool { return len(r.peer) > 0 }

// Configure replaces the own keys. Keys that are new came at the given time; the zero time makes them settled. Keys that were
// configured before and are missing in the list retire.
func (r *Rotation[K]) Configure(keys []K, came time.Time) {
	since := map[string]time.Time{}
	for _, k := range slices.Concat(keys, r.own, r.retired) { // a key that comes back waits for the rest of its time only
		delete(r.dropped, k.Secret())
		if at, waits := r.since[k.Secret()]; waits {
			since[k.Secret()] = at
		} else if !Contains(r.own, k) && !Contains(r.retired, k) && !came.IsZero() {
			since[k.Secret()] = came
		}
	}
	r.retired = r.without(append(slices.Clone(r.own), r.retired...), keys)
	r.own, r.since = slices.Clone(keys), since
}

// Learn takes in the keys of the other process, in the order of Keys there. The argument follows says that the other process
// hears of changes by itself, so this process need not tell.
func (r *Rotation[K]) Learn(keys []K, follows bool, now time.Time) {
	if follows && len(r.peer)+len(r.older) == 0 {
		r.wait(keys, now)
	}
	r.older = r.without(append(slices.Clone(r.peer), r.older...), keys)
	r.peer, r.follows = slices.Clone(keys), follows
	r.lacking = map[string]bool{}
	for _, k := range r.own {
		r.lacking[k.Secret()] = r.settled(k, now)
	}
}

// wait lets the own keys wait that are preferred to the one with which the other process seals. At the start of this process
// nothing may have told how new these keys are, and the other process knows.
func (r *Rotation[K]) wait(peer []K, now time.Time) {
	for _, k := range r.own {
		if Contains(firstOf(peer), k) {
			return
		}
		if r.settled(k, now) {
			r.since[k.Secret()] = now
		}
	}
}

// Remember takes in keys that open, and seal only if there are no other keys.
func (r *Rotation[K]) Remember(keys ...K) {
	r.older = r.without(append(slices.Clone(keys), r.older...), nil)
}

// Drop removes the keys for which match returns true. If another process sends a removed key later, the key is left out. Drop
// returns the number of removed keys. A removed key that is configured again is a new key.
func (r *Rotation[K]) Drop(match func(K) bool) int {
	n := 0
	if r.dropped == nil {
		r.dropped = map[string]bool{}
	}
	for _, list := range []*[]K{&r.own, &r.retired, &r.peer, &r.older} {
		*list = slices.DeleteFunc(slices.Clone(*list), func(k K) bool {
			if match(k) {
				n++
				r.dropped[k.Secret()] = true
			}
			return match(k)
		})
	}
	return n
}

// Arrange puts the keys in the order of use, and returns when the next key will have settled: then Arrange has to be called
// again. If no key waits, Arrange returns the zero time.
func (r *Rotation[K]) Arrange(now time.Time) (next time.Time) {
	r.peer = slices.DeleteFunc(r.peer, func(k K) bool { return r.dropped[k.Secret()] })
	for _, first := range firstOf(r.inUse.Set(r.Limit, r.sealing(now), r.own, r.retired, r.peer, r.older)) {
		delete(r.since, first.Secret()) // it has settled once and for all
	}
	for _, k := range r.own {
		if r.settled(k, now) {
			continue
		}
		if at := r.since[k.Secret()].Add(r.Settle); next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next
}

// sealing returns the key that seals, in a list. The list is empty if the order of the lists decides.
func (r *Rotation[K]) sealing(now time.Time) []K {
	if r.Insist {
		return nil
	}
	for _, k := range r.own {
		if r.settled(k, now) && r.accepted(k) {
			return []K{k}
		}
	}
	for _, k := range firstOf(r.inUse.Keys()) {
		if (Contains(r.own, k) || Contains(r.retired, k)) && (len(r.peer) == 0 || Contains(r.peer, k)) {
			return []K{k}
		}
	}
	if len(r.peer) > 0 {
		return firstOf(r.peer)
	}
	return r.own[max(0, len(r.own)-1):]
}

func (r *Rotation[K]) settled(k K, now time.Time) bool {
	at, waits := r.since[k.Secret()]
	return !waits || now.Sub(at) >= r.Settle
}

// accepted reports whether the other process opens what an own key seals.
func (r *Rotation[K]) accepted(k K) bool {
	return len(r.peer) == 0 || Contains(r.peer, k) || r.follows && !r.lacking[k.Secret()]
}

// State returns the state of a key that is in use.
func (r *Rotation[K]) State(k K) string {
	at := func(k K) int { return slices.IndexFunc(r.own, func(o K) bool { return o.Secret() == k.Secret() }) }
	first := r.inUse.Keys()[0]
	_, fresh := r.since[k.Secret()]
	switch i := at(k); {
	case k.Secret() == first.Secret():
		return Active
	case i >= 0 && (i < at(first) || at(first) < 0 || fresh):
		return AcceptOnly
	}
	return Retiring
}

// without returns at most Limit keys: those that are neither dropped nor in the other list, each only once.
func (r *Rotation[K]) without(keys, other []K) []K {
	var left []K
	for _, k := range keys {
		if len(left) < r.Limit && !r.dropped[k.Secret()] && !Contains(other, k) && !Contains(left, k) {
			left = append(left, k)
		}
	}
	return left
}

// firstOf returns the first key, in a list.
func firstOf[K Key](keys []K) []K { return keys[:min(1, len(keys))] }
