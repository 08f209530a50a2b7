//go:build unix

package upgrade

import (
	"bytes"
	"errors"
	"sync"
	"testing"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/upgrade/internal/wire"
	"github.com/midair-go/midair/upgrade/internal/wiretest"
)

// stuckLink returns a link whose peer does not read until read is called. The channel sending gets a value for each message.
func stuckLink(t *testing.T) (l *wire.Link, sending chan struct{}, read func()) {
	t.Helper()
	sending, room := make(chan struct{}, 16), make(chan struct{})
	l = wire.NewLink(&wiretest.Transport{Sent: func([]byte) { sending <- struct{}{}; <-room }})
	t.Cleanup(l.Close)
	read = sync.OnceFunc(func() { close(room) })
	t.Cleanup(read)
	return l, sending, read
}

// Status does not wait while this process sends a message to a process that does not read.
func TestStatusWaitsForNobody(t *testing.T) {
	for name, send := range map[string]func(*Upgrader, *wire.Link) error{
		"hurry": func(u *Upgrader, l *wire.Link) error {
			u.history.elders.add(&elder{link: l})
			u.history.elders.hurry(1, u.log)
			return nil
		},
		"previous build": func(u *Upgrader, l *wire.Link) error { return u.history.previous.pass(l) },
		"orphan": func(u *Upgrader, l *wire.Link) error {
			u.history.elders.add(&elder{link: l, orphan: true})
			dismiss(u.history.elders.dismissed(), u.estate.listeners, u.log)
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			u, err := NewUnsupported(Options{})
			if err != nil {
				t.Fatal(err)
			}
			if u.history.previous.build, err = process.Own("v0"); err != nil {
				t.Fatal(err)
			}
			defer u.history.previous.release()
			l, sending, read := stuckLink(t)
			defer read()
			sent := make(chan error, 1)
			go func() { sent <- send(u, l) }()
			<-sending
			wiretest.InTime(t, func() { u.Status() })
			read()
			if err := <-sent; err != nil {
				t.Error(err)
			}
		})
	}
}

// If the old process does not read, the candidate still handles events.
func TestLoopWaitsForNoReader(t *testing.T) {
	for _, c := range []struct {
		event genEvent
		state genState
		kind  wire.Kind
	}{
		{onChecksPassed, genCandidate, 0},
		{onMessage, genCandidate, wire.KindDial},
		{onTaken, genCommitting, 0},
		{onServed, genAborted, 0},
	} {
		t.Run(c.event.String(), func(t *testing.T) {
			var log bytes.Buffer
			g, end := inState(t, c.state, &log)
			g.old.link.Close()
			l, sending, read := stuckLink(t)
			g.old.link, g.origin.elder.link = l, l
			wiretest.InTime(t, func() { g.fire(c.event, detail{frame: wire.Frame{Kind: c.kind, Body: []byte("{}")}}) })
			if c.event == onTaken {
				g.fire(onWritten, detail{telling: <-g.tellings.written})
			}
			<-sending
			read()
			end()
		})
	}
}

// closing is a transport that can be closed once.
type closing struct {
	wiretest.Transport
	closed chan struct{}
}

func (c *closing) Close() error { close(c.closed); return nil }

// The message serving is sent even if the messages of the old process cannot be read any more. Otherwise the old process would
// take the end of the socket for the end of the candidate. The socket is closed after the message.
func TestServingIsSentOnABrokenSocket(t *testing.T) {
	var log bytes.Buffer
	g, end := inState(t, genCommitting, &log)
	defer end()
	g.old.link.Close()
	began, goOn := make(chan struct{}), make(chan struct{})
	var closedBefore bool
	c := &closing{closed: make(chan struct{})}
	c.Sent = func(b []byte) {
		if wire.Kind(b[4]) == wire.KindServing {
			close(began)
			<-goOn
			closedBefore = isClosed(c.closed)
		}
	}
	g.old.link = wire.NewLink(c)
	g.fromOld = nil
	g.fire(onTaken, detail{})
	g.fire(onWritten, detail{telling: <-g.tellings.written})
	<-began
	g.fire(onLinkBroken, detail{})
	close(goOn)
	g.hasTold(<-g.tellings.ended)
	if closedBefore || !isClosed(c.closed) {
		t.Errorf("the socket was closed before the message: %v, and is closed afterwards: %v", closedBefore, isClosed(c.closed))
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// stuckValue is a value whose MarshalBinary waits.
type stuckValue struct{ asked, answer chan struct{} }

func (v stuckValue) MarshalBinary() ([]byte, error) {
	close(v.asked)
	<-v.answer
	return nil, errors.New("late")
}

func (v stuckValue) UnmarshalBinary([]byte) error { return nil }

// If a kept value of an aborted candidate hangs in MarshalBinary, the candidate still handles events, and a stop ends it.
func TestValueThatHangsAfterAnAbort(t *testing.T) {
	var log bytes.Buffer
	g, end := inState(t, genAborted, &log)
	defer end()
	v := stuckValue{make(chan struct{}), make(chan struct{})}
	defer close(v.answer)
	g.estate.keeper.Keep("value", v)
	g.accepted = true
	wiretest.InTime(t, func() { g.hasServed(nil) })
	<-v.asked
	if g.state != genReturning {
		t.Errorf("now %v", g.state)
	}
	wiretest.InTime(t, func() {
		g.stop(errors.New("SIGTERM"))
		g.snapshot.drop()
	})
	if g.state != genLeaving {
		t.Errorf("now %v", g.state)
	}
}
