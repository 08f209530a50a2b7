// Package killswitch is what an operator needs to stop a thing in all processes of a service: a kill switch, which stops a
// rollout until an operator revives the switch, and named entries, such as overrides of flags. Packages canary and flags share
// this package.
//
// A [State] is the part of a [Switch] without processes, files and clocks. States of several processes merge, in any order:
// killed wins, and a revival clears exactly the kills and latches known to the reviving process. [Entries] have such a part too,
// a table.
//
// Both are a replica, which holds the state of one process. A change is in memory first, then goes to the other processes, and
// then is in the file: a slow disk delays no other process. If the file or the broadcast fails, the change is in force in this
// process all the same; the error is returned, Status shows the error, and the next change tries again. A write merges what is in
// the file. If a change in the file was unknown, its process may have died before its broadcast arrived, so the change is sent
// too. For a Switch, Word is the whole request path: one atomic load.
//
// A process whose file cannot be used at the start has a Switch that is killed, or has no entries from the file. This lasts until
// a change of its own, or until a write has found a file that can be used. It is a matter of the process and its file, so it is
// in no state: Encode and Broadcast do not carry it, and no other process can clear it. A new process with a wrong path, for
// example, stops itself and not the old process.
//
// # Goroutines
//
// All methods may be called from any number of goroutines. Word, LatchNow, InForce, Next, Encode and Status do no I/O. Kill,
// Latch, Revive, Set, Clear, Publish and Merge write the file, and wait for the disk for at most [saveLimit]: a longer write goes
// on in a goroutine of its own. All of these but Merge also wait for the function Broadcast of the program, and all wait for
// OnChange.
package killswitch

import (
	"cmp"
	"log/slog"
	"strings"
	"time"
	"unicode"
)

// maxText is the number of bytes of a reason, or of the name of a host, that a state has at most.
const maxText = 512

// Options of a Switch, and of Entries.
type Options struct {
	Package   string                  // of the program's switch, "canary" for example; the first word of errors and log lines
	Name      string                  // of the switch, in errors and log lines
	File      string                  // the path of the file; empty: memory only
	Broadcast func(data []byte) error // sends a state, or a part of at most 16 KiB, to the other processes; nil: nothing is sent
	Logger    *slog.Logger            // default: slog.Default()

	// OnChange is called after each change of the state: by the change itself, by Merge, and by Start or a write that has found a
	// change in the file. The state is in force then, and no lock is held. Several goroutines may call OnChange at once, so
	// OnChange asks for the state of the moment. The method that has changed the state waits for OnChange. A panic of OnChange is
	// logged. Default: none.
	OnChange func()
}

// A state is what the processes of a service know together. A state is a value: its methods return another state and leave the
// receiver as it is. merge is commutative, associative and idempotent.
type state[S any] interface {
	merge(other S) S
	equal(other S) bool
	prune(keep string) S                    // the same knowledge within the limits of a state; keep is the id of the process
	parts(limit int, first string) [][]byte // encoded states, of at most limit bytes each, which merge to the state
	encode() []byte
	decode(data []byte) (S, error) // of any receiver

	// The argument broken is that of a view.
	summary(broken event) uint32 // what readers get without a lock
	inForce(broken event) string // what is in force, for an error

	// The receiver of the others may be any state too.
	kind() string                           // what the state is of
	unusable(file string, err error) string // what it means if the file cannot be used at the start
	lines(was, is view[S]) []line           // what is logged about a change
}

// A view is a state as its process sees it.
type view[S any] struct {
	state  S
	broken event // why the file cannot be used, since the start; zero: the file can be used
}

// A line is a line of the log about an event.
type line struct {
	level slog.Level
	text  string
	event event
	attrs []any
}

// An event is a kill, a latch, a revival or the like, as an operator sees it. The time is for people, and for the choice of which
// of several events is shown.
type event struct {
	At     int64  `json:"at,omitempty"`
	Reason string `json:"reason,omitempty"`
	Host   string `json:"host,omitempty"`
	PID    int    `json:"pid,omitempty"`
}

func (e event) compare(other event) int {
	return cmp.Or(cmp.Compare(e.At, other.At), cmp.Compare(e.Reason, other.Reason),
		cmp.Compare(e.Host, other.Host), cmp.Compare(e.PID, other.PID))
}

// now is the time of an event, in milliseconds since 1970.
func now() int64 { return toMillis(time.Now()) }

func toMillis(at time.Time) int64 { return at.UnixMilli() }

// endMillis returns an end in milliseconds since 1970, rounded up so that an entry never ends too early. The zero time, which is
// no end, is zero, and no other time is.
func endMillis(end time.Time) int64 {
	if end.IsZero() {
		return 0
	}
	return max(1, toMillis(end.Add(time.Millisecond-1)))
}

// fromMillis is the inverse of endMillis, and of toMillis for the time of an event.
func fromMillis(at int64) time.Time {
	if at == 0 {
		return time.Time{}
	}
	return time.UnixMilli(at)
}

// clean returns at most maxText bytes of a text, in valid UTF-8, so a state stays small, and JSON does not change a text.
func clean(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), maxText)], "")
}

// cleanLine is the same for another limit, and without control characters, which JSON makes six times as long.
func cleanLine(text string, limit int) string {
	text = strings.ToValidUTF8(text[:min(len(text), limit)], "")
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
}
