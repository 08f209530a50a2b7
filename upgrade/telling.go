package upgrade

import (
	"os"
	"slices"
	"time"

	"github.com/midair-go/midair/upgrade/internal/handoff"
	"github.com/midair-go/midair/upgrade/internal/listener"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// telling is the work by which a new main generation makes itself known. The generation writes files, and sends messages to the
// service manager, the old process and the older generations. Goroutines beside the loop of Run do the work, because a file
// system may hang, and because a receiver perhaps does not read. Sending ends within seconds. An attempt waits until all
// tellings have ended. This includes tellings that begin during the wait (see settled).
type telling struct {
	written   chan struct{}     // closed when the files are written; nil: no files have to be written, or the sending has begun
	first     bool              // send makes Status and the log show that this process serves
	announced bool              // messages to the service manager are queued, and send has to wait until they were sent
	serving   *wire.ServingBody // the message to the old process; nil: none
	later     bool              // announce leaves a part of its work to keepRest, which completeTold calls
	forgotten []*os.File        // unopened sockets that the service manager is asked to forget
	drop      func()            // closes the sockets that this version has not opened; end calls the function unless it is nil
}

// tellings has the running tellings.
type tellings struct {
	all     []*telling
	written chan *telling // gets a telling when its files are written
	ended   chan *telling // gets each telling at its end
	none    chan struct{} // see settled; nil: no attempt waits

	stopBy  time.Time        // when a stop waits no longer for files; zero: no stop has waited
	stopDue <-chan time.Time // gets a value at stopBy; nil: no stop waits
}

// holdStop reports whether a stop has to wait until files are written. A stop waits at most fileWait.
func (s *tellings) holdStop() bool {
	if s.writing() == nil {
		return false
	}
	if s.stopBy.IsZero() {
		s.stopBy, s.stopDue = time.Now().Add(fileWait), time.After(fileWait)
	}
	return time.Now().Before(s.stopBy)
}

func newTellings() tellings {
	return tellings{written: make(chan *telling, 1), ended: make(chan *telling)}
}

// write begins to write the files of a telling in a goroutine. When the files are written, the goroutine sends the telling to
// s.written. A generation calls write only once.
func (s *tellings) write(p *parts, t *telling) {
	t.written = make(chan struct{})
	s.all = append(s.all, t)
	go func() { // ends when the files are written; finish waits at most a second, because the file system may hang
		defer close(t.written)
		atStep("new.write")
		p.estate.putPathsBack()
		if err := p.estate.publishPID(); err != nil {
			p.log.Error("upgrade: serving without a pid file", "err", err)
		}
		recordUpgrade(p)
		s.written <- t
	}()
}

// writing returns the telling whose files are being written; nil if there is none.
func (s *tellings) writing() *telling {
	for _, t := range s.all {
		if t.written != nil {
			return t
		}
	}
	return nil
}

// sending reports whether the messages of a telling are being sent.
func (s *tellings) sending() bool {
	return slices.ContainsFunc(s.all, func(t *telling) bool { return t.written == nil })
}

// awaitFiles waits at most a second until the files of all tellings are written, and reports whether they are.
func (s *tellings) awaitFiles() bool {
	t := s.writing()
	if t == nil {
		return true
	}
	select {
	case <-t.written:
		return true
	case <-time.After(time.Second):
		return false
	}
}

// begin begins to send the messages of a telling in a goroutine. Then the goroutine sends the telling to s.ended.
func (s *tellings) begin(p *parts, old *wire.Link, t *telling) {
	if t.written == nil {
		s.all = append(s.all, t)
	}
	t.written = nil
	go func() { // ends when the loop has received the telling
		t.send(p, old)
		s.ended <- t
	}()
}

// closeAfter closes the control socket to the old process. If a telling still uses the socket, completeTold closes the socket
// instead.
func (s *tellings) closeAfter(old *wire.Link) {
	if !slices.ContainsFunc(s.all, func(t *telling) bool { return t.serving != nil }) {
		old.Close()
	}
}

// remove removes a telling that has ended.
func (s *tellings) remove(t *telling, n *naming) {
	s.all = slices.DeleteFunc(s.all, func(o *telling) bool { return o == t })
	s.settle(n)
}

// settled returns a channel that is closed when all tellings and the wait n for the old process have ended. If there is nothing
// to wait for, the result is nil.
func (s *tellings) settled(n *naming) <-chan struct{} {
	if len(s.all) == 0 && !n.waits() {
		return nil
	}
	if s.none == nil {
		s.none = make(chan struct{})
	}
	return s.none
}

// settle is called when a telling or the wait n has ended. If there is nothing more to wait for, settle closes the channel of
// settled.
func (s *tellings) settle(n *naming) {
	if s.none != nil && len(s.all) == 0 && !n.waits() {
		close(s.none)
		s.none = nil
	}
}

// send sends the messages of a telling.
func (t *telling) send(p *parts, old *wire.Link) {
	if t.announced || len(t.forgotten) > 0 {
		p.estate.manager.Settle()
	}
	if t.announced {
		atStep("new.announced")
	}
	if t.first && p.shown.setServing() {
		p.log.Info("upgrade: serving", "generation", p.origin.generation, "version", p.opts.Version, "pid", os.Getpid())
	}
	if t.serving != nil {
		// After the message serving, the old process takes no connections back. So all moves must have ended before.
		p.traffic.awaitMoves()
		_ = handoff.SendTakes(old, p.estate.listeners) // a dead old process needs no message
		_ = old.Send(wire.KindServing, *t.serving)
	}
	introduceElders(p)
	p.history.elders.hurry(p.opts.MaxGenerations, p.log)
}

// end closes the sockets of a telling. If main is true, this process is the main generation. In this case Empty first accepts
// the connections that wait in the queues of the forgotten sockets.
func (t *telling) end(set *listener.Set, main bool) {
	for _, f := range t.forgotten {
		if main {
			set.Empty(f)
		} else {
			f.Close()
		}
	}
	if t.drop != nil {
		t.drop()
	}
}
