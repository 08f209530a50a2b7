package upgrade

import (
	"context"
	"sync"

	"github.com/midair-go/midair/upgrade/internal/wire"
)

// checkResult is what the checks of a generation have found.
type checkResult int

const (
	checksRun checkResult = iota
	checksPassed
	checksFailed
)

// generation is Run: one goroutine that owns what this process is and does. The goroutine receives events from channels, looks up the
// action and the next state of each (states.go), and starts goroutines for everything slow. Exceptions are files that the goroutine writes
// itself: the pid file and the record at the commit, and the paths of unix sockets.
type generation struct {
	u        *Upgrader
	table    *[genStates]genRow
	state    genState
	checks   checkResult
	err      error // what Run returns
	endServe context.CancelCauseFunc

	served   chan error // gets the result of serve; nil after that
	prepared chan error // gets the result of the checks; nil after that

	accepted   bool // this process has accepted before it was the main generation
	supervised bool // the end of the supervisor was not read yet, and so no earlier message is unread
	again      bool // an upgrade was asked for, and begins when it is possible

	fromOld <-chan wire.Frame // messages of the old process; nil after its end
	old     oldProcess
	next    nextLink
	late    *wire.Link // to the process that serves now and gets late connections; nil: none

	attempt      *attempt
	attemptEnded <-chan attemptEnd // nil: no attempt is under way
	waiter       chan error        // of the call of Upgrade that waits for the attempt; nil: none
	ending       error             // the cause of a stop that waits for a commit
	successor    successor

	taking    *taking   // nil: no commit message is being followed
	acquiring *call     // nil: no resource is being acquired
	snapshot  *snapshot // nil: no kept values are being written
	naming    naming
	tellings  tellings
	beside    sync.WaitGroup // of goroutines that send what needs no answer
	watchdog  watchdog

	memory  memory
	overrun overrun
	retries retries
	goers   goers
}

func newGeneration(u *Upgrader) *generation {
	g := &generation{
		u: u, table: &genTable, state: genStarting,
		served: make(chan error, 1), prepared: make(chan error, 1), tellings: tellings{ended: make(chan *telling)},
	}
	if u.parent != nil || u.plainParent {
		g.state = genCandidate
	}
	if u.parent != nil {
		g.fromOld = u.parent.Frames
	}
	return g
}

// Run serves until ctx ends, a signal asks for the end, serve returns, or another generation has taken over, and returns the
// error of serve. Run calls serve at once in a new goroutine; serve has to accept on all listeners, and to finish
// when its context ends. The cause of the context has a method Handover() bool, which is true for an upgrade and false for a
// plain stop. A candidate that is taken back gets an *Error that is ErrAborted; main should then end with a non-zero
// status. A plain stop of a service whose supervisor has died ends with ErrUnsupervised. Run may be called once. Run returns after
// its last goroutine, with two exceptions: a goroutine that writes a line to a stuck log (see Options.Logger), and a serve that goes
// on after the end of its context and is not known to drain. Then Run returns ErrServeStuck (Options.StuckAfter), and main should
// end: serve ends with the process.
func (u *Upgrader) Run(ctx context.Context, serve func(context.Context) error) error {
	if err := u.control.begin(); err != nil {
		return err
	}
	return newGeneration(u).run(ctx, serve)
}

// attemptEnd is the end of an attempt. The outcome is recorded.
type attemptEnd struct {
	err     error
	outcome Outcome
}
