package upgrade

import (
	"os"

	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// The life of a generation: states, events, and a table with the meaning of each event in each state. The loop of Run turns
// each value of its channels into an event, and generation.fire looks up the action and the next state. states-generation.md
// shows the states.

// genState is the state of a generation.
type genState int

const (
	genStay       genState = iota // not a state: a cell with genStay does not change the state
	genStarting                   // the checks run, and no other process serves
	genCandidate                  // the old process serves, and may commit this process
	genCommitting                 // the commit message has come: kept values are being restored, and resources acquired
	genAlone                      // the old process has died: this process serves when its checks and the taking have ended
	genOrphan                     // the old process died before the commit: this process serves until the committed build does
	genAcquiring                  // exclusive resources are being acquired, the last step before serving
	genServing                    // this process is the main generation
	genHandedOver                 // the successor serves, and this process drains
	genAborted                    // this candidate was taken back or has failed, and drains
	genReturning                  // serve has returned after an abort, and this process gives its kept values back
	genReviving                   // the old process has died after the abort: a process of the committed build is started
	genLeaving                    // this process ends as soon as serve has returned
	genStopping                   // the service stops
	genEnded                      // Run is about to return
	genStates
)

var genStateNames = [genStates]string{"stay", "starting", "candidate", "committing", "alone", "orphan", "acquiring", "serving",
	"handedOver", "aborted", "returning", "reviving", "leaving", "stopping", "ended"}

func (s genState) String() string { return genStateNames[s] }

// beforeService reports whether a generation in this state may still become the main generation.
func (s genState) beforeService() bool { return s < genServing }

// leaves reports whether a generation in this state is about to end.
func (s genState) leaves() bool { return s > genServing }

// genEvent is an event in the life of a generation.
type genEvent int

const (
	onStop          genEvent = iota // the program, a signal or the terminal ends the service
	onHangup                        // SIGHUP asks for an upgrade
	onRequest                       // the program asks for an upgrade, a commit or an abort
	onWatchdog                      // the watchdog ticks: a sign of life or a request for more time may be due
	onChecksPassed                  // the checks have passed
	onChecksFailed                  // a check has failed
	onServed                        // serve has returned
	onMessage                       // the old process has sent a message that only a candidate handles
	onCommit                        // the old process has sent the commit message
	onAbort                         // the old process takes this candidate back
	onAbortStopping                 // the old process takes this candidate back, because the whole service stops
	onReleased                      // the old process has restored the kept values: this process may end
	onNamed                         // the old process has named this process to systemd, or the wait for this is over
	onConn                          // another generation has passed a connection to this process
	onOldDied                       // the old process has died
	onLinkBroken                    // the control socket to the old process has failed
	onTaken                         // the values and resources of the commit message were taken
	onTakeFailed                    // a kept value or a resource could not be taken
	onAcquired                      // the exclusive resources were acquired
	onAcquireFailed                 // an exclusive resource could not be acquired
	onWritten                       // the files of the new main generation are written
	onTold                          // the messages of a telling were sent
	onSnapshot                      // writing the kept values to a file for the old process has ended, perhaps with an error
	onAttemptFailed                 // an attempt has failed, or a rehearsal has ended
	onAttemptDone                   // the upgrade of an attempt was committed
	onConfirmed                     // the supervisor cannot start the committed build, so this orphan has to be the service
	onNextSocket                    // a control socket to the process that will replace this one has come from the supervisor
	onOrphanSocket                  // a control socket to an orphan has come from the supervisor
	onNoSupervisor                  // the supervisor has died
	onFinished                      // Run has released everything that this process held

	// The actions fire the following events, each as the result of a decision.
	onFailed   // this candidate cannot become the service
	onReported // the reason of the failure was sent to the old process, and the old process serves on
	onCut      // this candidate cannot become the service, and can receive no more messages of the old process
	onGaveUp   // the old process is dead, and this process will not be the service
	onOrphaned // the old process has died before the commit, and there is a supervisor
	onPromoted // this process becomes the service although it was not committed
	onNeeds    // exclusive resources have to be acquired before this process can serve
	onServes   // this process is ready to serve
	onRevive   // this process has to start a new process of the committed build
	genEvents
)

var genEventNames = [genEvents]string{"stop", "hangup", "request", "watchdog", "checksPassed", "checksFailed", "served",
	"message", "commit", "abort", "abortStopping", "released", "named", "conn", "oldDied", "linkBroken",
	"taken", "takeFailed", "acquired", "acquireFailed", "written", "told", "snapshot", "attemptFailed", "attemptDone",
	"confirmed", "nextSocket", "orphanSocket", "noSupervisor", "finished",
	"failed", "reported", "cut", "gaveUp", "orphaned", "promoted", "needs", "serves", "revive"}

func (e genEvent) String() string { return genEventNames[e] }

// oldEvents maps the messages of the old process to events. Other messages are ignored.
var oldEvents = map[wire.Kind]genEvent{
	wire.KindShare: onMessage, wire.KindTakes: onMessage, wire.KindWeight: onMessage, wire.KindShut: onMessage,
	wire.KindDial: onMessage, wire.KindPrevious: onMessage, wire.KindElder: onMessage, wire.KindOpen: onMessage,
	wire.KindCommit: onCommit, wire.KindAbort: onAbort, wire.KindReleased: onReleased, wire.KindConn: onConn,
}

// detail has the values that come with an event. The code that fires the event also closes the files in frame and word.
type detail struct {
	from    genState // the state before the event; fire sets it
	err     error
	phase   Phase // the phase in which err has occurred
	frame   wire.Frame
	word    sdnotify.Message
	request request
	attempt *attempt
	telling *telling
	state   *os.File // the file of the kept values, or nil; the action closes the file
}

// genCell is the meaning of an event in a state: an action, which may be nil, and the next state. The state changes before the
// action runs.
type genCell struct {
	do   func(*generation, detail)
	next genState
}

// genRow has the cells of one state: its own cells, and the cells of the row base for the other events. base may be nil. An event
// without a cell cannot come in that state: fire logs an error and does nothing else.
//
// The linker puts the rows into the program file as they are. Rows that are made when the process starts, as maps are, would
// delay the first request after an upgrade.
type genRow struct {
	base *genRow
	own  genCells
}

// genCells has a cell for each event; nil: there is no cell.
type genCells [genEvents]*genCell

// cell returns the cell for an event; nil if there is none.
func (r *genRow) cell(e genEvent) *genCell {
	for ; r != nil; r = r.base {
		if c := r.own[e]; c != nil {
			return c
		}
	}
	return nil
}

// nothing is the cell of an event that can come in a state and needs no action there.
var nothing = new(genCell)

// rowBefore has the cells that the states before serving have in common.
var rowBefore = genRow{nil, genCells{
	onHangup:       {(*generation).remember, genStay},
	onRequest:      {(*generation).refuseEarly, genStay},
	onConn:         {(*generation).takeConn, genStay},
	onReleased:     nothing,
	onConfirmed:    nothing,
	onNextSocket:   nothing,
	onOrphanSocket: {(*generation).meetOrphan, genStay},
	onNoSupervisor: nothing,
}}

// rowChild has the cells that are common to the states in which another process may take this process back.
var rowChild = genRow{&rowBefore, genCells{
	onMessage:       {(*generation).receiveMessage, genStay},
	onCommit:        nothing,
	onAbort:         {(*generation).takenBack, genAborted},
	onAbortStopping: {(*generation).stopWithParent, genLeaving},
}}

// rowPromoted has the cells that alone and acquiring have in common. In both states no other process can serve in place of this
// process.
var rowPromoted = genRow{&rowChild, genCells{
	onWatchdog:   {(*generation).extend, genStay},
	onOldDied:    nothing, // this process was an orphan, and the process that was to replace it has died after the promotion
	onLinkBroken: nothing,
	onServes:     {(*generation).becomeMain, genServing},
}}

// rowAfter has the cells that all states after genServing have in common.
var rowAfter = genRow{nil, genCells{
	onStop:          nothing,
	onHangup:        nothing,
	onRequest:       {(*generation).refuseLate, genStay},
	onWatchdog:      nothing,
	onChecksPassed:  nothing,
	onChecksFailed:  nothing,
	onServed:        {(*generation).noteServed, genStay},
	onMessage:       nothing,
	onCommit:        nothing,
	onAbort:         nothing,
	onAbortStopping: nothing,
	onReleased:      nothing,
	onNamed:         nothing,
	onConn:          {(*generation).passConn, genStay},
	onOldDied:       nothing,
	onLinkBroken:    nothing,
	onTaken:         nothing, // the commit comes too late; finish releases the acquired resources
	onTakeFailed:    nothing,
	onAcquired:      nothing,
	onAcquireFailed: nothing,
	onWritten:       {(*generation).dropWritten, genStay},
	onTold:          {(*generation).dropTold, genStay},
	onSnapshot:      {(*generation).dropState, genStay},
	onConfirmed:     nothing,
	onNextSocket:    nothing,
	onOrphanSocket:  nothing,
	onNoSupervisor:  nothing,
}}

// rowTakenBack has the cells that aborted and returning have in common. In both states the old process may die.
var rowTakenBack = genRow{&rowAfter, genCells{
	onAbortStopping: {(*generation).forgetOld, genLeaving},
	onOldDied:       {(*generation).outliveOld, genStay},
	onLinkBroken:    {nil, genLeaving},
	onRevive:        {(*generation).revive, genReviving},
	onGaveUp:        {nil, genLeaving},
}}

// genTable is the table. The actions use it through generation.table: a direct use would be an initialization
// cycle.
var genTable = [genStates]genRow{
	genStarting: {&rowBefore, genCells{
		onStop:         {(*generation).stopService, genStopping},
		onWatchdog:     {(*generation).extend, genStay},
		onChecksPassed: {(*generation).proceed, genStay},
		onChecksFailed: {(*generation).serveAnyway, genStay},
		onServed:       {(*generation).endWithServe, genStopping},
		onNeeds:        {(*generation).acquire, genAcquiring},
		onServes:       {(*generation).becomeMain, genServing},
	}},
	genCandidate: {&rowChild, genCells{
		onStop:         {(*generation).stopCandidate, genStay},
		onWatchdog:     nothing,
		onChecksPassed: {(*generation).reportPrepared, genStay},
		onChecksFailed: {(*generation).checksFailed, genStay},
		onServed:       {(*generation).servedEarly, genStay},
		onCommit:       {(*generation).takeCommit, genCommitting},
		onOldDied:      {(*generation).survive, genStay},
		onLinkBroken:   {(*generation).fail, genStay},
		onNextSocket:   {(*generation).keepNext, genStay},
		onFailed:       {(*generation).fail, genStay},
		onReported:     {(*generation).leaveFailed, genAborted},
		onCut:          {(*generation).leaveFailed, genLeaving},
		onGaveUp:       {(*generation).giveUpOrphan, genLeaving},
		onOrphaned:     {(*generation).becomeOrphan, genOrphan},
		onPromoted:     {(*generation).promote, genAlone},
		// The following events come only if the old process uses tableflip, which sends no commit message.
		onNeeds:         {(*generation).acquire, genStay},
		onAcquired:      {(*generation).acquired, genStay},
		onAcquireFailed: {(*generation).cannotServe, genStopping},
		onServes:        {(*generation).becomeMain, genServing},
	}},
	genCommitting: {&rowChild, genCells{
		onStop:       {(*generation).stopCandidate, genStay},
		onWatchdog:   nothing,
		onServed:     {(*generation).servedEarly, genStay},
		onOldDied:    {(*generation).takeOver, genAlone},
		onLinkBroken: nothing,
		onTaken:      {(*generation).completeCommit, genStay},
		onTakeFailed: {(*generation).fail, genStay},
		onFailed:     {(*generation).fail, genStay},
		onReported:   {(*generation).leaveFailed, genAborted},
		onCut:        {(*generation).leaveFailed, genLeaving},
		onServes:     {(*generation).becomeMain, genServing},
	}},
	genAlone: {&rowPromoted, genCells{
		onStop:         {(*generation).stopService, genStopping},
		onChecksPassed: {(*generation).proceed, genStay},
		onChecksFailed: {(*generation).serveAnyway, genStay},
		onServed:       {(*generation).endWithServe, genStopping},
		onTaken:        {(*generation).takenAlone, genStay},
		onTakeFailed:   {(*generation).takenAlone, genStay},
		onNeeds:        {(*generation).acquire, genAcquiring},
	}},
	genOrphan: {&rowChild, genCells{
		onStop:         {(*generation).leaveToCommitted, genLeaving},
		onWatchdog:     {(*generation).extend, genStay},
		onChecksPassed: {(*generation).accept, genStay},
		onChecksFailed: {(*generation).giveUpOrphan, genLeaving},
		onServed:       {(*generation).endWithServe, genLeaving},
		onAbort:        {(*generation).dismissed, genAborted},
		onOldDied:      {(*generation).outliveNext, genStay},
		onLinkBroken:   {(*generation).giveUpOrphan, genLeaving},
		onConfirmed:    {(*generation).confirmed, genStay},
		onNextSocket:   {(*generation).keepNext, genStay},
		onNoSupervisor: {(*generation).outliveSupervisor, genStay},
		onGaveUp:       {(*generation).giveUpOrphan, genLeaving},
		onPromoted:     {(*generation).promote, genAlone},
	}},
	genAcquiring: {&rowPromoted, genCells{
		onStop:          {(*generation).stopService, genStopping},
		onServed:        {(*generation).endWithServe, genStopping},
		onAcquired:      {(*generation).acquired, genStay},
		onAcquireFailed: {(*generation).cannotServe, genStopping},
	}},
	genServing: {nil, genCells{
		onStop:          {(*generation).stopService, genStopping},
		onHangup:        {(*generation).upgradeOnHangup, genStay},
		onRequest:       {(*generation).answer, genStay},
		onWatchdog:      {(*generation).showLife, genStay},
		onServed:        {(*generation).endWithServe, genStopping},
		onMessage:       nothing,
		onCommit:        nothing,
		onAbort:         nothing,
		onAbortStopping: nothing,
		onReleased:      nothing,
		onNamed:         {(*generation).announceNamed, genStay},
		onConn:          {(*generation).takeConn, genStay},
		onOldDied:       nothing,
		onLinkBroken:    {(*generation).closeOldLink, genStay},
		onWritten:       {(*generation).announce, genStay},
		onTold:          {(*generation).completeTold, genStay},
		onAttemptFailed: {(*generation).serveOn, genStay},
		onAttemptDone:   {(*generation).handOver, genHandedOver},
		onConfirmed:     nothing,
		onNextSocket:    nothing,
		onOrphanSocket:  {(*generation).meetOrphan, genStay},
		onNoSupervisor:  {(*generation).logUnsupervised, genStay},
	}},
	genHandedOver: {&rowAfter, genCells{
		onStop:     {(*generation).passStop, genStay},
		onHangup:   {(*generation).passHangup, genStay},
		onFinished: {nil, genEnded},
	}},
	genAborted: {&rowTakenBack, genCells{
		onServed:   {(*generation).giveBack, genReturning},
		onFinished: {nil, genEnded}, // comes in this state if serve had returned before the abort: onServed does not come again
	}},
	genReturning: {&rowTakenBack, genCells{
		onStop:     {nil, genLeaving},
		onReleased: {nil, genLeaving},
		onSnapshot: {(*generation).sendState, genStay},
	}},
	genReviving: {&rowAfter, genCells{
		onWatchdog:      {(*generation).extend, genStay},
		onAttemptFailed: {(*generation).serveOn, genLeaving},
		onAttemptDone:   {(*generation).handOver, genHandedOver},
	}},
	genLeaving: {&rowAfter, genCells{
		onFinished: {nil, genEnded},
	}},
	genStopping: {&rowAfter, genCells{
		onWatchdog:      {(*generation).showLife, genStay},
		onAttemptFailed: {(*generation).serveOn, genStay},
		onAttemptDone:   {(*generation).handOver, genHandedOver},
		onFinished:      {nil, genEnded},
	}},
	genEnded: rowAfter,
}

// either returns one of the two events in its arguments: well if err is nil, and otherwise badly.
func either(err error, well, badly genEvent) genEvent {
	if err != nil {
		return badly
	}
	return well
}
