//go:build unix

package upgrade

import (
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/upgrade/internal/wire"
	"github.com/midair-go/midair/upgrade/internal/wiretest"
)

// order is what a candidate may send: a row for each kind, a letter for each phase, from start to taken back. "1" is the first
// message only, "n" any number, "-" none, and d, s, c any number once the old process has sent dial, share or commit.
var order = map[wire.Kind]string{
	wire.KindListeners: "n-----n",
	wire.KindTakes:     "-n---cn",
	wire.KindHello:     "1-----1",
	wire.KindWelcome:   "-------",
	wire.KindPrepared:  "-1----1",
	wire.KindOpen:      "-------",
	wire.KindCommit:    "-------",
	wire.KindServing:   "-----cc",
	wire.KindFailed:    "nnnnnnn",
	wire.KindAbort:     "-------",
	wire.KindReturned:  "------1",
	wire.KindReleased:  "-------",
	wire.KindDial:      "-------",
	wire.KindDialed:    "--ddddd",
	wire.KindPrevious:  "-------",
	wire.KindElder:     "-------",
	wire.KindHurry:     "-----cc",
	wire.KindShare:     "-------",
	wire.KindConn:      "---sssn",
	wire.KindBeat:      "---ssss",
	wire.KindWeight:    "-------",
	wire.KindShut:      "-------",
	wire.KindMessage:   "-nnnnnn",
	wire.KindNamed:     "-------",
}

var openers = map[byte]wire.Kind{'d': wire.KindDial, 's': wire.KindShare, 'c': wire.KindCommit}

// attemptOf is an attempt of a generation, in a stage.
func attemptOf(t *testing.T, u *Upgrader, s stage) *attempt {
	t.Helper()
	a := newAttempt(t.Context(), &u.parts, modeUpgrade)
	a.stage = s
	return a
}

// attemptWith is an attempt whose old process has sent messages of those kinds.
func attemptWith(t *testing.T, sent ...wire.Kind) *attempt {
	t.Helper()
	l := wire.NewLink(&wiretest.Transport{})
	t.Cleanup(l.Close)
	for _, k := range sent {
		if err := l.Send(k, nil); err != nil {
			t.Fatal(err)
		}
	}
	ready, exited := make(chan struct{}), make(chan struct{})
	c := &child{link: l, Child: &process.Child{Ready: ready, Exited: exited}}
	a := attemptOf(t, &Upgrader{}, atStarting)
	a.child, a.received = c, received{frames: l.Frames, ready: ready}
	return a
}

// comes is the arrival of a message in a phase.
func (a *attempt) comes(k wire.Kind, in Phase) error {
	return a.received.inOrder(k, in, a.peer, a.child.link.Sent)
}

func outOfOrder(err error) bool { return errors.As(err, new(*wordError)) }

// Each kind of message may come in the phases that the table has for it, and nowhere else: whether the old process has asked for
// it, and whether one has come before, is part of the answer.
func TestEveryWordHasItsPhases(t *testing.T) {
	every := []wire.Kind{wire.KindDial, wire.KindShare, wire.KindCommit}
	for k := wire.KindHello; k.Known(); k++ {
		if len(order[k]) != len(columns) {
			t.Fatalf("no row for %v", k)
		}
		for n, phase := range columns {
			cell := order[k][n]
			for name, c := range map[string]struct {
				sent   []wire.Kind
				before bool
				want   bool
			}{
				"unasked":      {nil, false, strings.IndexByte("1n", cell) >= 0},
				"asked":        {every, false, cell != '-'},
				"a second":     {every, true, strings.IndexByte("-1", cell) < 0},
				"only its own": {[]wire.Kind{openers[cell]}, false, cell != '-'},
			} {
				a := attemptWith(t, c.sent...)
				if c.before {
					_ = a.comes(k, phase)
				}
				if err := a.comes(k, phase); outOfOrder(err) == c.want {
					t.Errorf("%v in phase %s, %s: %v, want allowed %v", k, phase, name, err, c.want)
				}
			}
		}
	}
}

// What the old process alone may say, and what a later protocol may have, are told apart: the one is out of order, and the
// other is ignored, in every phase.
func TestUnknownWordsAreIgnored(t *testing.T) {
	for _, phase := range columns {
		for _, k := range []wire.Kind{0, 40, 63, 64, 77, 128, 255} {
			for _, p := range []peer{midair{}, tableflipPeer{}} {
				a := attemptWith(t)
				a.peer = p
				if err := a.comes(k, phase); k.Known() || err != nil {
					t.Errorf("%v in phase %s: %v", k, phase, err)
				}
			}
		}
	}
}

// A program that has written the Ready byte without a hello has said everything: no message of the protocol may follow.
func TestPlainProgramSaysNothingElse(t *testing.T) {
	for _, phase := range columns {
		for k := wire.KindHello; k.Known(); k++ {
			a := attemptWith(t, wire.KindDial, wire.KindShare, wire.KindCommit)
			a.peer = tableflipPeer{}
			if err := a.comes(k, phase); !outOfOrder(err) {
				t.Errorf("%v in phase %s: %v", k, phase, err)
			}
		}
	}
}

// The reason of a word out of order names the word and the phase.
func TestWordOutOfOrderIsNamed(t *testing.T) {
	a := attemptWith(t)
	a.stage = atBaking
	err := a.handle(wire.Frame{Kind: wire.KindServing})
	if err == nil || !strings.Contains(err.Error(), "message serving out of order in phase bake") {
		t.Error(err)
	}
}

// saying is an attempt in phase start whose candidate has sent those messages, and then nothing more.
func saying(t *testing.T, kinds ...wire.Kind) *attempt {
	t.Helper()
	a := attemptWith(t)
	var pieces [][]byte
	for _, k := range kinds {
		b, err := wire.Encode(k, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		pieces = append(pieces, b)
	}
	a.child.link = wire.NewLink(&quietTransport{Transport: wiretest.Transport{Pieces: pieces}, closed: make(chan struct{})})
	a.received.frames = a.child.link.Frames
	t.Cleanup(a.child.link.Close)
	return a
}

// The Ready byte counts after the commit message only. Before that, it is a word out of order of a candidate that says hello,
// whichever of the two is noticed first, and the only word of a program that knows tableflip only.
func TestReadyByteBeforeTheCommit(t *testing.T) {
	limit := func() time.Time { return time.Now().Add(10 * time.Second) }
	for range 8 { // what has happened at the same time is looked at in any order
		a := saying(t, wire.KindHello)
		close(a.child.Ready)
		if n := a.next(&await{want: wire.KindPrepared, due: limit()}); !outOfOrder(n.err) || !strings.Contains(n.err.Error(), "the Ready byte out of order in phase start") {
			t.Fatalf("after hello: %+v", n)
		}
		a = saying(t)
		close(a.child.Ready)
		if n := a.next(&await{want: wire.KindHello, due: limit()}); n.event != evReady {
			t.Fatalf("alone: %+v", n)
		}
		a = saying(t, wire.KindPrepared)
		close(a.child.Ready)
		if n := a.next(&await{want: wire.KindHello, due: limit()}); !outOfOrder(n.err) {
			t.Fatalf("with another word: %+v", n)
		}
	}
}

// Where the Ready byte is noticed last, just before the commit message, it still ends the attempt.
func TestReadyByteJustBeforeTheCommit(t *testing.T) {
	a := saying(t)
	a.stage, a.received.kinds = atMarshalling, map[wire.Kind]bool{wire.KindHello: true}
	if err := a.act(doSeal, news{event: evFinished}); err != nil {
		t.Errorf("without the byte: %v", err)
	}
	close(a.child.Ready)
	if err := a.act(doSeal, news{event: evFinished}); !outOfOrder(err) {
		t.Errorf("with the byte: %v", err)
	}
	a.child.passing = &passing{}
	a.opts.AllowPlain = true
	if err := a.act(doAdmit, news{event: evReady}); err != nil {
		t.Fatal(err)
	}
	if err := a.act(doSeal, news{event: evFinished}); err != nil {
		t.Errorf("from a program with tableflip only: %v", err)
	}
}

// After the commit message the Ready byte is awaited, and is no confirmation: that is the message serving.
func TestReadyByteIsNoConfirmation(t *testing.T) {
	a := saying(t)
	a.stage = atCommitting
	close(a.child.Ready)
	if n := a.next(&await{want: wire.KindServing, due: time.Now().Add(2 * helloDelay)}); n.event != evLate {
		t.Errorf("the commit is confirmed by %+v", n)
	}
}

// quietTransport is that of a process that says nothing more, and lives.
type quietTransport struct {
	wiretest.Transport
	closed chan struct{}
	once   sync.Once
}

func (w *quietTransport) Recv(b []byte) (int, []*os.File, error) {
	if len(w.Pieces) > 0 {
		return w.Transport.Recv(b)
	}
	<-w.closed
	return 0, nil, os.ErrClosed
}

func (w *quietTransport) Close() error {
	w.once.Do(func() { close(w.closed) })
	return nil
}
