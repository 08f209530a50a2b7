package supervisor

import (
	"os"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
)

// passing sends the held sockets to a process over its channel, so that the process need not inherit them. Each message has as
// many sockets as fit. The first message is sent before the program is executed, and waits in the channel. Each further message
// is sent only when the process has received the message before, because sockets on the way count against a limit of the user.
type passing struct {
	rest  []kept
	total int
}

// queue sends the first of the held sockets to a process that is about to be started.
func queue(channel *os.File, held []kept) (*passing, error) {
	p := &passing{rest: held, total: len(held)}
	return p, p.next(channel)
}

// next sends the next sockets: as many as a message has room for.
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
