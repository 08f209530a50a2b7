package drain

import (
	"context"
	"time"
)

// A ticket is an entry of the ledger that is no connection.
type ticket struct {
	Entry
	cancel context.CancelCauseFunc // may be nil
	ledger *ledger
}

// entry copies what is shown. Only the action changes, under the lock of the ledger.
func (t *ticket) entry() Entry {
	t.ledger.mu.Lock()
	defer t.ledger.mu.Unlock()
	return t.Entry
}

// Go runs a job in a goroutine of its own, and makes the drain wait for it as it does for a request. The job learns of the
// drain by FromContext(ctx), and goes on as long as Grace allows: ctx has the values of the given one, ends with it, and is
// cancelled with [ErrExpired] when Grace has run out. It returns [ErrClosed] if the drain is over, and the job does not run.
func (s *Server) Go(ctx context.Context, name string, job func(ctx context.Context)) error {
	ctx, cancel := context.WithCancelCause(s.Context(ctx))
	done, err := s.Track(Entry{Protocol: "job", Name: name}, cancel)
	if err != nil {
		cancel(nil)
		return err
	}
	go func() {
		defer cancel(nil)
		defer done()
		job(ctx)
	}()
	return nil
}

// Track puts something of a protocol that the server does not know into the ledger until done is called, which may be
// more than once. State is "active" and Since is now if they are empty. Cancel, if there is one, is called with
// [ErrExpired] when Grace has run out. It returns [ErrClosed] if the drain is over.
func (s *Server) Track(e Entry, cancel context.CancelCauseFunc) (done func(), err error) {
	if e.State == "" {
		e.State = "active"
	}
	if e.Since.IsZero() {
		e.Since = time.Now()
	}
	t := &ticket{Entry: e, cancel: cancel, ledger: &s.ledger}
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	if s.ledger.closed {
		return nil, ErrClosed
	}
	s.ledger.tickets[t] = struct{}{}
	return t.done, nil
}

func (t *ticket) done() {
	t.ledger.mu.Lock()
	delete(t.ledger.tickets, t)
	t.ledger.mu.Unlock()
	t.ledger.notify()
}
