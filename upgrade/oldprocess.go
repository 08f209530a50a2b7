package upgrade

import (
	"errors"
	"log/slog"
	"time"

	"github.com/midair-go/midair/upgrade/internal/handoff"
	"github.com/midair-go/midair/upgrade/internal/listener"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// oldProcess is what a generation knows of the old process. In an orphan, the process that the supervisor has started takes the place
// of the old process.
type oldProcess struct {
	link      *wire.Link       // nil: there is none that speaks the control protocol
	takes     handoff.Takes    // which connections it can be given back
	sharing   *handoff.Sharing // of connections with it, while this candidate is tried with a weight
	heartbeat *time.Ticker     // when to tell it that this process lives; nil: it does not want to know
}

// share begins to take connections of the old process, and to tell it that this one is alive.
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

// heartbeats returns the channel of the ticks; nil if the old process does not want to know.
func (o *oldProcess) heartbeats() <-chan time.Time {
	if o.heartbeat == nil {
		return nil
	}
	return o.heartbeat.C
}

// endHeartbeat ends the ticks.
func (o *oldProcess) endHeartbeat() {
	if o.heartbeat != nil {
		o.heartbeat.Stop()
		o.heartbeat = nil
	}
}

// returner returns what Move does to send connections back to the old process: a part of them for a change of the weight, all at weight 0.
func (o *oldProcess) returner(choice handoff.Choice, from, to float64) handoff.Mover {
	return handoff.NewReturner(o.link, o.takes, choice, from, to).Move
}

// serveDialed serves a private connection of the old process, and returns the answer.
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

// logInherited logs what of the old process could not be taken. That is not worth a failure.
func logInherited(log *slog.Logger, err error) {
	if err != nil {
		log.Warn("upgrade: not all of what the old process left could be taken", "err", err)
	}
}
