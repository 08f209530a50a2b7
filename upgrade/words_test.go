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

// order has the messages that a candidate may send: a row for each kind, and a letter for each phase, from start to taken back.
// "1" allows only the first message, "n" any number, and "-" none. The letters d, s and c allow any number after the old
// process has sent dial, share or commit.
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
	wire.KindIntroduce: "-------",
	wire.KindBroadcast: "-------",
	wire.KindConns:     "-------", // a Link delivers each of the connections as a KindConn
	wire.KindTook:      "-------", // a Link delivers no answers
}

var openers = map[byte]wire.Kind{'d': wire.KindDial, 's': wire.KindShare, 'c': wire.KindCommit}

// attemptOf returns an attempt of a generation, in a stage.
func attemptOf(t *testing.T, u *Upgrader, s stage) *attempt {
	t.Helper()
	a := newAttempt(t.Context(), &u.parts, modeUpgrade)
	a.stage = s
	return a
}

// attemptWith returns an attempt whose old process has sent messages of the given kinds.
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

// comes makes a message arrive in a phase.
func (a *attempt) comes(k wire.Kind, in Phase) error {
	return a.received.inOrder(k, in, a.peer, a.child.link.Sent)
}

func outOfOrder(err error) bool { return errors.As(err, new(*wordError)) }

// Each kind of message may come only in the phases that the table has for it. The answer also depends on two facts: whether the
// old process has sent the message that asks for it, and whether a message of the kind has come before.
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

// A message that only the old process may send is out of order in every phase. A message of a later protocol is ignored in
// every phase.
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

// After the Ready byte without a hello, a program must send no message of the protocol.
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

// The error for a message out of order names the message and the phase.
func TestWordOutOfOrderIsNamed(t *testing.T) {
	a := attemptWith(t)
	a.stage = atBaking
	err := a.handle(wire.Frame{Kind: wire.KindServing})
	if err == nil || !strings.Contains(err.Error(), "message serving out of order in phase bake") {
		t.Error(err)
	}
}

// saying returns an attempt in phase start whose candidate has sent the given messages, and then nothing more.
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

// The Ready byte is expected only after the commit message. If a candidate has sent hello, an earlier Ready byte is out of
// order, whether the byte or hello is noticed first. A program with tableflip only sends the Ready byte and nothing else.
func TestReadyByteBeforeTheCommit(t *testing.T) {
	limit := func() time.Time { return time.Now().Add(10 * time.Second) }
	for range 8 { // several times, because select takes events that are ready together in any order
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

// The Ready byte still ends the attempt if it is noticed only just before the commit message.
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

// After the commit message the Ready byte is in order, but it does not confirm the commit. The message serving does.
func TestReadyByteIsNoConfirmation(t *testing.T) {
	a := saying(t)
	a.stage = atCommitting
	close(a.child.Ready)
	if n := a.next(&await{want: wire.KindServing, due: time.Now().Add(2 * helloDelay)}); n.event != evLate {
		t.Errorf("the commit is confirmed by %+v", n)
	}
}

// quietTransport is the transport to a process that lives and sends nothing more.
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
