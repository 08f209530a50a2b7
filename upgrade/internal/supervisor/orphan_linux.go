package supervisor

import (
	"log/slog"
	"os"
	"strconv"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
)

// An orphan is a candidate whose old process has died before the candidate received the commit message. Under memory pressure,
// for example, the kernel kills the bigger process first. Nothing has shown yet that the orphan's build is good. The orphan
// serves for a while, so that no client is refused. The supervisor starts the build that was committed last, with a greater
// number than both processes had. Before the new program is executed, the supervisor makes a control socket between the orphan
// and the new process. When the new process serves, it dismisses the orphan over that socket, and takes the orphan's idle
// connections and state. This works even if the supervisor has died. The orphan becomes the service only if the committed build
// ends twice before it serves, or if the machine does not let it start for Timeout.

// toMeet lists the processes that get a control socket to the process that is started next. These are the living announced
// processes that are orphans, or that may still report that they are orphans: candidates, processes that may have been sent the
// commit message, and former main generations that have not handed over.
func toMeet(procs *children) (all []meeting) {
	for _, p := range procs.byNumber() {
		switch p.state {
		case candidate, committed, orphan, superseded:
			if p.parent != nil && !p.dead() {
				p.met = 0
				all = append(all, newMeeting(p))
			}
		}
	}
	return all
}

// meeting is for an orphan, or for a process that may still report that it is an orphan (see toMeet). The process is to get a
// control socket to the process that is started in its place.
type meeting struct {
	orphan  *proc
	channel *os.File // the supervisor's end of the channel to the orphan; the orphan's proc closes the file
	text    []string // the message about the orphan, for the new process
}

func newMeeting(p *proc) meeting {
	return meeting{p, p.inbox.file, []string{
		sdnotify.WordOrphan, sdnotify.WordPID + strconv.Itoa(p.pid), sdnotify.WordGeneration + strconv.Itoa(p.number), sdnotify.WordVersion + p.version,
	}}
}

// arrange makes a control socket. It sends one end over channel to the new process, and the other end to the orphan. It does
// not wait.
func (m meeting) arrange(channel *os.File) error {
	a, b, err := sys.SocketPair()
	if err != nil {
		return err
	}
	defer a.Close()
	defer b.Close()
	if err := send(channel, []*os.File{a}, m.text...); err != nil {
		return sys.Explain(err)
	}
	if err := send(m.channel, []*os.File{b}, sdnotify.WordSuccessor); err != nil {
		return sys.Explain(err)
	}
	return nil
}

// confirm sends one orphan of the list the order to be the service, and returns that orphan. It tries the orphans in their
// order, the newest first, until an order could be sent. If no order could be sent, the result is nil. The orphan sends READY
// when it is the service.
func confirm(orphans []*proc, log *slog.Logger) *proc {
	for _, p := range orphans {
		if err := p.inbox.send(nil, sdnotify.WordConfirmed); err != nil {
			log.Error("upgrade: supervisor: an orphan cannot be told that it is the service", "pid", p.pid, "err", err)
			continue
		}
		log.Error("upgrade: supervisor: the committed build does not start: the process that nobody has committed is the service", "pid", p.pid)
		return p
	}
	return nil
}
