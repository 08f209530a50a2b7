package upgrade

import "fmt"

// The states of an attempt. The table is the whole of what an attempt does: follow (attempt.go) looks up the row of the stage
// and the column of the event, carries out the action and goes to the next stage. states-attempt.md draws the table.

// stage is a state of an attempt. The stages up to overdue come in this order.
type stage int

const (
	atNaming      stage = iota // systemd does not know this process yet
	atSaving                   // this process tries again to write its pid file and outcome
	atChoosing                 // the file is read, and Options.Verify runs
	atStarting                 // the new process runs and has not sent hello
	atGreeted                  // hello has come, and MarshalBinary has not returned
	atChecking                 // the candidate restores state and runs its checks
	atSmoking                  // Options.Smoke runs
	atBaking                   // Options.Bake runs, and sets weights
	atSoaking                  // both processes accept
	atAnnouncing               // the supervisor learns that the candidate may become the service
	atReleasing                // this process gives up its exclusive resources
	atMarshalling              // MarshalBinary runs
	atCommitting               // the commit message is sent, and this process does not accept
	atUnconfirmed              // the candidate is slow, and this process accepts again
	atOverdue                  // the time of the candidate is over, and its answer may be unread
	atDismissing               // the attempt is taken back, and the candidate finishes its requests
	atKilling                  // the candidate was sent SIGKILL
	atReacquiring              // the candidate has ended, and this process acquires what it has released
	atEnded
	numStages
)

var stageNames = [numStages]string{
	"naming", "saving", "choosing", "starting", "greeted", "checking", "smoking", "baking", "soaking", "announcing", "releasing",
	"marshalling", "committing", "unconfirmed", "overdue", "dismissing", "killing", "reacquiring", "ended",
}

func (s stage) String() string { return stageNames[s] }

// phases has the phase of each stage, as users see it. A stage after overdue shows the phase in which the attempt failed.
var phases = [numStages]Phase{
	PhaseStart, PhaseStart, PhaseStart, PhaseStart, PhaseStart, PhaseCheck, PhaseSmoke, PhaseBake, PhaseSoak, PhaseCommit, PhaseCommit,
	PhaseCommit, PhaseCommit, PhaseCommit, PhaseCommit, phaseTakenBack, phaseTakenBack, phaseTakenBack, PhaseCommit,
}

// attEvent is an event in an attempt.
type attEvent int

const (
	evFailed   attEvent = iota // the work of the stage has ended with an error
	evObjected                 // the candidate sends that it cannot go on, or a message out of order
	evClosed                   // the candidate has closed the control socket
	evBroken                   // what comes from the control socket cannot be read
	evExited                   // the candidate has ended
	evSilent                   // a candidate that should send heartbeats sends nothing
	evAborted                  // Abort, a stop, or the end of the context of Upgrade
	evStopped                  // the whole service ends
	evAsked                    // SIGHUP asks for another upgrade
	evWeighed                  // SetWeight
	evHurried                  // Commit: the judge need not agree
	evFinished                 // the work of the stage has ended well, or there was none
	evAnswered                 // the message has come that the stage waits for
	evReady                    // the Ready byte of tableflip has come
	evLate                     // the time of the stage is over
	numEvents
)

var eventNames = [numEvents]string{
	"failed", "objected", "closed", "broken", "exited", "silent", "aborted", "stopped", "asked", "weighed", "hurried",
	"finished", "answered", "ready", "late",
}

func (e attEvent) String() string { return eventNames[e] }

// attAction is the answer of an attempt to an event.
type attAction int

const (
	doImpossible   attAction = iota // the event cannot happen in this stage; if it does, the attempt is taken back
	doIgnore                        // the event means nothing in this stage
	doDeny                          // too late for the caller: setWeight gives an error, tryAbort and remember report false
	doAllow                         // the caller gets what it asks for
	doProceed                       // the next stage begins, and nothing else
	doTakeBack                      // this process serves on: the reason is noted
	doWelcomeEarly                  // the candidate finds its welcome when it sends hello
	doGreet                         // hello is read
	doWelcome                       // the candidate gets what it needs to begin
	doAdmit                         // a program with tableflip only is accepted, or not
	doPrepare                       // the message prepared is read
	doPassSmoke                     // a rehearsal ends here
	doSeal                          // no byte of tableflip may have come before the commit message
	doReopen                        // this process accepts again
	doConfirm                       // the candidate serves: systemd gets its pid
	doWarn                          // the candidate must not go on alone
	doStop                          // the candidate gets SIGTERM: the whole service ends
	doHurry                         // Acquire is not awaited any more: the service ends
	doGiveUp                        // the candidate cannot be killed: the log names it
	numActions
)

var actionNames = [numActions]string{
	"impossible", "ignore", "deny", "allow", "proceed", "take back", "welcome early", "greet", "welcome", "admit", "prepare",
	"pass smoke", "seal", "reopen", "confirm", "warn", "stop", "hurry", "give up",
}

func (a attAction) String() string { return actionNames[a] }

// attCell is an action and the stage that follows. After an action with an error, dismissing follows instead.
type attCell struct {
	do   attAction
	next stage
}

// stay is the next stage of a cell without a change of the stage.
const stay stage = -1

// The cells of more than one stage.
var (
	none = attCell{doImpossible, atDismissing} // impossible: the attempt is taken back
	halt = attCell{doImpossible, atEnded}      // impossible, after the attempt was taken back: it ends
	skip = attCell{doIgnore, stay}
	okay = attCell{doAllow, stay}
	deny = attCell{doDeny, stay}
	back = attCell{doTakeBack, atDismissing}
	tell = attCell{doWarn, stay}
	term = attCell{doStop, stay}
)

// attTable has a row for each stage and a column for each event.
var attTable = [numStages][numEvents]attCell{
	// failed, objected, closed, broken, exited, silent, aborted, stopped, asked, weighed, hurried, finished, answered, ready, late
	atNaming:      {none, none, none, none, none, none, back, skip, okay, deny, skip, {doProceed, atSaving}, none, none, none},
	atSaving:      {none, none, none, none, none, none, back, skip, okay, deny, skip, {doProceed, atChoosing}, none, none, back},
	atChoosing:    {back, none, none, none, none, none, back, skip, okay, deny, skip, {doProceed, atStarting}, none, none, back},
	atStarting:    {back, back, skip, back, back, none, back, skip, okay, deny, skip, {doWelcomeEarly, stay}, {doGreet, atGreeted}, {doAdmit, atChecking}, back},
	atGreeted:     {back, back, back, back, back, none, back, skip, okay, deny, skip, {doWelcome, atChecking}, none, back, back},
	atChecking:    {back, back, back, back, back, none, back, skip, okay, deny, skip, {doProceed, atSmoking}, {doPrepare, atSmoking}, back, back},
	atSmoking:     {back, back, back, back, back, none, back, skip, okay, deny, skip, {doPassSmoke, atBaking}, none, back, none},
	atBaking:      {back, back, back, back, back, back, back, skip, okay, okay, {doProceed, atSoaking}, {doProceed, atSoaking}, none, back, none},
	atSoaking:     {back, back, back, back, back, back, back, skip, okay, deny, {doProceed, atAnnouncing}, {doProceed, atAnnouncing}, none, back, {doProceed, atAnnouncing}},
	atAnnouncing:  {back, back, back, back, back, back, back, skip, okay, deny, skip, {doProceed, atReleasing}, none, back, none},
	atReleasing:   {back, back, back, back, back, back, back, skip, okay, deny, skip, {doProceed, atMarshalling}, none, back, none},
	atMarshalling: {back, back, back, back, back, back, back, skip, okay, deny, skip, {doSeal, atCommitting}, none, back, back},
	atCommitting:  {back, back, back, back, back, skip, deny, term, deny, deny, skip, {doProceed, atEnded}, {doConfirm, atEnded}, skip, {doReopen, atUnconfirmed}},
	atUnconfirmed: {none, back, back, back, back, skip, deny, term, deny, deny, skip, none, {doConfirm, atEnded}, skip, {doProceed, atOverdue}},
	atOverdue:     {none, back, back, back, back, skip, deny, term, deny, deny, skip, none, {doConfirm, atEnded}, skip, back},
	atDismissing:  {halt, halt, tell, tell, {doProceed, atReacquiring}, {doProceed, atKilling}, skip, tell, okay, deny, skip, {doProceed, atReacquiring}, halt, skip, {doProceed, atKilling}},
	atKilling:     {halt, halt, tell, tell, {doProceed, atReacquiring}, skip, skip, tell, okay, deny, skip, halt, halt, skip, {doGiveUp, atReacquiring}},
	atReacquiring: {{doProceed, atEnded}, halt, skip, skip, skip, skip, skip, {doHurry, stay}, okay, deny, skip, {doProceed, atEnded}, halt, skip, halt},
	atEnded:       {halt, halt, halt, halt, halt, halt, deny, halt, deny, deny, halt, halt, halt, halt, halt},
}

// stageError is an event in a stage where the event cannot happen: a mistake in this library, which costs the upgrade and no more.
type stageError struct {
	stage stage
	event attEvent
}

func (e *stageError) Error() string {
	return fmt.Sprintf("%v in stage %v of an upgrade: this cannot happen, please report it", e.event, e.stage)
}
