package handoff

import (
	"net"
	"os"
	"time"

	"github.com/midair-go/midair/upgrade/internal/listener"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// Mover passes idle connections to another process. There are three Movers. In a step of a bake, a Dispatcher passes connections
// to the candidate. After a commit, a Successor passes connections to the new process. After a lower weight or an abort, a
// Returner passes connections back to the old process.
type Mover interface {
	// Move passes a connection on, and reports whether the other process has the connection now. origin is the listener that has
	// accepted the connection. ahead has the bytes that the server has read already: the other process has to read these bytes
	// first. Without bytes ahead, Move waits until the other process has room for the connection or the client sends something.
	Move(origin listener.Origin, c net.Conn, ahead []byte) bool
	// Stop makes the calls of Move return that wait for room. Their connections stay here, and so do those of later calls.
	Stop()
}

// The sending of a connection in a message of its own waits at most for one of these limits if the other process is busy.
const (
	// idleLimit is for an idle connection, if the other process sends no answers. A request that comes meanwhile waits too, so the
	// limit is below a second.
	idleLimit = 500 * time.Millisecond
	// lastLimit is for a connection with bytes ahead, which the server offers only once. It is also for a connection that came
	// after the commit, which this process cannot serve (see SendLate).
	lastLimit = 2 * time.Second
)

func patience(about wire.ConnBody) time.Duration {
	if about.Idle {
		return idleLimit
	}
	return lastLimit
}

// Successor passes idle connections to the process that has taken over.
type Successor struct {
	takes Takes
	flow  *flow
}

// NewSuccessor makes a Successor. When the new process first has no room for a connection, full is called. full must not wait.
func NewSuccessor(to *wire.Link, t Takes, full func()) *Successor {
	return &Successor{takes: t, flow: newFlow(to, succeeding{}, full)}
}

// Move passes an idle connection to the new process. Move is a Mover.
func (s *Successor) Move(origin listener.Origin, c net.Conn, ahead []byte) bool {
	about := wire.ConnBody{Network: origin.Network, Addr: origin.Addr, Ahead: ahead, Idle: len(ahead) == 0}
	if !s.takes.allow(&about, origin.Others...) || !s.flow.move(c, about) {
		return false
	}
	Bare(c).Close() // this closes only the descriptor: a Close of c might end the connection
	return true
}

// Stop ends the moving of connections whose turn has not come.
func (s *Successor) Stop() { s.flow.stop() }

// succeeding is the cargo of a Successor, which sends all connections.
type succeeding struct{}

func (succeeding) load(*offer) fate { return goes }

func (succeeding) landed(o *offer, took bool) bool {
	o.close()
	return took
}

// SendLate passes on a connection that came to this process after the commit, and reports success. It waits up to two seconds
// for a busy process. The caller closes the file.
func SendLate(to *wire.Link, about wire.ConnBody, file *os.File) bool {
	return to.SendWithin(wire.KindConn, about, file, lastLimit) == nil
}
