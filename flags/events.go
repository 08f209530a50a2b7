package flags

import (
	"errors"
	"slices"
	"sync"

	"github.com/open-feature/go-sdk/openfeature"
)

// providerName is the name of the provider of flag files.
const providerName = "midair"

// A channel tells one provider of the SDK about changes of the flags and of their state. The SDK reads events. The caller of
// each method holds the lock of the channels.
type channel struct {
	events chan openfeature.Event
	told   openfeature.EventType // the state that the SDK knows of
}

func newChannel() *channel { return &channel{events: make(chan openfeature.Event, 16)} }

// tell lets the SDK know of a state that is new.
func (c *channel) tell(state openfeature.EventType, why string) {
	if c.told == state {
		return
	}
	c.told = state
	c.emit(openfeature.Event{EventType: state, ProviderEventDetails: openfeature.ProviderEventDetails{Message: why}})
}

// emit never waits: if nobody takes the events, all changes become one event, and of the states the last one remains.
func (c *channel) emit(e openfeature.Event) {
	e.ProviderName = providerName
	select {
	case c.events <- e:
		return
	default:
	}
	for _, e := range merged(append(c.drain(), e)) {
		c.events <- e // there is room: nobody else sends
	}
}

// drain returns the events that nobody has taken.
func (c *channel) drain() (all []openfeature.Event) {
	for {
		select {
		case e := <-c.events:
			all = append(all, e)
		default:
			return all
		}
	}
}

// merged returns one event for all changes, and the last state. A change without keys may be of any flag, and so is the result.
func merged(events []openfeature.Event) (all []openfeature.Event) {
	var change, state *openfeature.Event
	for _, e := range events {
		switch {
		case e.EventType != openfeature.ProviderConfigChange:
			state = &e
		case change == nil:
			change = &e
		case len(change.FlagChanges) == 0 || len(e.FlagChanges) == 0:
			change.FlagChanges = nil
		default:
			change.FlagChanges = slices.Compact(slices.Sorted(slices.Values(slices.Concat(change.FlagChanges, e.FlagChanges))))
		}
	}
	for _, e := range []*openfeature.Event{change, state} {
		if e != nil {
			all = append(all, *e)
		}
	}
	return all
}

// Channels are those that the SDK listens to. The SDK holds locks of its own when it calls join and leave, so nothing is called
// or waited for under mu.
type channels struct {
	mu    sync.Mutex
	all   map[*channel]struct{}
	state openfeature.EventType // the state that was told last
	why   string
}

// join adds a channel. Without values to serve, the error is why.
func (cs *channels) join(c *channel, ready bool) error {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.all == nil {
		cs.all = map[*channel]struct{}{}
	}
	cs.all[c] = struct{}{}
	c.told = openfeature.ProviderReady
	if ready || cs.state != openfeature.ProviderError {
		return nil
	}
	c.told = openfeature.ProviderError
	return errors.New(cs.why)
}

// leave removes a channel.
func (cs *channels) leave(c *channel) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	delete(cs.all, c)
}

// tell lets all clients of the SDK know of a state that is new.
func (cs *channels) tell(state openfeature.EventType, why string) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.state, cs.why = state, why
	for c := range cs.all {
		c.tell(state, why)
	}
}

// changed lets all clients of the SDK know of new values.
func (cs *channels) changed(keys []string) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	details := openfeature.ProviderEventDetails{Message: "flags have changed", FlagChanges: keys}
	for c := range cs.all {
		c.emit(openfeature.Event{EventType: openfeature.ProviderConfigChange, ProviderEventDetails: details})
	}
}
