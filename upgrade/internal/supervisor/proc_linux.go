package supervisor

import (
	"cmp"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"golang.org/x/sys/unix"
)

// proc is a process that the supervisor follows: a generation, or a process that might become a generation.
type proc struct {
	pid    int // 0: the process was dead when it was announced
	key    int // the key in the map of children: the pid, or a negative number if pid is 0
	handle *process.Handle
	inbox  *inbox // the supervisor's end of the channel
	parent *proc  // the process that has announced this process; nil: the supervisor has started this process
	state  procState
	intent intent

	number  int
	version string
	met     int            // an orphan has a control socket to the started process with this number; 0: it has none
	passing *passing       // sends the held sockets over the channel; nil: the supervisor sends no sockets over the channel
	build   *process.Build // from the announcement; nil: the supervisor started the process, or builds.remember has taken it

	started time.Time
	led     time.Time // when the process became the service; zero: never
	lostAt  time.Time // when the process was lost as the main generation, by a crash

	serveBy time.Time // until when a started process must serve; zero: no limit
	endBy   time.Time // until when the process must end, or report that it is an orphan; zero: no limit
	aliveBy time.Time // when the watchdog's time is over; zero: no watchdog

	status unix.WaitStatus
	known  bool // status is known
}

// intent tells, while a process runs, whether its end would be a crash.
type intent int

const (
	unintended intent = iota // an end would be a crash
	asked                    // a signal has asked the process to end
	announced                // the process has announced the end of the service
)

// newProc takes over the handle and the channel.
func newProc(handle *process.Handle, channel *os.File) *proc {
	return &proc{pid: handle.PID(), key: handle.PID(), handle: handle, inbox: newInbox(channel), started: time.Now()}
}

// step moves the process to the next state, and returns the action.
func (p *proc) step(e event) (do action) {
	do, p.state = p.state.step(e)
	return do
}

// intend notes that the end of the process would be no crash. An announcement counts more than a signal.
func (p *proc) intend(i intent) { p.intent = max(p.intent, i) }

// claimedNumber returns the number that a process has given itself in READY; 0 if there is none.
func claimedNumber(m *sdnotify.Message) int {
	number, err := strconv.Atoi(m.Value(sdnotify.WordGeneration))
	if err != nil {
		return 0
	}
	return number
}

// noteClaim takes the number and the version of the process from READY.
func (p *proc) noteClaim(m *sdnotify.Message) {
	p.number, p.version = cmp.Or(claimedNumber(m), p.number), cmp.Or(m.Value(sdnotify.WordVersion), p.version)
}

func (p *proc) send(sig syscall.Signal) { _ = p.handle.Signal(sig) } // fails if the process has ended

// kill ends the process and its process group.
func (p *proc) kill() { _ = p.handle.Kill() }

func (p *proc) dead() bool { return p.handle.Ended() }

// close releases the descriptors that belong to the process.
func (p *proc) close() {
	p.inbox.close()
	p.handle.Close()
	p.build.Close()
}

// mayTakeOver reports whether the process may become the service without a further order of the supervisor, when there is no
// main generation. Three kinds of living processes may: a candidate to which the commit message may have been sent, an orphan
// that was sent the order to be the service, and a former main generation that has not handed over.
func (p *proc) mayTakeOver() bool {
	switch p.state {
	case committed, confirmed, superseded:
		return !p.dead()
	}
	return false
}

// isOrphan reports whether the process is an orphan that lives and was not dismissed.
func (p *proc) isOrphan() bool { return p.state == orphan && !p.dead() }

// reaped notes how the process has ended, and sends this to its parent.
func (p *proc) reaped(pid int, ws unix.WaitStatus) {
	p.status, p.known = ws, true
	if p.parent != nil && !p.parent.dead() { // the message is lost if the parent ends just now
		_ = p.parent.inbox.send(nil, sdnotify.WordEnded+strconv.Itoa(pid), sdnotify.WordStatus+process.Describe(syscall.WaitStatus(ws)))
	}
}

// exitCode is the exit status as in a shell. If an older generation has reaped the process, the status is unknown. Then
// exitCode is 0 if the process was to end, or else 1.
func (p *proc) exitCode() int {
	switch {
	case p.known && p.status.Signaled():
		return 128 + int(p.status.Signal())
	case p.known:
		return p.status.ExitStatus()
	case p.intent != unintended:
		return 0
	}
	return 1
}

func (p *proc) describe() string {
	switch {
	case !p.known:
		return "unknown: an older generation is its parent"
	case p.status.Signaled():
		return "signal: " + p.status.Signal().String()
	}
	return "exit status " + strconv.Itoa(p.status.ExitStatus())
}

// deliberate reports whether the end of the process is the end of the service, and no crash. An end by SIGINT or SIGTERM counts
// as deliberate too. For example, a process that is sent SIGINT twice may end before the supervisor has handled the first
// SIGINT.
func (p *proc) deliberate() bool {
	return p.intent != unintended || p.known && p.status.Signaled() && (p.status.Signal() == unix.SIGINT || p.status.Signal() == unix.SIGTERM)
}

// since is when the process became the service, or else when the process was started.
func (p *proc) since() time.Time {
	if p.led.IsZero() {
		return p.started
	}
	return p.led
}

// served is how long a lost main generation was the service; negative if it never was the service.
func (p *proc) served() time.Duration {
	if p.led.IsZero() {
		return -1
	}
	return p.lostAt.Sub(p.led)
}

// sweep kills the process group of a crashed generation. Candidates have groups of their own, so sweep does not kill them.
// Perhaps the generation was reaped, and another process has got its pid. Then sweep does nothing: the old group has no member
// left, because the kernel gives no new process the number of a group that has members.
func (p *proc) sweep() {
	if p.pid <= 0 {
		return
	}
	if p.handle.Signal(0) != nil && unix.Kill(p.pid, 0) != unix.ESRCH {
		return
	}
	_ = unix.Kill(-p.pid, unix.SIGKILL) // fails if the group is empty
}
