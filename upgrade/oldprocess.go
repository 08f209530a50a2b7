package upgrade

import (
	"errors"
	"log/slog"
	"time"

	"github.com/midair-go/midair/upgrade/internal/handoff"
	"github.com/midair-go/midair/upgrade/internal/listener"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// oldProcess is the connection of a generation to the old process. In an orphan, the process that the supervisor has started
// takes the place of the old process.
type oldProcess struct {
	link      *wire.Link       // nil: there is no old process with the control protocol
	takes     handoff.Takes    // the listeners for which the old process takes connections back
	sharing   *handoff.Sharing // connections shared with the old process, since this candidate has a weight; nil: none
	heartbeat *time.Ticker     // ticks when a heartbeat to the old process is due; nil: no heartbeats are sent
}

// share begins to take connections from the old process, and to send heartbeats to the old process.
func (o *oldProcess) share(f wire.Frame) error {
	if len(f.Files) == 0 {
		return wire.ErrFrame
	}
	s, err := handoff.NewSharing(f.Files[0])
	if err != nil {
		return err
	}
	o.sharing, o.heartbeat = s, time.NewTicker(beatEvery)
	return nil
}

// heartbeats returns the channel of the ticks at which a heartbeat is due; nil if no heartbeats are sent.
func (o *oldProcess) heartbeats() <-chan time.Time {
	if o.heartbeat == nil {
		return nil
	}
	return o.heartbeat.C
}

// endHeartbeat ends the heartbeats.
func (o *oldProcess) endHeartbeat() {
	if o.heartbeat != nil {
		o.heartbeat.Stop()
		o.heartbeat = nil
	}
}

// returner is called when the weight of this candidate falls, and after an abort. It returns the Mover with which
// Upgrader.Move sends idle connections back to the old process. The arguments from and to are the weight before and after the
// change, and both are 0 after an abort. If the new weight is 0, all idle connections go back, and otherwise a part of them.
func (o *oldProcess) returner(choice handoff.Choice, from, to float64) handoff.Mover {
	return handoff.NewReturner(o.link, o.takes, choice, from, to, o.sharing)
}

// serveDialed handles the message dial: it gives the private connection in f to the listener that the message names. It
// returns the answer to the old process.
func serveDialed(set *listener.Set, f wire.Frame) wire.DialedBody {
	var body wire.DialBody
	err := f.Decode(&body)
	if err == nil && len(f.Files) == 0 {
		err = errors.New("no connection came along")
	}
	if err == nil {
		err = set.Give(body.Network, body.Addr, f.Files[0])
	}
	reply := wire.DialedBody{ID: body.ID}
	if err != nil {
		reply.Error = wire.Clip(err.Error())
	}
	return reply
}

// logInherited logs err, unless err is nil. The error means that this process could not take something from another process;
// the upgrade goes on nevertheless.
func logInherited(log *slog.Logger, err error) {
	if err != nil {
		log.Warn("upgrade: not all of what the old process left could be taken", "err", err)
	}
}
