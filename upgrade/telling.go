package upgrade

import (
	"os"

	"github.com/midair-go/midair/upgrade/internal/handoff"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// telling is what a new main generation tells others: the service manager, the old process, and the generations before. It runs beside
// the loop of Run, because each of them may not read, and ends within seconds. Attempts begin after it.
type telling struct {
	announced bool              // messages for the service manager are in its queue
	serving   *wire.ServingBody // for the old process; nil: there is none to be told
	later     bool              // what announce has left is to be done after it
	forgotten []*os.File        // sockets that the service manager has forgotten then
	drop      func()            // closes sockets of the old process that are not needed after it; may be nil
	sent      chan struct{}     // closed when all is sent
}

// send sends all that is to be told.
func (t *telling) send(u *Upgrader) {
	defer close(t.sent)
	if t.announced || len(t.forgotten) > 0 {
		u.manager.Settle()
	}
	if t.announced {
		atStep("new.announced")
	}
	if t.serving != nil {
		// Until it is told that this one serves, the old process serves what comes back.
		u.awaitMoves()
		_ = handoff.SendTakes(u.parent, u.listeners) // a dead old process needs no answer
		_ = u.parent.Send(wire.KindServing, *t.serving)
	}
	u.hurryElders()
}

// end closes what was kept until the end of a telling. The main generation serves the queues of forgotten sockets before.
func (t *telling) end(u *Upgrader, main bool) {
	for _, f := range t.forgotten {
		if main {
			u.listeners.Empty(f)
		} else {
			f.Close()
		}
	}
	if t.drop != nil {
		t.drop()
	}
}
