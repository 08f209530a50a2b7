package upgrade

import (
	"fmt"

	"github.com/midair-go/midair/upgrade/internal/wire"
)

// Which messages a candidate may send, and in which phases. If a message is out of order, the attempt is taken back: the
// candidate is not the program that it seems to be, or it has a bug in the very code that is about to take over. When the
// attempt was taken back already, a message out of order has no effect, and only the first one is logged.

// phaseTakenBack is the phase after the attempt was taken back, until the candidate has ended. Users do not see this phase.
const phaseTakenBack Phase = "taken back"

// columns has the phases in the order of the columns of the table words.
var columns = [...]Phase{PhaseStart, PhaseCheck, PhaseSmoke, PhaseBake, PhaseSoak, PhaseCommit, phaseTakenBack}

// rule decides whether a message of a kind may come in a phase.
type rule int

const (
	never rule = iota
	once
	often
	afterDial   // any number of times after the old process has sent dial
	afterShare  // any number of times after the old process has sent share
	afterCommit // any number of times after the old process has sent commit
)

// words is the table, with a row for each kind of message that a candidate may send. The column "taken back" also allows
// messages that were sent before the abort and arrive later. Known kinds without a row are always out of order. Unknown kinds
// are ignored.
var words = map[wire.Kind][len(columns)]rule{
	//                  start  check   smoke      bake        soak        commit       taken back
	wire.KindListeners: {often, never, never, never, never, never, often},
	wire.KindHello:     {once, never, never, never, never, never, once},
	wire.KindTakes:     {never, often, never, never, never, afterCommit, often},
	wire.KindPrepared:  {never, once, never, never, never, never, once},
	wire.KindDialed:    {never, never, afterDial, afterDial, afterDial, afterDial, afterDial},
	wire.KindMessage:   {never, often, often, often, often, often, often},
	wire.KindBeat:      {never, never, never, afterShare, afterShare, afterShare, afterShare},
	wire.KindConn:      {never, never, never, afterShare, afterShare, afterShare, often},
	wire.KindServing:   {never, never, never, never, never, afterCommit, afterCommit},
	wire.KindHurry:     {never, never, never, never, never, afterCommit, afterCommit},
	wire.KindFailed:    {often, often, often, often, often, often, often},
	wire.KindReturned:  {never, never, never, never, never, never, once},
}

// ruleOf returns the rule for a kind in a phase.
func ruleOf(k wire.Kind, p Phase) rule {
	for n, column := range columns {
		if column == p {
			return words[k][n]
		}
	}
	return never
}

// allows reports whether a message may come. The argument before is true if the candidate has already sent a message of the
// same kind. The function sent reports whether the old process has sent a message of the given kind.
func (r rule) allows(before bool, sent func(wire.Kind) bool) bool {
	switch r {
	case once:
		return !before
	case often:
		return true
	case afterDial:
		return sent(wire.KindDial)
	case afterShare:
		return sent(wire.KindShare)
	case afterCommit:
		return sent(wire.KindCommit)
	}
	return false
}

// wordError means that a message of the candidate, or the Ready byte, was out of order.
type wordError struct {
	word  string
	phase Phase
}

func (e *wordError) Error() string {
	return fmt.Sprintf("%s out of order in phase %s: it does not keep to the control protocol", e.word, e.phase)
}

// readyWord is the word of a wordError for the Ready byte, which comes on tableflip's pipe.
const readyWord = "the Ready byte"
