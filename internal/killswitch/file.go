package killswitch

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
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
func (s *Switch) load() {
	st, err := stored(s.file.Read())
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		s.change(theFile, func(mine State) State { return mine.merge(st) })
	} else {
		reason := "the file " + s.opts.File + " cannot be used, so everything is stopped: look at the file, then revive or kill, " +
			"which replaces the file: " + err.Error()
		s.update(theFile, func() {
			s.broken = event{At: now(), Reason: clean(reason), Host: s.me.Host, PID: s.me.PID}
		})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saved, s.sent, s.fileErr = s.changes, s.due, err // a start writes nothing and sends nothing
}

// stored returns the state in a file. What is no state is a *damage.
func stored(data []byte, err error) (State, error) {
	if errors.Is(err, statefile.ErrUnfit) || errors.Is(err, fs.ErrPermission) {
		return State{}, &damage{err}
	}
	if err != nil {
		return State{}, err
	}
	st, err := decode(data)
	if errors.Is(err, kept.ErrLater) {
		return State{}, &damage{errors.New("the file was written by a later version of this library")}
	}
	if err != nil {
		return State{}, &damage{errors.New("the file is damaged, or is not the file of a kill switch")}
	}
	return st, nil
}

// A damage is the error of a file which a kill or a revival replaces.
type damage struct{ error }

func (d *damage) Unwrap() error { return d.error }

// save writes the state, if a change is not in the file yet. It waits for at most saveLimit.
func (s *Switch) save() error {
	if s.opts.File == "" || !s.unsaved() {
		return nil
	}
	limit := time.NewTimer(saveLimit)
	defer limit.Stop()
	select {
	case s.writing <- struct{}{}:
	case <-limit.C:
		return s.notSaved(errBusy)
	}
	if !s.unsaved() { // another goroutine has written this change
		<-s.writing
		return nil
	}
	done := make(chan error, 1)
	go func() { // ends when the disk has answered
		err := s.write()
		<-s.writing
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-limit.C:
		return s.notSaved(errBusy)
	}
}

func (s *Switch) unsaved() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.saved < s.changes
}

// write merges the state with the state in the file, and replaces the file. The file can be used then.
func (s *Switch) write() error {
	var upTo uint64
	err := s.file.Update(func(old []byte, err error) ([]byte, error) {
		there, err := stored(old, err)
		damaged := new(damage)
		switch {
		case err == nil:
			s.change(theFile, func(mine State) State { return mine.merge(there) })
		case errors.Is(err, fs.ErrNotExist):
		case !errors.As(err, &damaged) || !s.unsavedOwn(): // a damaged file is replaced by a change that is made here
			return nil, err
		default:
			s.logger().Warn(s.opts.Package+": the file of a kill switch is replaced", slog.String("name", s.opts.Name),
				slog.String("file", s.opts.File), slog.Any("err", err))
		}
		s.mu.Lock()
		st := s.state
		upTo = s.changes
		s.mu.Unlock()
		return st.encode(), nil
	})
	if err != nil {
		return s.notSaved(err)
	}
	s.update(theFile, func() { s.saved, s.fileErr, s.broken = max(s.saved, upTo), nil, event{} })
	return nil
}

func (s *Switch) unsavedOwn() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.saved < s.own
}

// notSaved returns and notes the error of a write, unless another goroutine has written everything meanwhile.
func (s *Switch) notSaved(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.saved == s.changes {
		return nil
	}
	word, _ := s.current()
	err = s.errorf("it is %s in this process, but the file %s does not have that, and a restart may forget it: mend the cause, "+
		"and the next change is written with this one: %w", word, s.opts.File, err)
	s.fileErr = err
	return err
}
