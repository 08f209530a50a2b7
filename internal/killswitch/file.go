package killswitch

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/midair-go/midair/internal/kept"
	"github.com/midair-go/midair/internal/statefile"
)

const (
	// lockLimit is how long a write waits for another process that writes the file.
	lockLimit = time.Second
	// saveLimit is how long a change waits for the disk, the lock included.
	saveLimit = 3 * time.Second
)

var (
	ctx = context.Background() // log lines have no other

	errBusy = errors.New("the disk has not answered within " + saveLimit.String())
)

// storage is the file. Tests replace it.
type storage interface {
	Read() ([]byte, error)
	Update(change func(old []byte, err error) ([]byte, error)) error
}

// load takes over the state of the file, at the start.
func (r *replica[S]) load() {
	st, err := stored[S](r.file.Read())
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	found := false
	if err == nil {
		found = r.change(theFile, func(mine S) S { return mine.merge(st) })
	} else {
		reason := st.unusable(r.opts.File, err)
		r.update(theFile, func() {
			r.broken = event{At: now(), Reason: clean(reason), Host: r.me.Host, PID: r.me.PID}
		})
	}
	r.mu.Lock()
	r.saved, r.sent, r.fileErr = r.changes, r.due, err // a start writes nothing and sends nothing
	r.mu.Unlock()
	if found {
		r.tell()
	}
}

// stored returns the state in a file. What is no state is a *damage.
func stored[S state[S]](data []byte, err error) (st S, _ error) {
	if errors.Is(err, statefile.ErrUnfit) || errors.Is(err, fs.ErrPermission) {
		return st, &damage{err}
	}
	if err != nil {
		return st, err
	}
	there, err := st.decode(data)
	if errors.Is(err, kept.ErrLater) {
		return st, &damage{errors.New("the file was written by a later version of this library")}
	}
	if err != nil {
		return st, &damage{errors.New("the file is damaged, or is not the file of a " + st.kind())}
	}
	return there, nil
}

// A damage is the error of a file which a change of this process replaces.
type damage struct{ error }

func (d *damage) Unwrap() error { return d.error }

// save writes the state, if a change is not in the file yet. It waits for at most saveLimit.
func (r *replica[S]) save() error {
	if r.opts.File == "" || !r.unsaved() {
		return nil
	}
	limit := time.NewTimer(saveLimit)
	defer limit.Stop()
	select {
	case r.writing <- struct{}{}:
	case <-limit.C:
		return r.notSaved(errBusy)
	}
	if !r.unsaved() { // another goroutine has written this change
		<-r.writing
		return nil
	}
	var found atomic.Bool // a change in the file that OnChange was not called for
	done := make(chan error, 1)
	go func() { // ends when the disk has answered
		err := r.write(&found)
		<-r.writing
		r.tellOf(&found)
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-limit.C:
		r.tellOf(&found)
		return r.notSaved(errBusy)
	}
}

// tellOf calls OnChange for a change that was found in the file, once.
func (r *replica[S]) tellOf(found *atomic.Bool) {
	if found.Swap(false) {
		r.tell()
	}
}

func (r *replica[S]) unsaved() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.saved < r.changes
}

// write merges the state with the state in the file, and replaces the file. The file can be used then. If a change was found in
// the file, found is set as soon as the change is in force.
func (r *replica[S]) write(found *atomic.Bool) error {
	var upTo uint64
	err := r.file.Update(func(old []byte, err error) ([]byte, error) {
		there, err := stored[S](old, err)
		damaged := new(damage)
		switch {
		case err == nil:
			found.Store(r.change(theFile, func(mine S) S { return mine.merge(there) }))
		case errors.Is(err, fs.ErrNotExist):
		case !errors.As(err, &damaged) || !r.unsavedOwn(): // a damaged file is replaced by a change that is made here
			return nil, err
		default:
			r.logger().Warn(r.opts.Package+": the file of a "+there.kind()+" is replaced", slog.String("name", r.opts.Name),
				slog.String("file", r.opts.File), slog.Any("err", err))
		}
		r.mu.Lock()
		st := r.state
		upTo = r.changes
		r.mu.Unlock()
		return st.encode(), nil
	})
	if err != nil {
		return r.notSaved(err)
	}
	r.update(theFile, func() { r.saved, r.fileErr, r.broken = max(r.saved, upTo), nil, event{} })
	return nil
}

func (r *replica[S]) unsavedOwn() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.saved < r.own
}

// notSaved returns and notes the error of a write, unless another goroutine has written everything meanwhile.
func (r *replica[S]) notSaved(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.saved == r.changes {
		return nil
	}
	err = r.errorf("%s in this process, but the file %s does not have that, and a restart may forget it: mend the cause, "+
		"and the next change is written with this one: %w", r.state.inForce(r.broken), r.opts.File, err)
	r.fileErr = err
	return err
}
