package upgrade

import "fmt"

// The states of an attempt. The table decides everything that an attempt does: step (attempt.go) looks up the row of the stage
// and the column of the event, carries out the action and goes to the next stage. states-attempt.md shows the table as a
// diagram.

// stage is a state of an attempt. An attempt goes through the stages from atNaming to atCommitting in this order. If the
// candidate confirms the commit late, atUnconfirmed and atOverdue follow. A failed attempt goes on with atDismissing.
type stage int

const (
	atNaming      stage = iota // this process still writes its files and sends its messages as a new main generation
	atSaving                   // this process tries to write its pid file and outcome again, after an error
	atChoosing                 // the file is read, and Options.Verify runs
	atStarting                 // the new process runs and has not sent hello
	atGreeted                  // hello has come, and MarshalBinary has not returned
	atChecking                 // the candidate restores state and runs its checks
	atSmoking                  // Options.Smoke runs
	atBaking                   // Options.Bake runs, and sets weights
	atSoaking                  // both processes accept
	atAnnouncing               // this process reports to the supervisor that the candidate may become the service
	atReleasing                // this process gives up its exclusive resources
	atMarshalling              // MarshalBinary runs
	atCommitting               // the commit message was sent, and this process does not accept
	atUnconfirmed              // the candidate has not confirmed in time, and this process accepts again
	atOverdue                  // the time for the confirmation is over, but perhaps it has come and was not read yet
	atDismissing               // the attempt is taken back, and the candidate finishes its requests
	atKilling                  // the candidate was sent SIGKILL
	atReacquiring              // the candidate has ended, and this process acquires its exclusive resources again
	atEnded
	numStages
)

var stageNames = [numStages]string{
	"naming", "saving", "choosing", "starting", "greeted", "checking", "smoking", "baking", "soaking", "announcing", "releasing",
	"marshalling", "committing", "unconfirmed", "overdue", "dismissing", "killing", "reacquiring", "ended",
}

func (s stage) String() string { return stageNames[s] }

// phases has the phase of each stage. In the stages from atDismissing on, users see the phase in which the attempt has failed
// instead (see attempt.phase).
var phases = [numStages]Phase{
	PhaseStart, PhaseStart, PhaseStart, PhaseStart, PhaseStart, PhaseCheck, PhaseSmoke, PhaseBake, PhaseSoak, PhaseCommit, PhaseCommit,
	PhaseCommit, PhaseCommit, PhaseCommit, PhaseCommit, phaseTakenBack, phaseTakenBack, phaseTakenBack, PhaseCommit,
}

// attEvent is an event in an attempt.
type attEvent int

const (
	evFailed   attEvent = iota // the stage could not begin, or its work has ended with an error
	evObjected                 // the candidate has sent its failure or a wrong message, or a subscriber's function has failed
	evClosed                   // the candidate has closed the control socket
	evBroken                   // the bytes from the control socket are not a message
	evExited                   // the candidate has ended
	evSilent                   // the candidate has to send heartbeats, and has sent nothing for Options.Silence
	evAborted                  // Abort was called, a stop of the service was requested, or the context of Upgrade has ended
	evStopped                  // the whole service is to end, and the stage has to act on this
	evAsked                    // SIGHUP has asked for another upgrade
	evWeighed                  // the judge has called SetWeight
	evHurried                  // Commit was called, or serve has returned: bake and soak end early
	evFinished                 // the work of the stage has ended without an error, or the stage has no work
	evAnswered                 // the message that the stage waits for has come
	evReady                    // the Ready byte of tableflip has come
	evLate                     // the time of the stage is over
	numEvents
)

var eventNames = [numEvents]string{
	"failed", "objected", "closed", "broken", "exited", "silent", "aborted", "stopped", "asked", "weighed", "hurried",
	"finished", "answered", "ready", "late",
}

func (e attEvent) String() string { return eventNames[e] }

// attAction is what an attempt does after an event, besides the change of the stage.
type attAction int

const (
	doImpossible   attAction = iota // the event cannot happen in this stage; if it does, the attempt is taken back
	doIgnore                        // the event has no effect in this stage
	doDeny                          // the caller gets a refusal: setWeight returns an error, tryAbort and remember return false
	doAllow                         // the request of the caller is accepted
	doProceed                       // the next stage begins, without another action
	doTakeBack                      // the attempt is taken back, and the event gives the reason
	doWelcomeEarly                  // the welcome is sent before hello has come
	doGreet                         // hello is read and checked
	doWelcome                       // the welcome is sent, unless it was sent early
	doAdmit                         // the attempt fails unless a program with tableflip only is allowed
	doPrepare                       // the message prepared is read
	doPassSmoke                     // a rehearsal ends, and any other attempt goes on
	doSeal                          // the attempt fails if the Ready byte has come before the commit message
	doReopen                        // this process accepts again, unless an exclusive resource is needed to serve
	doConfirm                       // the message serving is read, and this process names the candidate to systemd
	doWarn                          // the abort message is sent again: now it also forbids the candidate to become the service
	doStop                          // the candidate gets SIGTERM: the whole service ends
	doHurry                         // the context of Acquire ends, because the whole service is to end
	doGiveUp                        // the candidate has not ended after SIGKILL, and its pid is logged
	numActions
)

var actionNames = [numActions]string{
	"impossible", "ignore", "deny", "allow", "proceed", "take back", "welcome early", "greet", "welcome", "admit", "prepare",
	"pass smoke", "seal", "reopen", "confirm", "warn", "stop", "hurry", "give up",
}

func (a attAction) String() string { return actionNames[a] }

// attCell is an action and the next stage. If the action fails in a stage before atDismissing, the next stage is atDismissing
// instead.
type attCell struct {
	do   attAction
	next stage
}

// stay, as the next stage in a cell, means that the stage does not change.
const stay stage = -1

// Cells that the table has more than once.
var (
	none = attCell{doImpossible, atDismissing} // the event cannot happen; if it does, the attempt is taken back
	halt = attCell{doImpossible, atEnded}      // from atDismissing on: the event cannot happen; if it does, the attempt ends
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

// stageError means that an event has come in a stage in which it cannot happen. This is a mistake in this library. The upgrade
// fails, and this process serves on.
type stageError struct {
	stage stage
	event attEvent
}

func (e *stageError) Error() string {
	return fmt.Sprintf("%v in stage %v of an upgrade: this cannot happen, please report it", e.event, e.stage)
}
