package upgrade

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/midair-go/midair/upgrade/internal/handoff"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// peer is how an attempt treats its candidate. There are two peers: midair for a candidate with the control protocol, and
// tableflipPeer for a candidate without the control protocol. Each attempt begins with midair. If the Ready byte comes and no
// hello has come, the attempt changes to tableflipPeer.
type peer interface {
	// allows reports whether the candidate may send a message of kind k now. The argument in is the phase of the attempt. The
	// other arguments, before and sent, have the same meaning as in rule.allows.
	allows(k wire.Kind, in Phase, before bool, sent func(wire.Kind) bool) bool
	// hangsUp reports whether such a candidate closes the control socket at its start. If so, the end of the socket is not a
	// failure.
	hangsUp() bool
	// prepare returns the kind of the message that ends phase check; 0 if there is no such message.
	prepare() wire.Kind
	// judge returns the argument fn. But if a judge cannot reach such a candidate, the result is nil.
	judge(fn judge) judge
	// rehearsed returns the error with which a rehearsal ends. The error is errRehearsed if everything went well.
	rehearsed() error
	// open makes the candidate accept before the commit.
	open(a *attempt) error
	// commit makes the candidate the service. The result confirms is true if the candidate will send the message serving.
	commit(a *attempt, body wire.CommitBody, files []*os.File) (confirms bool, err error)
	// abort asks the candidate to end, and returns how long the candidate may take.
	abort(c *child, body wire.AbortBody, grace time.Duration) time.Duration
	// mover returns the function that passes idle connections to the candidate after the commit. The result is nil if the
	// candidate takes no connections.
	mover(a *attempt) handoff.Mover
}

// midair is a candidate with this library.
type midair struct{}

func (midair) allows(k wire.Kind, in Phase, before bool, sent func(wire.Kind) bool) bool {
	return ruleOf(k, in).allows(before, sent)
}

func (midair) hangsUp() bool        { return false }
func (midair) prepare() wire.Kind   { return wire.KindPrepared }
func (midair) judge(fn judge) judge { return fn }
func (midair) rehearsed() error     { return errRehearsed }

func (midair) open(a *attempt) error { return a.send(wire.KindOpen, nil) }

func (midair) commit(a *attempt, body wire.CommitBody, files []*os.File) (bool, error) {
	return true, a.send(wire.KindCommit, body, files...)
}

func (midair) abort(c *child, body wire.AbortBody, grace time.Duration) time.Duration {
	_ = c.link.Send(wire.KindAbort, body) // fails if the candidate is dead already
	if !c.mayAccept() {
		return min(grace, idleAbortGrace)
	}
	return grace
}

func (midair) mover(a *attempt) handoff.Mover {
	return handoff.NewSuccessor(a.child.link, a.shares.takes, a.shares.logFull)
}

// tableflipPeer is a candidate without the control protocol: a program with package tableflip only, or another program that
// writes tableflip's Ready byte. Such a program accepts from its start, and takes itself for the service as soon as it has
// written the Ready byte. No private connection reaches the program, and no weight can be set for it.
type tableflipPeer struct{}

func (tableflipPeer) allows(wire.Kind, Phase, bool, func(wire.Kind) bool) bool { return false }
func (tableflipPeer) hangsUp() bool                                            { return true }
func (tableflipPeer) prepare() wire.Kind                                       { return 0 }
func (tableflipPeer) judge(judge) judge                                        { return nil }
func (tableflipPeer) rehearsed() error                                         { return errTableflipRehearsal }
func (tableflipPeer) open(*attempt) error                                      { return nil }
func (tableflipPeer) commit(*attempt, wire.CommitBody, []*os.File) (bool, error) {
	return false, nil
}

func (tableflipPeer) abort(c *child, _ wire.AbortBody, grace time.Duration) time.Duration {
	c.Signal(syscall.SIGTERM)
	return grace
}

func (tableflipPeer) mover(*attempt) handoff.Mover { return nil }

// errRehearsed ends a rehearsal that went well.
var errRehearsed = errors.New("this was a rehearsal")

// errTableflipRehearsal ends the rehearsal of a candidate with tableflip only.
var errTableflipRehearsal = fmt.Errorf("it knows tableflip only, and %w", errNotRehearsed)
