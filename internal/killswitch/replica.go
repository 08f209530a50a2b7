package killswitch

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/midair-go/midair/internal/guard"
	"github.com/midair-go/midair/internal/logqueue"
	"github.com/midair-go/midair/internal/statefile"
)

// maxMessage is the number of bytes that Broadcast gets at most in a call: the limit of Broadcast of package upgrade.
const maxMessage = 16 << 10

// An origin is where a change comes from, as the log says it.
type origin string

const (
	here      origin = "here"            // is sent to the other processes
	theFile   origin = "the file"        // is sent too: the process that has written it may have died before its broadcast arrived
	elsewhere origin = "another process" // is not sent on: the transport reaches every process
)

// A replica is the copy of a state in a process, with the file of the state, and the way to the other processes. The zero value
// has the zero state, no name, no file and no broadcast.
type replica[S state[S]] struct {
	opts    Options
	file    storage
	word    atomic.Uint32 // the summary of the state
	writing chan struct{} // has an element while the file is being written

	mu  sync.Mutex // never held during I/O or a call of the program
	log *slog.Logger
	me  writer
	view[S]
	changes uint64 // how often the state has changed
	own     uint64 // the number of the last change that was made by this process
	due     uint64 // the number of the last change that was made by this process, or was found in the file
	saved   uint64 // the changes up to this number are in the file
	sent    uint64 // due changes up to this number were sent
	fileErr error  // of the last write
	sentErr error  // of the last broadcast
}

// Start sets the options, and takes over the state in the file. A file that is missing is an empty state. A file that is damaged
// or unreadable is no state: Status says why. Start does not write, and is called before any other method.
func (r *replica[S]) Start(opts Options) {
	if path, err := filepath.Abs(opts.File); err == nil && opts.File != "" {
		opts.File = path
	}
	r.opts = opts
	r.file = statefile.File{Path: opts.File, LockWait: lockLimit}
	r.writing = make(chan struct{}, 1)
	if opts.File != "" {
		r.load()
	}
}

// prepare makes what a replica needs for its first change. r.mu is held.
func (r *replica[S]) prepare() {
	if r.me.ID != "" {
		return
	}
	host, _ := os.Hostname()
	r.me = writer{ID: randomID(), Host: clean(host), PID: os.Getpid()}
	logger := r.opts.Logger
	if logger == nil {
		logger = slog.Default()
	}
	r.log = logqueue.Wrap(logger)
}

// randomID returns 16 hexadecimal digits. An id has to be unique, and is no secret.
func randomID() string { return fmt.Sprintf("%016x", rand.Uint64()) }

// Merge takes over the encoded state of another process. A new state is written to the file, unless the file is damaged, and is
// not sent on. If the write finds an unknown change in the file, the next Publish or change of this process sends that. Merge
// returns an error if the data is no state. An error of the file is logged and shown by Status.
func (r *replica[S]) Merge(data []byte) error {
	other, err := decoded[S](data)
	if err != nil {
		return fmt.Errorf("%s: %w", r.opts.Package, err)
	}
	r.change(elsewhere, func(st S) S { return st.merge(other) })
	if err := r.save(); err != nil {
		r.logger().Warn(r.opts.Package+": the state of a "+other.kind()+" that came from another process is not in the file",
			slog.String("name", r.opts.Name), slog.Any("err", err))
	}
	return nil
}

func decoded[S state[S]](data []byte) (S, error) {
	var none S
	return none.decode(data)
}

// Encode returns the state for Merge of another process.
func (r *replica[S]) Encode() []byte {
	r.mu.Lock()
	st := r.state
	r.mu.Unlock()
	return st.encode()
}

// Publish sends and writes what was not sent yet and is not in the file, such as a LatchNow and what has failed before. If the
// write finds a change in the file that was unknown to this process, Publish sends again.
func (r *replica[S]) Publish() error {
	tried, sent := r.send()
	saved := r.save()
	if r.dueAfter(tried) {
		_, sent = r.send()
	}
	return errors.Join(saved, sent)
}

// change changes the state, and reports whether something is different now. A change that is made here also forgets that the
// file cannot be used, because such a change replaces the file. After a change in the file, which is locked, the caller has to
// call OnChange.
func (r *replica[S]) change(from origin, fn func(S) S) (changed bool) {
	r.update(from, func() {
		next, broken := fn(r.state).prune(r.me.ID), r.broken
		if from == here {
			broken = event{}
		}
		if changed = !next.equal(r.state) || broken != r.broken; !changed {
			return
		}
		r.state, r.broken = next, broken
		r.changes++
		if from == here {
			r.own = r.changes
		}
		if from != elsewhere {
			r.due = r.changes
		}
	})
	if changed && from != theFile {
		r.tell()
	}
	return changed
}

// tell calls OnChange.
func (r *replica[S]) tell() {
	if r.opts.OnChange == nil {
		return
	}
	if err := guard.Call(func() error { r.opts.OnChange(); return nil }); err != nil {
		r.logger().Error(r.opts.Package+": OnChange has failed", slog.String("name", r.opts.Name), slog.Any("err", err))
	}
}

// update calls fn with r.mu held, sets the word, and logs the difference.
func (r *replica[S]) update(from origin, fn func()) {
	r.mu.Lock()
	r.prepare()
	was := r.view
	fn()
	is := r.view
	r.word.Store(is.state.summary(is.broken))
	r.mu.Unlock()
	for _, l := range is.state.lines(was, is) {
		attrs := append([]any{
			slog.String("name", r.opts.Name), slog.String("reason", l.event.Reason), slog.String("from", string(from)),
			slog.String("host", l.event.Host), slog.Int("pid", l.event.PID),
		}, l.attrs...)
		r.log.Log(ctx, l.level, r.opts.Package+": "+l.text, attrs...)
	}
}

// send sends the state, if a due change was not sent yet. It returns the number of the last due change.
func (r *replica[S]) send() (upTo uint64, err error) {
	r.mu.Lock()
	upTo, unsent, st := r.due, r.sent < r.due, r.state
	r.mu.Unlock()
	if r.opts.Broadcast == nil || !unsent {
		return upTo, nil
	}
	for _, part := range st.parts(maxMessage, r.me.ID) {
		err = errors.Join(err, guard.Call(func() error { return r.opts.Broadcast(part) }))
	}
	if err != nil {
		err = r.errorf("other processes may not know that %s until the next change: broadcast: %w",
			st.inForce(event{}), err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sentErr = err
	if err == nil {
		r.sent = max(r.sent, upTo)
	}
	return upTo, err
}

// dueAfter reports whether a change after that number is to be sent.
func (r *replica[S]) dueAfter(number uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.due > number
}

// logger returns the logger, for a replica that has changed or was started.
func (r *replica[S]) logger() *slog.Logger {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.prepare()
	return r.log
}

// errorf returns an error about the state.
func (r *replica[S]) errorf(format string, args ...any) error {
	var none S
	return fmt.Errorf("%s: %s %q: "+format, append([]any{r.opts.Package, none.kind(), r.opts.Name}, args...)...)
}
