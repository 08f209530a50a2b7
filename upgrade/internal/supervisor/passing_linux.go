package supervisor

import (
	"os"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
)

// passing is how a process gets what is held: over its channel, so that nothing has to be inherited. Each message has as many
// sockets as fit, the first one waits in the channel before the process is executed, and the next one follows when that was
// received: what is on the way counts against the limits of the user.
type passing struct {
	rest  []kept
	total int
}

// queue sends the first sockets to a process that is about to be started.
func (s *supervisor) queue(channel *os.File) (*passing, error) {
	held, done, err := s.held()
	if err != nil {
		return nil, err
	}
	defer done()
	p := &passing{rest: held, total: len(held)}
	return p, p.next(channel)
}

// next sends as many sockets as one message has room for. What is sent first is not the store's, and is closed then.
func (p *passing) next(channel *os.File) error {
	var files []*os.File
	lines, size := []string{sdnotify.WordSockets}, 0
	for _, k := range p.rest {
		if size += len(k.name); len(files) == sys.MaxFiles || size > sdnotify.SocketsText {
			break
		}
		files, lines = append(files, k.file), append(lines, sdnotify.WordName+k.name)
	}
	if len(files) == 0 {
		return nil
	}
	p.rest = p.rest[len(files):]
	return send(channel, files, lines...)
}

// pass sends the next sockets to a process that has received those before. Without them it could not serve.
func (s *supervisor) pass(g *generation) {
	if g.passing == nil {
		return
	}
	if err := g.passing.next(g.inbox.file); err != nil {
		s.log.Error("upgrade: supervisor: cannot pass the sockets on: the process is ended", "pid", g.pid, "err", sys.Explain(err))
		s.outage.unable(time.Now())
		s.counted = g // the fault is not its build's
		g.kill()
	}
}
