package upgrade

import (
	"context"
	"sync"

	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// checkResult is what the checks of a generation have found.
type checkResult int

const (
	checksRun checkResult = iota // the checks have not ended
	checksPassed
	checksFailed
)

// generation is the state of a call of Run. The fields outside parts belong to the goroutine of Run. This goroutine receives
// values from channels, and turns most of them into events. For each event the table in states.go has an action and the next
// state. Work that may take long runs in other goroutines.
type generation struct {
	*parts
	table    *[genStates]genRow
	state    genState
	result   checkResult // of the checks
	err      error       // what Run returns
	endServe context.CancelCauseFunc

	served   chan error // receives the result of serve; nil after the loop has received the result
	prepared chan error // receives the result of the checks; nil after the loop has received the result

	accepted   bool // this process may have accepted connections before it became the main generation
	supervised bool // there is a supervisor; false after this process has read the end of the channel to the supervisor
	again      bool // SIGHUP, to this process or the old process, has asked for an upgrade that has not begun yet

	fromOld        <-chan wire.Frame       // messages of the old process; nil: there is no control socket, or its end was read
	fromSupervisor <-chan sdnotify.Message // messages of the supervisor; nil: there is no channel, or its end was read
	old            oldProcess
	next           nextLink
	late           *wire.Link // the link to the serving process, for connections that come too late for this process; nil: none

	attempt      *attempt
	attemptEnded <-chan attemptEnd // nil: no attempt is under way
	waiter       chan error        // receives the result of the attempt, for the waiting call of Upgrade; nil: no call waits
	ending       error             // the cause of a stop that waits, see stop; nil: no stop waits
	successor    successor

	taking    *taking   // the call that takes the values and resources after a commit message; nil: none runs
	acquiring *call     // the call that acquires the exclusive resources; nil: none runs
	snapshot  *snapshot // the kept values that are being written to a file; nil: none
	naming    naming
	tellings  tellings
	beside    sync.WaitGroup // the goroutines that send messages without waiting for an answer, or remove files
	watchdog  watchdog

	memory  memory
	overrun overrun
	retries retries
	goers   goers
}

// resumeStop goes on with a stop that has waited, and reports whether there was one. The stop also ends an attempt that has begun
// since.
func resumeStop(g *generation) bool {
	g.tellings.stopDue = nil
	cause := g.ending
	if cause == nil {
		return false
	}
	g.ending = nil
	g.stop(cause)
	return true
}

func newGeneration(p *parts) *generation {
	g := &generation{
		parts: p, table: &genTable, state: genStarting,
		served: make(chan error, 1), prepared: make(chan error, 1), tellings: newTellings(),
	}
	if p.origin.replaces() {
		g.state = genCandidate
	}
	if l := p.origin.link; l != nil {
		g.old.link, g.fromOld = l, l.Frames
	}
	return g
}

// attemptEnd is the result of an attempt. The loop receives it when the outcome was recorded, or when the file system has not
// answered within fileWait.
type attemptEnd struct {
	err     error
	outcome Outcome
	writing chan struct{} // closed when the files of the attempt are written; nil: the files are written already
}
