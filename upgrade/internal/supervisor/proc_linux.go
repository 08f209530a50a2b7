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

// proc is a process of the chain of generations, or a process that might become a generation.
type proc struct {
	pid    int // 0: the process was dead when it was announced
	key    int // in the map of children
	handle *process.Handle
	inbox  *inbox // the supervisor's end of the channel
	parent *proc  // the process that has announced this one; nil: the supervisor has started it
	state  procState
	intent intent

	number  int
	version string
	met     int            // the number of the process that an orphan has a control socket to
	passing *passing       // the held sockets that the process has not got yet; nil: none
	build   *process.Build // as announced; nil: as started by the supervisor, or remembered as the last build by now

	started time.Time
	led     time.Time // when the process became the service; zero: never
	stopped time.Time // when the end of a main generation was noticed

	serveBy time.Time // when a process that was started must serve; zero: no limit
	endBy   time.Time // when the process must have ended, or have said that it is an orphan; zero: no limit
	aliveBy time.Time // when the watchdog's time is over; zero: no watchdog

	status unix.WaitStatus
	known  bool // the status
}

// intent is the meaning of the end of a process, as known beforehand.
type intent int

const (
	unintended intent = iota // an end would be a crash
	asked                    // a signal has asked the process to end
	announced                // the process has said that the service ends
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

// intend notes the meaning of the end of the process. An announcement by the process stays.
func (p *proc) intend(i intent) { p.intent = max(p.intent, i) }

// claimedNumber returns the number that a process has given itself in READY; 0 if there is none.
func claimedNumber(m *sdnotify.Message) int {
	number, err := strconv.Atoi(m.Value(sdnotify.WordGeneration))
	if err != nil {
		return 0
	}
	return number
}

// noteClaim takes number and version of the process from READY.
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

// mayTakeOver reports whether the process may become the service by itself, when there is no main generation. A candidate may
// from the moment on in which the commit message can have been sent.
func (p *proc) mayTakeOver() bool {
	switch p.state {
	case committed, confirmed, superseded:
		return !p.dead()
	}
	return false
}

// isOrphan reports whether the process is an orphan that lives and was not dismissed.
func (p *proc) isOrphan() bool { return p.state == orphan && !p.dead() }

// reaped notes how the process has ended, and tells the parent.
func (p *proc) reaped(pid int, ws unix.WaitStatus) {
	p.status, p.known = ws, true
	if p.parent != nil && !p.parent.dead() { // fails if the parent ends just now
		_ = p.parent.inbox.send(nil, sdnotify.WordEnded+strconv.Itoa(pid), sdnotify.WordStatus+process.Describe(syscall.WaitStatus(ws)))
	}
}

// exitCode is the exit status as in a shell. The status of a process reaped by an older generation is unknown: a process that
// was to end has ended well.
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

// deliberate reports whether the end of the process is the end of the service, and no crash. A second SIGINT may have ended the
// process without the supervisor, before the supervisor has read of the first SIGINT.
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

// served is how long a process that has ended had been the service; negative for a process that never was.
func (p *proc) served() time.Duration {
	if p.led.IsZero() {
		return -1
	}
	return p.stopped.Sub(p.led)
}

// sweep kills the process group of a crashed generation. Candidates have groups of their own. If another process has reaped the
// generation, the number may belong to a new process by now, and so does the group: the kernel gives no process the number of a
// group with members.
func (p *proc) sweep() {
	if p.pid <= 0 {
		return
	}
	if p.handle.Signal(0) != nil && unix.Kill(p.pid, 0) != unix.ESRCH {
		return
	}
	_ = unix.Kill(-p.pid, unix.SIGKILL) // fails if the group is empty
}
