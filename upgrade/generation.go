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
	checksRun checkResult = iota
	checksPassed
	checksFailed
)

// generation is Run: one goroutine that owns what this process is and does. The goroutine receives events from channels, looks up the
// action and the next state of each (states.go), and starts goroutines for everything slow.
type generation struct {
	*parts
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

	fromOld        <-chan wire.Frame       // messages of the old process; nil after its end
	fromSupervisor <-chan sdnotify.Message // nil after its end
	old            oldProcess
	next           nextLink
	late           *wire.Link // to the process that serves now and gets late connections; nil: none

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

// attemptEnd is the end of an attempt. The outcome is recorded.
type attemptEnd struct {
	err     error
	outcome Outcome
}
