// Package killswitch is a kill switch, which stops a rollout or a flag in all processes of a service until an operator revives
// the switch. Packages canary and flags share this package.
//
// A [State] is the part without processes, files and clocks. States of several processes merge, in any order: killed wins, and
// a revival clears exactly the kills and latches known to the reviving process.
//
// A [Switch] holds the state of one process. Word is the whole request path: one atomic load. A change is in memory first, then
// goes to the other processes, and then is in the file: a slow disk delays no other process. If the file or the broadcast
// fails, the change is in force in this process all the same; the error is returned, Status shows the error, and the next change
// tries again. A write merges what is in the file. If a change in the file was unknown, its process may have died before its
// broadcast arrived, so the change is sent too.
//
// A process whose file cannot be used at the start is killed, until a change of its own, or until a write has found a file that can
// be used. This is a matter of that process and its file, so it is in no State: Encode and Broadcast do not carry it, and no
// other process can clear it. A new process with a wrong path, for example, stops itself and not the old process.
//
// # Goroutines
//
// All methods may be called from any number of goroutines. Word, LatchNow, Encode and Status do no I/O. Kill, Latch, Revive, Publish and
// Merge write the file, and wait for the disk for at most [saveLimit]: a longer write goes on in a goroutine of its own. Kill,
// Latch, Revive and Publish also wait for the function Broadcast of the program.
package killswitch

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/midair-go/midair/internal/guard"
	"github.com/midair-go/midair/internal/logqueue"
	"github.com/midair-go/midair/internal/statefile"
)

// maxMessage is the number of bytes that Broadcast gets at most in a call: the limit of Broadcast of package upgrade.
const maxMessage = 16 << 10

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

// Options of a Switch.
type Options struct {
	Package   string                  // of the program's switch, "canary" for example; the first word of errors and log lines
	Name      string                  // of the switch, in errors and log lines
	File      string                  // the path of the file; empty: memory only
	Broadcast func(data []byte) error // sends a state, or a part of at most 16 KiB, to the other processes; nil: nothing is sent
	Logger    *slog.Logger            // default: slog.Default()
}

// A Switch is the state in the process. The zero value is open, has no name, no file and no broadcast.
type Switch struct {
	opts    Options
	file    storage
	word    atomic.Uint32
	writing chan struct{} // has an element while the file is being written

	mu      sync.Mutex // never held during I/O or a call of the program
	log     *slog.Logger
	me      writer
	state   State
	broken  event  // why the file cannot be used, since the start: the switch is killed, whatever the state says
	changes uint64 // how often the state has changed
	own     uint64 // the number of the last change that was made by this process
	due     uint64 // the number of the last change that was made by this process, or was found in the file
	saved   uint64 // the changes up to this number are in the file
	sent    uint64 // due changes up to this number were sent
	fileErr error  // of the last write
	sentErr error  // of the last broadcast
}

// An origin is where a change comes from, as the log says it.
type origin string

const (
	here      origin = "here"            // is sent to the other processes
	theFile   origin = "the file"        // is sent too: the process that has written it may have died before its broadcast arrived
	elsewhere origin = "another process" // is not sent on: the transport reaches every process
)

// Start gives the switch its options, and takes over the state in its file. With a missing file the switch is open. With a
// damaged or unreadable file the switch is killed in this process only, and the reason names the file. Start does not write, and
// is called before any other method.
func (s *Switch) Start(opts Options) {
	if path, err := filepath.Abs(opts.File); err == nil && opts.File != "" {
		opts.File = path
	}
	s.opts = opts
	s.file = statefile.File{Path: opts.File, LockWait: lockLimit}
	s.writing = make(chan struct{}, 1)
	if opts.File != "" {
		s.load()
	}
}

// prepare makes what a Switch needs for its first change. s.mu is held.
func (s *Switch) prepare() {
	if s.me.ID != "" {
		return
	}
	var id [8]byte
	rand.Read(id[:]) // never returns an error
	host, _ := os.Hostname()
	s.me = writer{ID: hex.EncodeToString(id[:]), Host: clean(host), PID: os.Getpid()}
	logger := s.opts.Logger
	if logger == nil {
		logger = slog.Default()
	}
	s.log = logqueue.Wrap(logger)
}

// Word returns the state.
func (s *Switch) Word() Word { return Word(s.word.Load()) }

// Kill stops until a Revive in a process to which the kill is known.
func (s *Switch) Kill(reason string) error {
	s.change(here, func(st State) State { return st.kill(s.me, now(), clean(reason)) })
	return s.Publish()
}

// Latch is the same for a judge: a weaker word, which a kill hides.
func (s *Switch) Latch(reason string) error {
	s.LatchNow(reason)
	return s.Publish()
}

// LatchNow latches in memory only, for a goroutine that must not wait. LatchNow reports whether Publish is to be called.
func (s *Switch) LatchNow(reason string) bool {
	return s.change(here, func(st State) State { return st.latch(s.me, now(), clean(reason)) })
}

// Revive clears all known kills and latches. If the file has a kill that was unknown to the process, the
// switch is killed again when Revive returns, and Revive returns an error.
func (s *Switch) Revive(reason string) error {
	s.change(here, func(st State) State {
		return st.revive(event{At: now(), Reason: clean(reason), Host: s.me.Host, PID: s.me.PID})
	})
	if err := s.Publish(); err != nil || s.Word() == Open {
		return err
	}
	return s.errorf("it is %s again, because a kill or latch was unknown to this process (%s): revive again to clear it too",
		s.Word(), s.Status().Reason)
}

// Merge takes over the encoded state of another process. A new state is written to the file, unless the file is damaged, and is
// not sent on. A revival in the other process does not end the kill for a file that cannot be used by this process. If the write
// finds an unknown change in the file, the next Publish or change of this process sends that. Merge returns an error if the
// data is no state. An error of the file is logged and shown by Status.
func (s *Switch) Merge(data []byte) error {
	other, err := decode(data)
	if err != nil {
		return fmt.Errorf("%s: %w", s.opts.Package, err)
	}
	s.change(elsewhere, func(st State) State { return st.merge(other) })
	if err := s.save(); err != nil {
		s.logger().Warn(s.opts.Package+": the state of a kill switch that came from another process is not in the file",
			slog.String("name", s.opts.Name), slog.Any("err", err))
	}
	return nil
}

// Encode returns the state for Merge of another process.
func (s *Switch) Encode() []byte {
	s.mu.Lock()
	st := s.state
	s.mu.Unlock()
	return st.encode()
}

// Publish sends and writes what was not sent yet and is not in the file, such as a LatchNow and what has failed before. If the
// write finds a change in the file that was unknown to this process, Publish sends again.
func (s *Switch) Publish() error {
	tried, sent := s.send()
	saved := s.save()
	if s.dueAfter(tried) {
		_, sent = s.send()
	}
	return errors.Join(saved, sent)
}

// change changes the state, and reports whether something is different now. A change that is made here also ends the
// kill for a file that cannot be used, because such a change replaces the file.
func (s *Switch) change(from origin, fn func(State) State) (changed bool) {
	s.update(from, func() {
		next, broken := fn(s.state).prune(s.me.ID), s.broken
		if from == here {
			broken = event{}
		}
		if changed = !next.equal(s.state) || broken != s.broken; !changed {
			return
		}
		s.state, s.broken = next, broken
		s.changes++
		if from == here {
			s.own = s.changes
		}
		if from != elsewhere {
			s.due = s.changes
		}
	})
	return changed
}

// update calls fn with s.mu held, sets the word, and logs the difference.
func (s *Switch) update(from origin, fn func()) {
	s.mu.Lock()
	s.prepare()
	wasWord, was := s.current()
	fn()
	word, last := s.current()
	s.word.Store(uint32(word))
	s.mu.Unlock()
	if word != wasWord || last != was {
		level := slog.LevelWarn
		if word == Open {
			level = slog.LevelInfo
		}
		s.log.Log(ctx, level, s.opts.Package+": the kill switch is "+word.String(), slog.String("name", s.opts.Name),
			slog.String("reason", last.Reason), slog.String("from", string(from)), slog.String("host", last.Host), slog.Int("pid", last.PID))
	}
}

// current returns the word, and the event that has led to the word. s.mu is held.
func (s *Switch) current() (Word, event) {
	if s.broken != (event{}) {
		return Killed, s.broken
	}
	return s.state.current()
}

// send sends the state, if a due change was not sent yet. It returns the number of the last due change.
func (s *Switch) send() (upTo uint64, err error) {
	s.mu.Lock()
	upTo, unsent, st := s.due, s.sent < s.due, s.state
	s.mu.Unlock()
	if s.opts.Broadcast == nil || !unsent {
		return upTo, nil
	}
	for _, part := range st.parts(maxMessage, s.me.ID) {
		err = errors.Join(err, guard.Call(func() error { return s.opts.Broadcast(part) }))
	}
	if err != nil {
		err = s.errorf("other processes may not know that it is %s until the next change: broadcast: %w", st.Word(), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sentErr = err
	if err == nil {
		s.sent = max(s.sent, upTo)
	}
	return upTo, err
}

// dueAfter reports whether a change after that number is to be sent.
func (s *Switch) dueAfter(number uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.due > number
}

// logger returns the logger, for a Switch that has changed or was started.
func (s *Switch) logger() *slog.Logger {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prepare()
	return s.log
}

func (s *Switch) errorf(format string, args ...any) error {
	return fmt.Errorf("%s: kill switch %q: "+format, append([]any{s.opts.Package, s.opts.Name}, args...)...)
}

// now is the time of an event, in milliseconds since 1970.
func now() int64 { return time.Now().UnixMilli() }
