package upgrade

import (
	"os"
	"slices"
	"time"

	"github.com/midair-go/midair/upgrade/internal/handoff"
	"github.com/midair-go/midair/upgrade/internal/listener"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// telling is the set of files that a new main generation writes, and of messages that it sends to the service manager, the old process, and
// the generations before. Both run beside the loop of Run, because a file system may hang, and a receiver perhaps does not read. Sending ends
// within seconds. An attempt begins only after the tellings that began before it have ended.
type telling struct {
	written   chan struct{}     // closed when the files are written; nil: no files
	first     bool              // Status and the log show after the announcement that this process serves
	announced bool              // messages for the service manager are in its queue
	serving   *wire.ServingBody // for the old process; nil: no message
	later     bool              // keepRest is called afterwards
	forgotten []*os.File        // sockets that the service manager has forgotten
	drop      func()            // closes sockets of the old process that are not needed afterwards; may be nil
	over      chan struct{}     // closed when the loop has handled the end
}

// tellings has the running tellings.
type tellings struct {
	all     []*telling
	written chan *telling // gets the telling with files when they are written
	ended   chan *telling // gets each telling at its end
}

func newTellings() tellings {
	return tellings{written: make(chan *telling, 1), ended: make(chan *telling)}
}

// write writes the files of a telling beside the loop, which receives from written and sends the messages then. A generation writes once.
func (s *tellings) write(p *parts, t *telling) {
	t.over, t.written = make(chan struct{}), make(chan struct{})
	s.all = append(s.all, t)
	go func() { // ends with the writing; finish does not wait for a file system that hangs
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

// sending reports whether messages are being sent.
func (s *tellings) sending() bool {
	return slices.ContainsFunc(s.all, func(t *telling) bool { return t.written == nil })
}

// awaitFiles waits a second at most for files that are being written, and reports whether none are left.
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

// begin begins a telling beside the loop, which receives from ended.
func (s *tellings) begin(p *parts, old *wire.Link, t *telling) {
	if t.written == nil {
		t.over = make(chan struct{})
		s.all = append(s.all, t)
	}
	t.written = nil
	go func() { // the loop waits for the end
		t.send(p, old)
		s.ended <- t
	}()
}

// closeAfter closes the socket of the old process, unless a running telling sends there: then completeTold closes the socket.
func (s *tellings) closeAfter(old *wire.Link) {
	if !slices.ContainsFunc(s.all, func(t *telling) bool { return t.serving != nil }) {
		old.Close()
	}
}

// remove forgets an ended telling.
func (s *tellings) remove(t *telling) {
	close(t.over)
	s.all = slices.DeleteFunc(s.all, func(o *telling) bool { return o == t })
}

// send sends the messages.
func (t *telling) send(p *parts, old *wire.Link) {
	if t.announced || len(t.forgotten) > 0 {
		p.estate.manager.Settle()
	}
	if t.announced {
		atStep("new.announced")
	}
	if t.first {
		p.shown.setServing()
		p.log.Info("upgrade: serving", "generation", p.origin.generation, "version", p.opts.Version, "pid", os.Getpid())
	}
	if t.serving != nil {
		// The old process serves what comes back until the message that this process serves.
		p.traffic.awaitMoves()
		_ = handoff.SendTakes(old, p.estate.listeners) // a dead old process needs no answer
		_ = old.Send(wire.KindServing, *t.serving)
	}
	p.history.elders.hurry(p.opts.MaxGenerations, p.log)
}

// end closes the sockets of a telling. The main generation serves the queues of forgotten sockets before.
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
