package upgrade

import (
	"context"
	"fmt"
	"os"

	"github.com/midair-go/midair/upgrade/internal/handoff"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// The commit, from the candidate's side. The values of Keep and the resources of Exclusive are the program's, whose functions may hang:
// they run beside the loop, which goes on to hear the old process, its death, and signals.

// taking is a commit message whose values and resources are being taken.
type taking struct {
	again  bool // another upgrade was asked for meanwhile
	cancel context.CancelFunc
	done   chan error // gets the one result
}

// result is where the result comes; nil without a commit message.
func (t *taking) result() <-chan error {
	if t == nil {
		return nil
	}
	return t.done
}

func (r *runner) commit(f wire.Frame) {
	r.proven = true
	var body wire.CommitBody
	err := f.Decode(&body)
	var state *os.File
	if err == nil && body.State && len(f.Files) > 0 {
		state, f.Files[0] = f.Files[0], nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), r.u.limit-r.u.limit/10) // the reason is to arrive in time
	r.taking = &taking{again: body.Again, cancel: cancel, done: make(chan error, 1)}
	switch {
	case err != nil:
		r.hasTaken(err)
	case state == nil && len(r.u.resources.list()) == 0:
		r.hasTaken(nil)
	default:
		done := r.taking.done
		go func() { done <- r.u.takeCommitted(ctx, state) }() // the loop waits for it
	}
}

// takeCommitted takes the values in the file, if there is one, and then the resources.
func (u *Upgrader) takeCommitted(ctx context.Context, state *os.File) error {
	if state == nil {
		return u.resources.acquire(ctx)
	}
	received := make(chan error, 1)
	go func() { // ends when UnmarshalBinary does
		defer state.Close()
		received <- u.keeper.Receive(state)
	}()
	select {
	case err := <-received:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return fmt.Errorf("a kept value's UnmarshalBinary has not returned: %w", context.Cause(ctx))
	}
	return u.resources.acquire(ctx)
}

// hasTaken makes the candidate the service, when it has all that came with the commit message, or says why it is not.
func (r *runner) hasTaken(err error) {
	t := r.taking
	r.taking = nil
	t.cancel()
	if r.role != roleCandidate { // told to stop, or taken back, meanwhile; finish releases
		return
	}
	if err == nil {
		err = r.u.listeners.BeginListening()
	}
	switch {
	case r.alone: // the old process has died meanwhile
		if err != nil {
			r.u.log.Error("upgrade: serving although not everything is right: there is no other process to do it", "phase", PhaseCommit, "err", err)
		}
		r.again = r.again || t.again
		r.serveAlone()
		return
	case err != nil:
		r.fail(PhaseCommit, err)
		return
	}
	drop := r.u.listeners.ClaimRest(r.u.paths)
	r.becomeMain()
	// Until it is told that this one serves, the old process serves what comes back.
	r.u.awaitMoves()
	_ = handoff.SendTakes(r.u.parent, r.u.listeners) // a dead old process needs no answer
	_ = r.u.parent.Send(wire.KindServing, wire.ServingBody{Since: r.nameSince})
	if r.parent == nil { // it says nothing more that can be read
		r.u.parent.Close()
	}
	if r.unnamed == nil {
		r.u.keepRest()
	}
	r.hurryElders()
	drop()
	atStep("new.serving")
	r.again = r.again || t.again
	r.upgradeAgain()
}
