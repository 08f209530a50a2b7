package rollout_test

import (
	"bytes"
	"encoding"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/canary/rollout"
	"github.com/midair-go/midair/internal/kept"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// layout is that of the state and of messages.
var layout = kept.Format{Name: "rollout", Magic: "rollout", Version: 1, Sum: kept.CRC32}

// sealed returns a state with a head and evidence of the test's own.
func sealed(f kept.Format, head string, evidence []byte) []byte {
	return f.Seal(kept.Append32(kept.Append32(f.Begin(), head), evidence))
}

// opened returns the two parts of a state.
func opened(t testing.TB, state []byte) (head string, evidence []byte) {
	t.Helper()
	r := layout.Open(state)
	head, evidence = string(r.Bytes32()), r.Bytes32()
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	return head, evidence
}

func marshal(t testing.TB, m encoding.BinaryMarshaler) []byte {
	t.Helper()
	data, err := m.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A process is a site that leads or follows, and counts the bad answers that it has given.
type process struct {
	*site
	leads atomic.Bool
	deaf  atomic.Bool // no message of the bus arrives
	wrong [2]int
}

// newProcess returns a process that has taken over the states.
func newProcess(t *testing.T, leads bool, opts rollout.Options, states ...[]byte) *process {
	t.Helper()
	p := &process{}
	p.leads.Store(leads)
	opts.Follows = func() bool { return !p.leads.Load() }
	opts.Logger = quiet
	p.site = newSite(t, opts)
	for _, state := range states {
		if err := p.ro.UnmarshalBinary(state); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// fails makes each n-th request of a side fail.
func (p *process) fails(side canary.Side, n int) {
	p.bad[side] = func(i int) bool {
		if i%n != n-1 {
			return false
		}
		p.wrong[side]++
		return true
	}
}

// A bus carries the messages of processes. The function route returns how often the others get a message; late messages wait in kept.
type bus struct {
	mu      sync.Mutex
	members []*process
	kept    [][]byte
	route   func(message []byte) (times int)
}

// join returns a process that sends by the bus, and gets what the others send.
func (b *bus) join(t *testing.T, leads bool, opts rollout.Options) *process {
	var self atomic.Pointer[process]
	opts.Broadcast = func(name string, message []byte) error {
		b.mu.Lock()
		defer b.mu.Unlock()
		message = bytes.Clone(message)
		times := 1
		if b.route != nil {
			times = b.route(message)
		}
		if times == 0 {
			b.kept = append(b.kept, message)
		}
		for range times {
			for _, other := range b.members {
				if other != self.Load() && !other.deaf.Load() {
					if err := other.ro.Ingest(message); err != nil {
						t.Errorf("Ingest: %v", err)
					}
				}
			}
		}
		return nil
	}
	p := newProcess(t, leads, opts)
	self.Store(p)
	b.mu.Lock()
	b.members = append(b.members, p)
	b.mu.Unlock()
	synctest.Wait()
	return p
}

// lose makes the bus keep all messages, or none any more.
func (b *bus) lose(all bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.route = nil
	if all {
		b.route = func([]byte) int { return 0 }
	}
}
