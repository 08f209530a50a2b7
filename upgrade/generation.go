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
// events from channels, and looks up the action and the next state for each event (states.go). For everything slow it starts
// other goroutines.
type generation struct {
	*parts
	table    *[genStates]genRow
	state    genState
	checks   checkResult
	err      error // what Run returns
	endServe context.CancelCauseFunc

	served   chan error // receives the result of serve; nil when it was received
	prepared chan error // receives the result of the checks; nil when it was received

	accepted   bool // this process has accepted connections before it became the main generation
	supervised bool // there is a supervisor, and the end of the channel to the supervisor was not read yet
	again      bool // SIGHUP has asked for an upgrade, which begins when it is possible

	fromOld        <-chan wire.Frame       // messages of the old process; nil when their end was read
	fromSupervisor <-chan sdnotify.Message // messages of the supervisor; nil when their end was read
	old            oldProcess
	next           nextLink
	late           *wire.Link // late connections are passed on this link to the process that serves; nil: there is no link

	attempt      *attempt
	attemptEnded <-chan attemptEnd // nil: no attempt is under way
	waiter       chan error        // receives the attempt's result, for the call of Upgrade that waits; nil: no call waits
	ending       error             // the cause of a stop that waits until the attempt has ended; nil: no stop waits
	successor    successor

	taking    *taking   // the taking of the values and resources of a commit message; nil: none
	acquiring *call     // the call that acquires the exclusive resources; nil: none
	snapshot  *snapshot // the kept values that are being written to a file; nil: none
	naming    naming
	tellings  tellings
	beside    sync.WaitGroup // the goroutines that send messages without waiting for an answer
	watchdog  watchdog

	memory  memory
	overrun overrun
	retries retries
	goers   goers
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

// attemptEnd is the result of an attempt. The loop receives it after recordOutcome has recorded the outcome.
type attemptEnd struct {
	err     error
	outcome Outcome
}
