package upgrade

import (
	"fmt"

	"github.com/midair-go/midair/upgrade/internal/wire"
)

// Which messages a candidate may send, and when, from the old process's side. A message out of order ends the attempt: a candidate that
// sends one is not what it seems, or has a bug in the very code that is about to take over. After the attempt was taken
// back, such a word has no effect, and the first one is logged.

// phaseTakenBack is the phase of an attempt that was taken back, until the candidate has ended. Users do not see this phase.
const phaseTakenBack Phase = "taken back"

// columns are the phases of the table.
var columns = [...]Phase{PhaseStart, PhaseCheck, PhaseSmoke, PhaseBake, PhaseSoak, PhaseCommit, phaseTakenBack}

// rule says whether a message of a kind may come in a phase.
type rule int

const (
	never rule = iota
	once
	often
	afterDial   // any number, when the old process has sent a private connection
	afterShare  // any number, when the old process gives connections away
	afterCommit // any number, when the old process has sent the commit
)

// words is the table: a row for each kind of message from a candidate. Messages from before the abort arrive in phase "taken back",
// and its column allows them. A known kind without a row never comes from a candidate; an unknown kind is ignored.
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

// allows reports whether a message may come. The argument before says whether the candidate has sent a message of this kind
// already, and sent reports whether the old process has sent a message of a kind.
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

// wordError is a message of the candidate that is out of order.
type wordError struct {
	word  string
	phase Phase
}

func (e *wordError) Error() string {
	return fmt.Sprintf("%s out of order in phase %s: it does not keep to the control protocol", e.word, e.phase)
}

// readyWord is how a wordError calls the byte on tableflip's pipe.
const readyWord = "the Ready byte"
