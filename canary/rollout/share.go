package rollout

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/midair-go/midair/internal/guard"
)

// sharing exchanges the state and the evidence with other processes.
type sharing struct {
	*control
	*recorder
	opts   *Options
	uses   *uses
	send   chan struct{} // has a value if something should be sent at once
	missed atomic.Bool   // another process has an older state
}

// A dispatch is what was sent to the other processes last.
type dispatch struct {
	turn     uint64
	state    State
	requests uint64
	failed   bool
}

// run sends the state and the evidence to the other processes: bad outcomes and decisions at once, and the rest each second. It
// sends once more when ctx has ended, so that the last decision arrives.
func (s *sharing) run(ctx context.Context) {
	var last dispatch
	changed := s.control.change()
	for ended := false; !ended; {
		select {
		case <-ctx.Done():
			ended = true
		case <-changed:
		case <-s.send:
		case <-time.After(sendEvery):
		}
		changed = s.control.change()
		h := s.head(s.uses.mine())
		stable, of := s.evidence.Counts()
		next := dispatch{turn: h.Turn, state: h.State, requests: stable.Requests + of.Requests}
		if missed := s.missed.Swap(false); !missed && !h.moves() && next == last {
			continue
		}
		if err := s.sendAll(h); err != nil {
			if !last.failed && !ended { // at the end there may be no other process
				s.opts.Logger.Warn("rollout: other processes do not get the evidence", slog.String("name", s.opts.Name), slog.Any("err", err))
			}
			next.failed = true
		}
		last = next
		_ = pause(ctx, lookEvery/5) // outcomes that come together are one message
	}
}

// moves reports whether the rollout is between its beginning and its end.
func (h head) moves() bool { return h.State > Waiting && h.State < Promoted }

// sendAll sends two messages, as each has a limit.
func (s *sharing) sendAll(h head) error {
	delta := s.evidence.Delta()
	for _, part := range []struct {
		head     head
		evidence []byte
	}{{h, nil}, {head{Salt: h.Salt, Part: true}, delta}} {
		message, err := seal(part.head, part.evidence)
		if err != nil {
			return err
		}
		if err := guard.Call(func() error { return s.opts.Broadcast(s.opts.Name, message) }); err != nil {
			return err
		}
	}
	return nil
}

// head returns the head of this process.
func (s *sharing) head(of counted) head {
	h := s.control.head()
	h.Salt, h.Warm, h.Uses = s.opts.Salt, s.warm.Load(), of
	return h
}

// receive takes over the data of another process, of which add adds the evidence.
func (s *sharing) receive(data []byte, add func(evidence []byte) error) error {
	h, evidence, err := open(data)
	if err != nil || h.Salt != s.opts.Salt {
		return err
	}
	if len(evidence) > 0 {
		if err := add(evidence); err != nil {
			return fmt.Errorf("rollout: the evidence: %w", err)
		}
	}
	if h.Part {
		return nil
	}
	s.uses.join(h.Uses)
	joined, older := s.control.join(h)
	if joined {
		s.warm.Store(h.Warm)
	}
	if older {
		s.missed.Store(true)
		poke(s.send)
	}
	return nil
}
