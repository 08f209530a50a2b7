package supervisor

import (
	"log/slog"
	"os"
	"strconv"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
)

// An orphan is a candidate whose old process has died before the candidate received the commit message. This happens under
// memory pressure, when the kernel kills the bigger process first, and nothing has shown yet that the orphan's build is good.
// The orphan serves for a while, so that no client is refused. The supervisor starts the build that was committed last, with
// a greater number than both processes had. The orphan and the new process get a control socket to each other before the new
// program is executed. When the new process serves, it dismisses the orphan over that socket, and takes idle connections and
// state, even if the supervisor has died. Only if the committed build ends twice before it serves, or the machine does not
// let it start for Timeout, does the orphan become the service.

// toMeet lists the processes to which the next started process gets a control socket: those announced by another process that
// live and are orphans, or have not reported yet whether they are.
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

// meeting is an orphan that is to have a control socket to the process started in its place.
type meeting struct {
	orphan  *proc
	channel *os.File // the supervisor's end of the orphan's channel; orphan owns the file
	text    []string // the message about the orphan, for the new process
}

func newMeeting(p *proc) meeting {
	return meeting{p, p.inbox.file, []string{
		sdnotify.WordOrphan, sdnotify.WordPID + strconv.Itoa(p.pid), sdnotify.WordGeneration + strconv.Itoa(p.number), sdnotify.WordVersion + p.version,
	}}
}

// arrange makes a control socket, and sends one end to the orphan and the other end to the new process, whose channel is given.
// arrange does not wait.
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

// confirm sends the newest orphan the order to be the service, and returns the orphan; nil if there is none. The orphan sends
// READY when the order is carried out.
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
