package upgrade

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/broadcast"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// How the generations of a service get their broadcast sockets: a socket for each two generations that live at the same time.
// The process that starts a candidate makes a socket between itself and the candidate, and a socket between the candidate and
// each older generation. It sends each end over the control socket to the process. If a generation has no socket to an older
// generation when it becomes the main generation, it makes the socket itself. For a process that the supervisor starts, the
// supervisor makes the sockets to all other generations.

// introduceWait is how long the sending of a broadcast socket may wait for room in a control socket. A generation without the
// socket serves as before.
const introduceWait = time.Second

// connect makes a broadcast socket, and passes one end to each function. The functions do not close the file.
func connect(one, other func(*os.File) error) error {
	a, b, err := sys.SocketPair()
	if err != nil {
		return err
	}
	defer a.Close()
	defer b.Close()
	if err := one(a); err != nil {
		return err
	}
	return other(b)
}

// joinsBroadcasts returns a function for connect that gives an end to this process.
func (e *estate) joinsBroadcasts(who wire.IntroduceBody) func(*os.File) error {
	return func(file *os.File) error {
		own, err := sys.DupFile(file)
		if err != nil {
			return err
		}
		return e.broadcasts.Join(own, who)
	}
}

// introduces returns a function for connect that sends an end to another process.
func introduces(to *wire.Link, who wire.IntroduceBody) func(*os.File) error {
	return func(file *os.File) error {
		err := to.TrySend(wire.KindIntroduce, who, file, introduceWait)
		switch {
		case errors.Is(err, errors.ErrUnsupported):
			return to.Send(wire.KindIntroduce, who, file)
		case err != nil && !wire.Gone(err): // there is no room at present
			return to.SendWithin(wire.KindIntroduce, who, file, introduceWait)
		}
		return err
	}
}

// introduce makes the broadcast sockets of a candidate. own and next are the numbers of this generation and of the candidate.
func introduce(e *estate, h *history, c *child, own, next int) {
	self := wire.IntroduceBody{Generation: own, PID: os.Getpid()}
	candidate := wire.IntroduceBody{Generation: next, PID: c.PID, Since: sys.Uptime()}
	e.room.with(func() {
		e.warnUnintroduced(candidate, connect(e.joinsBroadcasts(candidate), introduces(c.link, self)))
		for _, old := range h.elders.list() {
			if old.link != nil {
				who := wire.IntroduceBody{Generation: old.Generation, PID: old.PID}
				e.warnUnintroduced(who, connect(introduces(old.link, candidate), introduces(c.link, who)))
			}
		}
	})
}

// introduceElders makes the broadcast sockets to older generations that this process has no such socket to: the old process is
// of an earlier version of the library, or has died before it could make the sockets.
func introduceElders(p *parts) {
	self := wire.IntroduceBody{Generation: p.origin.generation, PID: os.Getpid(), Since: p.origin.born.Begun}
	for _, old := range p.history.elders.list() {
		if old.link != nil && !p.estate.broadcasts.Reaches(old.PID) {
			who := wire.IntroduceBody{Generation: old.Generation, PID: old.PID}
			p.estate.warnUnintroduced(who, connect(p.estate.joinsBroadcasts(who), introduces(old.link, self)))
		}
	}
}

// warnUnintroduced logs that a generation got no broadcast socket. A generation that has ended needs none, and neither does any
// other generation if this process is about to end.
func (e *estate) warnUnintroduced(who wire.IntroduceBody, err error) {
	if err != nil && !wire.Gone(err) && !errors.Is(err, broadcast.ErrClosed) {
		e.log.Warn("upgrade: a generation gets no broadcast socket", "generation", who.Generation, "pid", who.PID, "err", err)
	}
}

// joinIntroduced takes a broadcast socket from the supervisor.
func (e *estate) joinIntroduced(m sdnotify.Message) {
	err := errors.New("the message came without its descriptor")
	var file *os.File
	if len(m.Files) == 1 {
		file, err = sys.DupFile(m.Files[0])
	}
	var who wire.IntroduceBody
	who.PID, _ = strconv.Atoi(m.Value(sdnotify.WordPID)) // there is no pid for a process that is not executed yet
	who.Generation, _ = strconv.Atoi(m.Value(sdnotify.WordGeneration))
	if err == nil {
		err = e.broadcasts.JoinSuccessor(file, who)
	}
	e.warnUnintroduced(who, err)
}

// sendBroadcast implements Upgrader.Broadcast.
func (e *estate) sendBroadcast(name string, data []byte) error {
	switch err := e.broadcasts.Broadcast(name, data); {
	case errors.Is(err, broadcast.ErrClosed):
		return fmt.Errorf("%w: broadcast %q: Run has ended", ErrClosed, name)
	case err != nil:
		return fmt.Errorf("upgrade: broadcast %.*q: %w", broadcast.NameLimit, name, err)
	}
	return nil
}
