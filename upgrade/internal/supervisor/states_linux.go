package supervisor

import "fmt"

// procState is the state of a process between its start, or its announcement, and its end.
type procState int

const (
	starting   procState = iota // the main generation, started by the supervisor: it has not served yet
	candidate                   // a process that was announced by its parent, and is not committed
	committed                   // a candidate to which its parent may have sent the commit message
	orphan                      // a candidate whose parent died before the commit: it serves until the committed build serves
	confirmed                   // an orphan that the supervisor has ordered to be the service
	serving                     // the main generation
	hung                        // the main generation, which was silent and was sent SIGABRT
	killed                      // the main generation, which was silent after SIGABRT too and was sent SIGKILL
	superseded                  // the former main generation, which has not handed over: it may become the service again
	draining                    // a process that has handed over, or is no longer needed: it only finishes its connections
	dismissed                   // an orphan that has to end, because the committed build serves
	terminated                  // a dismissed orphan that has not ended in time, and was sent SIGTERM
	ended                       // the process has ended
	states                      // the number of states
)

// event is what may happen to a process.
type event int

const (
	onLeads         event = iota // READY=1 of the process that is, or now becomes, the main generation
	onLate                       // READY=1 that comes too late: another process has become the main generation
	onRival                      // READY=1 of another process with the same number as the main generation
	onAlive                      // WATCHDOG=1
	onHandedOver                 // the process has handed over
	onOrphan                     // the process has lost its parent before the commit
	onParentCommits              // the parent is about to send the commit message
	onParentResumes              // the parent is still or again the service, or announces another candidate
	onParentEnded                // the parent was the main generation, and has ended or has handed over
	onSuperseded                 // another process becomes the main generation
	onMainServes                 // an orphan has to end: another process has become the main generation, and serves
	onConfirmed                  // the supervisor has sent this orphan the order to be the service
	onSilence                    // the main generation has not sent WATCHDOG=1 in time
	onOverdue                    // the process has not ended in time, or has not reported in time that it is an orphan
	onEnded                      // the process has ended
	events                       // the number of events
)

// action is the answer of the supervisor to an event. The zero value is the answer to an event that cannot happen.
type action int

const (
	impossible   action = iota // log the event, and do nothing
	nothing                    // only change the state
	lead                       // make the process the main generation
	reaffirm                   // relay READY=1 of the main generation
	refuse                     // send SIGTERM to a rival
	disbelieve                 // log that an orphan claims to be the service, and do nothing else
	rearm                      // give the main generation the full time of the watchdog again
	abort                      // send SIGABRT to a silent process
	killSilent                 // kill a silent process
	disarm                     // switch the watchdog off
	shelter                    // let an orphan serve, or dismiss the orphan if another process is the service already
	dismiss                    // limit the time that an orphan has to end, and connect it with the main generation
	terminate                  // send SIGTERM to an orphan that has not ended in time
	killOverdue                // kill a process whose time to end, or to report, is over
	limitWait                  // set the limit Timeout for a candidate to report that it is an orphan
	limitDrain                 // set the limit AbortGrace and a second for a draining candidate to end
	settle                     // find out which process is to serve, if none does
	mend                       // the main generation has ended: end the service, or begin to replace the main generation
	actionNumber               // the number of actions
)

// cell is the answer to an event in a state.
type cell struct {
	do   action
	next procState
}

// table is the life of every process: what each event does in each state. If an event has no cell in a state, it cannot happen
// in that state, and the state does not change.
var table = [states][events]cell{
	starting: {
		onLeads: {lead, serving}, onSuperseded: {disarm, superseded}, onHandedOver: {settle, draining},
		onAlive: {nothing, starting}, onOrphan: {nothing, starting}, onOverdue: {killOverdue, starting}, onEnded: {mend, ended},
	},
	candidate: {
		onLeads: {lead, serving}, onLate: {nothing, draining}, onRival: {refuse, candidate}, onHandedOver: {settle, draining},
		onOrphan: {shelter, orphan}, onParentCommits: {nothing, committed}, onParentResumes: {nothing, candidate},
		onParentEnded: {limitWait, candidate}, onAlive: {nothing, candidate}, onOverdue: {killOverdue, candidate}, onEnded: {settle, ended},
	},
	committed: {
		onLeads: {lead, serving}, onLate: {nothing, draining}, onRival: {refuse, committed}, onHandedOver: {settle, draining},
		onOrphan: {shelter, orphan}, onParentCommits: {nothing, committed}, onParentResumes: {nothing, candidate},
		onParentEnded: {nothing, committed}, onAlive: {nothing, committed}, onOverdue: {killOverdue, committed}, onEnded: {settle, ended},
	},
	orphan: {
		onLeads: {disbelieve, orphan}, onLate: {disbelieve, orphan}, onRival: {disbelieve, orphan}, onHandedOver: {settle, draining},
		onMainServes: {dismiss, dismissed}, onConfirmed: {nothing, confirmed}, onOrphan: {nothing, orphan},
		onParentCommits: {nothing, orphan}, onParentResumes: {nothing, orphan}, onParentEnded: {nothing, orphan},
		onAlive: {nothing, orphan}, onEnded: {settle, ended},
	},
	confirmed: {
		onLeads: {lead, serving}, onLate: {nothing, draining}, onRival: {refuse, confirmed}, onHandedOver: {settle, draining},
		onOrphan: {nothing, confirmed}, onParentCommits: {nothing, confirmed}, onParentResumes: {nothing, confirmed},
		onAlive: {nothing, confirmed}, onEnded: {settle, ended},
	},
	serving: {
		onLeads: {reaffirm, serving}, onSuperseded: {disarm, superseded}, onHandedOver: {settle, draining},
		onAlive: {rearm, serving}, onSilence: {abort, hung}, onOrphan: {nothing, serving},
		onParentCommits: {nothing, serving}, onParentResumes: {nothing, serving}, onOverdue: {killOverdue, serving}, onEnded: {mend, ended},
	},
	hung: {
		onLeads: {reaffirm, hung}, onSuperseded: {disarm, superseded}, onHandedOver: {settle, draining},
		onAlive: {rearm, serving}, onSilence: {killSilent, killed}, onOrphan: {nothing, hung},
		onParentCommits: {nothing, hung}, onParentResumes: {nothing, hung}, onOverdue: {killOverdue, hung}, onEnded: {mend, ended},
	},
	killed: {
		onLeads: {reaffirm, killed}, onSuperseded: {disarm, superseded}, onHandedOver: {settle, draining},
		onAlive: {rearm, serving}, onSilence: {killSilent, killed}, onOrphan: {nothing, killed},
		onParentCommits: {nothing, killed}, onParentResumes: {nothing, killed}, onOverdue: {killOverdue, killed}, onEnded: {mend, ended},
	},
	superseded: {
		onLeads: {lead, serving}, onLate: {nothing, draining}, onRival: {refuse, superseded}, onHandedOver: {settle, draining},
		onAlive: {nothing, superseded}, onOrphan: {nothing, superseded}, onParentCommits: {nothing, superseded},
		onParentResumes: {nothing, superseded}, onParentEnded: {nothing, superseded}, onOverdue: {killOverdue, superseded},
		onEnded: {settle, ended},
	},
	draining: {
		onLeads: {nothing, draining}, onLate: {nothing, draining}, onRival: {nothing, draining}, onHandedOver: {nothing, draining},
		onAlive: {nothing, draining}, onOrphan: {nothing, draining}, onParentCommits: {nothing, draining},
		onParentResumes: {nothing, draining}, onParentEnded: {limitDrain, draining}, onSuperseded: {nothing, draining},
		onOverdue: {killOverdue, draining}, onEnded: {settle, ended},
	},
	dismissed: {
		onLeads: {nothing, dismissed}, onLate: {nothing, dismissed}, onRival: {nothing, dismissed}, onHandedOver: {nothing, dismissed},
		onAlive: {nothing, dismissed}, onOrphan: {nothing, dismissed}, onParentCommits: {nothing, dismissed},
		onParentResumes: {nothing, dismissed}, onParentEnded: {nothing, dismissed}, onOverdue: {terminate, terminated}, onEnded: {settle, ended},
	},
	terminated: {
		onLeads: {nothing, terminated}, onLate: {nothing, terminated}, onRival: {nothing, terminated}, onHandedOver: {nothing, terminated},
		onAlive: {nothing, terminated}, onOrphan: {nothing, terminated}, onParentCommits: {nothing, terminated},
		onParentResumes: {nothing, terminated}, onParentEnded: {nothing, terminated}, onOverdue: {killOverdue, terminated}, onEnded: {settle, ended},
	},
	ended: {},
}

// step looks the event up in the table, and returns the action and the next state.
func (s procState) step(e event) (action, procState) {
	c := table[s][e]
	if c.do == impossible {
		return impossible, s
	}
	return c.do, c.next
}

// isLeaving reports whether a process only finishes its connections.
func (s procState) isLeaving() bool { return s == draining || s == dismissed || s == terminated }

var stateNames = [states]string{
	"starting", "candidate", "committed", "orphan", "confirmed", "serving", "hung", "killed", "superseded", "draining", "dismissed", "terminated", "ended",
}

var eventNames = [events]string{
	"leads", "late", "rival", "alive", "handed over", "orphan", "parent commits", "parent resumes", "parent ended", "superseded", "main serves",
	"confirmed", "silence", "overdue", "ended",
}

var actionNames = [actionNumber]string{
	"impossible", "nothing", "lead", "reaffirm", "refuse", "disbelieve", "rearm", "abort", "kill silent", "disarm", "shelter", "dismiss", "terminate",
	"kill overdue", "limit wait", "limit drain", "settle", "mend",
}

func (s procState) String() string { return name(stateNames[:], int(s)) }
func (e event) String() string     { return name(eventNames[:], int(e)) }
func (a action) String() string    { return name(actionNames[:], int(a)) }

func name(names []string, i int) string {
	if i < 0 || i >= len(names) {
		return fmt.Sprint(i)
	}
	return names[i]
}
