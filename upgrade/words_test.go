//go:build unix

package upgrade

import (
	"errors"
	"os"
	"strings"
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
	return &attempt{u: &Upgrader{}, ctx: t.Context(), child: &child{link: l, Child: &process.Child{Ready: ready, Exited: exited}}}
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
					_ = a.inOrder(k, phase)
				}
				if err := a.inOrder(k, phase); outOfOrder(err) == c.want {
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
			for _, plain := range []bool{false, true} {
				a := attemptWith(t)
				a.plain = plain
				if err := a.inOrder(k, phase); k.Known() || err != nil {
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
			a.plain = true
			if err := a.inOrder(k, phase); !outOfOrder(err) {
				t.Errorf("%v in phase %s: %v", k, phase, err)
			}
		}
	}
}

// The reason of a word out of order names the word and the phase.
func TestWordOutOfOrderIsNamed(t *testing.T) {
	a := attemptWith(t)
	a.phase = PhaseBake
	err := a.hear(wire.Frame{Kind: wire.KindServing})
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
	a.child.link = wire.NewLink(&quietTransport{wiretest.Transport{Pieces: pieces}, make(chan struct{})})
	t.Cleanup(a.child.link.Close)
	a.phase = PhaseStart
	return a
}

// The Ready byte counts after the commit message only. Before that, it is a word out of order of a candidate that says hello,
// whichever of the two is noticed first, and the only word of a program that knows tableflip only.
func TestReadyByteBeforeTheCommit(t *testing.T) {
	for range 8 { // what has happened at the same time is looked at in any order
		a := saying(t, wire.KindHello)
		close(a.child.Ready)
		if _, err := a.until(wire.KindPrepared, 10*time.Second, nil); !outOfOrder(err) || !strings.Contains(err.Error(), "the Ready byte out of order in phase start") || a.plain {
			t.Fatalf("after hello: %v, plain %v", err, a.plain)
		}
		a = saying(t)
		close(a.child.Ready)
		if _, err := a.until(wire.KindHello, 10*time.Second, nil); err != nil || !a.plain {
			t.Fatalf("alone: %v, plain %v", err, a.plain)
		}
		a = saying(t, wire.KindPrepared)
		close(a.child.Ready)
		if _, err := a.until(wire.KindHello, 10*time.Second, nil); !outOfOrder(err) {
			t.Fatalf("with another word: %v", err)
		}
	}
}

// Where the Ready byte is noticed last, just before the commit message, it still ends the attempt.
func TestReadyByteJustBeforeTheCommit(t *testing.T) {
	for _, plain := range []bool{false, true} {
		a := saying(t)
		a.phase, a.plain, a.came = PhaseCommit, plain, map[wire.Kind]bool{wire.KindHello: !plain}
		a.u.opts.Timeout = time.Minute
		close(a.child.Ready)
		m := &marshalled{done: make(chan struct{})}
		close(m.done)
		for range 20 {
			if _, _, err := a.lastWord(m); outOfOrder(err) == plain || plain != a.committing {
				t.Fatalf("plain %v: %v, committing %v", plain, err, a.committing)
			}
		}
	}
}

// After the commit message the Ready byte is awaited, and is no confirmation: that is the message serving.
func TestReadyByteIsNoConfirmation(t *testing.T) {
	a := saying(t)
	a.phase, a.committing = PhaseCommit, true
	close(a.child.Ready)
	if _, err := a.until(wire.KindServing, 2*helloDelay, nil); !errors.Is(err, errLimit) {
		t.Errorf("the commit is confirmed by %v", err)
	}
}

// quietTransport is that of a process that says nothing more, and lives.
type quietTransport struct {
	wiretest.Transport
	closed chan struct{}
}

func (w *quietTransport) Recv(b []byte) (int, []*os.File, error) {
	if len(w.Pieces) > 0 {
		return w.Transport.Recv(b)
	}
	<-w.closed
	return 0, nil, os.ErrClosed
}

func (w *quietTransport) Close() error {
	close(w.closed)
	return nil
}
