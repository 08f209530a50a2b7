package killswitch

import (
	"cmp"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"

	"github.com/midair-go/midair/internal/kept"
)

const (
	// maxWriters is how many writers a state has at most.
	maxWriters = 64
	// maxCount is the largest number of kills that a writer of a state can have made.
	maxCount = 1 << 62
)

// format is the layout of a State: JSON in the whole body. Unknown fields, of a later build, are ignored.
var format = kept.Format{Name: "kill switch", Magic: "midair-kill\x00", Version: 1}

// A Word is what a request needs to know of a switch.
type Word uint32

// The words, from the weakest to the strongest.
const (
	Open    Word = iota // nothing is stopped
	Latched             // a judge has stopped it
	Killed              // an operator has stopped it, or the file cannot be used
)

// String returns "open", "latched" or "killed".
func (w Word) String() string {
	switch w {
	case Open:
		return "open"
	case Latched:
		return "latched"
	}
	return "killed"
}

// A State is the knowledge about a kill switch: who has killed and latched, and which kills and latches were revived. The zero
// value is open. A State is a value: its methods return another State and leave the receiver as it is.
//
// Each process that kills or latches is a writer with a random id, and numbers its kills from 1. A revival says, for each
// writer, up to which number kills are cleared. Merge takes the greater number of both states, so the order in which states
// arrive does not matter, and neither does a second copy of a state. A kill which was unknown to the reviving process
// has a number above the cleared ones.
type State struct {
	Writers []writer `json:"writers,omitempty"` // ordered by ID
	Revived event    `json:"revived,omitzero"`  // the last revival
}

var _ state[State] = State{}

// A writer is a process with its kills and latches.
type writer struct {
	ID    string `json:"id"`
	Host  string `json:"host,omitempty"`
	PID   int    `json:"pid,omitempty"`
	Kill  mark   `json:"kill,omitzero"`
	Latch mark   `json:"latch,omitzero"`
}

// A mark counts the kills, or the latches, of a writer.
type mark struct {
	Made    uint64 `json:"made"`              // the number of the last kill
	Cleared uint64 `json:"cleared,omitempty"` // the kills up to this number are revived; at most Made
	At      int64  `json:"at,omitempty"`      // when the last kill was made, in milliseconds since 1970
	Reason  string `json:"reason,omitempty"`  // of the last kill
}

func (m mark) set() bool { return m.Made > m.Cleared }

// Word returns the state as one word: killed if a kill is not revived, or else latched if a latch is not revived.
func (s State) Word() Word {
	word, _ := s.current()
	return word
}

// current returns the word, and the event that has led to the word. In an open state without a revival the event is zero.
func (s State) current() (word Word, last event) {
	for _, w := range s.Writers {
		for _, m := range []struct {
			word Word
			mark
		}{{Latched, w.Latch}, {Killed, w.Kill}} {
			e := event{At: m.At, Reason: m.Reason, Host: w.Host, PID: w.PID}
			if m.set() && (m.word > word || m.word == word && e.compare(last) > 0) {
				word, last = m.word, e
			}
		}
	}
	if word == Open {
		last = s.Revived
	}
	return word, last
}

// seen returns the word and the event as their process sees them: the switch is killed as long as the file cannot be used.
func (s State) seen(broken event) (Word, event) {
	if broken != (event{}) {
		return Killed, broken
	}
	return s.current()
}

// kill returns the state after a kill by a writer: always a new kill with a new number.
func (s State) kill(by writer, at int64, reason string) State {
	return s.with(by, func(w *writer) {
		w.Kill = mark{Made: w.Kill.Made + 1, Cleared: w.Kill.Cleared, At: at, Reason: reason}
	})
}

// latch returns the state after a latch by a writer. If an earlier latch of the writer is in force, the state stays.
func (s State) latch(by writer, at int64, reason string) State {
	if i, found := slices.BinarySearchFunc(s.Writers, by, byID); found && s.Writers[i].Latch.set() {
		return s
	}
	return s.with(by, func(w *writer) {
		w.Latch = mark{Made: w.Latch.Made + 1, Cleared: w.Latch.Cleared, At: at, Reason: reason}
	})
}

// revive returns the state with every kill and latch in it cleared.
func (s State) revive(e event) State {
	s.Writers = slices.Clone(s.Writers)
	for i := range s.Writers {
		w := &s.Writers[i]
		w.Kill.Cleared, w.Latch.Cleared = w.Kill.Made, w.Latch.Made
	}
	if e.compare(s.Revived) > 0 {
		s.Revived = e
	}
	return s
}

// with returns the state after a change of a writer. A missing writer is added.
func (s State) with(by writer, change func(*writer)) State {
	s.Writers = slices.Clone(s.Writers)
	change(s.writer(by))
	return s
}

// writer returns the place of a writer in Writers, which must be a copy of the caller. A missing writer is added.
func (s *State) writer(by writer) *writer {
	i, found := slices.BinarySearchFunc(s.Writers, by, byID)
	if !found {
		s.Writers = slices.Insert(s.Writers, i, by)
	}
	return &s.Writers[i]
}

func byID(a, b writer) int { return cmp.Compare(a.ID, b.ID) }

// merge returns what s and other know together.
func (s State) merge(other State) State {
	s.Writers = slices.Clone(s.Writers)
	for _, theirs := range other.Writers {
		w := s.writer(theirs)
		w.Kill, w.Latch = w.Kill.merge(theirs.Kill), w.Latch.merge(theirs.Latch)
		if cmp.Or(cmp.Compare(theirs.Host, w.Host), cmp.Compare(theirs.PID, w.PID)) > 0 {
			w.Host, w.PID = theirs.Host, theirs.PID
		}
	}
	if other.Revived.compare(s.Revived) > 0 {
		s.Revived = other.Revived
	}
	return s
}

func (m mark) merge(other mark) mark {
	cleared := max(m.Cleared, other.Cleared)
	if cmp.Or(cmp.Compare(other.Made, m.Made), cmp.Compare(other.At, m.At), cmp.Compare(other.Reason, m.Reason)) > 0 {
		m = other
	}
	m.Cleared = cleared
	return m
}

// prune returns the state with at most maxWriters writers. It leaves out writers of whom everything is revived first, then
// writers with a latch only, then writers with a kill, and of each kind the oldest first. The writer keep stays: the process
// goes on with its numbers. What was left out and comes back in an older state can kill again, and cannot revive, because
// a writer in a state clears only what the same writer has made.
func (s State) prune(keep string) State {
	if len(s.Writers) <= maxWriters {
		return s
	}
	rank := func(w writer) int {
		switch {
		case w.ID == keep:
			return 3
		case w.Kill.set():
			return 2
		case w.Latch.set():
			return 1
		}
		return 0
	}
	kept := slices.SortedFunc(slices.Values(s.Writers), func(a, b writer) int {
		return cmp.Or(cmp.Compare(rank(b), rank(a)), cmp.Compare(b.last(), a.last()), byID(a, b))
	})[:maxWriters]
	slices.SortFunc(kept, byID)
	s.Writers = kept
	return s
}

// last is when the writer has killed or latched last.
func (w writer) last() int64 { return max(w.Kill.At, w.Latch.At) }

func (s State) equal(other State) bool {
	return s.Revived == other.Revived && slices.Equal(s.Writers, other.Writers)
}

func (s State) encode() []byte {
	body, err := json.Marshal(s)
	if err != nil { // cannot happen: a State has strings and numbers only
		body = []byte("{}")
	}
	return format.Seal(append(format.Begin(), body...))
}

// parts returns the state as encoded states of at most limit bytes, of which each has some of the writers: together they merge
// to s. The writer whose id is first is in the first part. A part with a single writer may be longer than limit.
func (s State) parts(limit int, first string) (all [][]byte) {
	rest := slices.Clone(s.Writers)
	if i := slices.IndexFunc(rest, func(w writer) bool { return w.ID == first }); i > 0 {
		rest = slices.Concat(rest[i:i+1], rest[:i], rest[i+1:])
	}
	part := State{Revived: s.Revived}
	data := part.encode()
	for _, w := range rest {
		before := part.Writers
		part.Writers = append(slices.Clip(before), w)
		longer := part.encode()
		if len(longer) > limit && len(before) > 0 {
			all = append(all, data)
			part.Writers = []writer{w}
			longer = part.encode()
		}
		data = longer
	}
	return append(all, data)
}

// decode is the inverse of encode. If the state has numbers that no process writes, decode returns the error of a damaged state.
func decode(data []byte) (State, error) {
	r := format.Open(data)
	if err := r.Err(); err != nil {
		return State{}, err
	}
	var raw State
	if err := json.Unmarshal(r.Take(uint64(r.Left())), &raw); err != nil {
		return State{}, r.Damaged(err)
	}
	for i := range raw.Writers {
		w := &raw.Writers[i]
		w.Host, w.Kill.Reason, w.Latch.Reason = clean(w.Host), clean(w.Kill.Reason), clean(w.Latch.Reason)
		if w.ID == "" || !w.Kill.valid() || !w.Latch.valid() {
			return State{}, r.Damaged(errors.New("a writer without an id, or with numbers that no process writes"))
		}
	}
	raw.Revived.Host, raw.Revived.Reason = clean(raw.Revived.Host), clean(raw.Revived.Reason)
	return State{Revived: raw.Revived}.merge(raw), nil // ordered, and each writer once
}

func (m mark) valid() bool { return m.Made <= maxCount && m.Cleared <= m.Made }

func (State) decode(data []byte) (State, error) { return decode(data) }

func (State) kind() string { return "kill switch" }

func (s State) summary(broken event) uint32 {
	word, _ := s.seen(broken)
	return uint32(word)
}

func (s State) inForce(broken event) string {
	word, _ := s.seen(broken)
	return "it is " + word.String()
}

func (State) unusable(file string, err error) string {
	return "the file " + file + " cannot be used, so everything is stopped: look at the file, then revive or kill, " +
		"which replaces the file: " + err.Error()
}

func (State) lines(was, is view[State]) []line {
	wasWord, wasLast := was.state.seen(was.broken)
	word, last := is.state.seen(is.broken)
	if word == wasWord && last == wasLast {
		return nil
	}
	level := slog.LevelWarn
	if word == Open {
		level = slog.LevelInfo
	}
	return []line{{level: level, text: "the kill switch is " + word.String(), event: last}}
}
