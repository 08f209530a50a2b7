package upgrade

import (
	"errors"
	"log/slog"
	"os"
	"slices"
	"sync"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// elders are the older generations that still drain. The main generation holds a control socket to each of them, so
// that it can hurry them when there are too many; each candidate gets the sockets too, and reads them from its commit on. A
// star and not a chain: a generation may outlive the one that replaced it.
type elders struct {
	gone    chan *elder                                        // gets one whose process has ended
	frames  chan wire.Frame                                    // what they say: connections that move
	restore func(from int, f wire.Frame, stop <-chan struct{}) // takes the state that one gives back
	stop    chan struct{}
	done    sync.WaitGroup

	mu  sync.Mutex
	all []*elder // the oldest first
}

// elder is one of them. Its socket ends with its process.
type elder struct {
	wire.ElderBody
	link   *wire.Link
	orphan bool     // it serves until this process does, see orphan.go
	file   *os.File // of its socket, until this process is the main generation and reads it
}

func newElders(restore func(int, wire.Frame, <-chan struct{})) *elders {
	return &elders{restore: restore, gone: make(chan *elder), frames: make(chan wire.Frame), stop: make(chan struct{})}
}

func (s *elders) add(e *elder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, e)
	slices.SortStableFunc(s.all, func(a, b *elder) int { return a.Generation - b.Generation })
}

func (s *elders) remove(e *elder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = slices.DeleteFunc(s.all, func(o *elder) bool { return o == e })
}

// list returns them as they are now.
func (s *elders) list() []*elder {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}

// status describes them.
func (s *elders) status() []Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Process
	for _, e := range s.all {
		all = append(all, Process{PID: e.PID, Version: e.Version, Generation: e.Generation, Hurried: e.Hurried})
	}
	return all
}

// markHurried returns the oldest of them that have to close what is idle, because there are more than most generations, this one
// included. Each is returned once. The caller sends the message, without the lock: a peer that does not read would hold up Status.
func (s *elders) markHurried(most int) (marked []*elder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.all[:max(0, len(s.all)+1-most)] {
		if !e.Hurried {
			e.Hurried = true
			marked = append(marked, e)
		}
	}
	return marked
}

// adopt takes over the socket to an older generation from the old process.
func (s *elders) adopt(f wire.Frame) error {
	e := new(elder)
	if err := f.Decode(&e.ElderBody); err != nil {
		return err
	}
	if len(f.Files) == 0 {
		return errors.New("the control socket of an older generation did not come along")
	}
	var err error
	if e.file, err = sys.DupFile(f.Files[0]); err == nil {
		s.add(e)
	}
	return err
}

// begin reads the sockets that were adopted: this process is the main generation now. Before that the old one reads them.
func (s *elders) begin() error {
	var errs []error
	for _, e := range s.list() {
		if e.file == nil {
			continue
		}
		sock, err := wire.NewSocket(e.file) // closes the file
		e.file = nil
		if err != nil {
			s.remove(e)
			errs = append(errs, err)
			continue
		}
		e.link = wire.NewLink(sock)
		s.watch(e)
	}
	return errors.Join(errs...)
}

// dismissed returns the orphans, once.
func (s *elders) dismissed() (all []*elder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.all {
		if e.orphan {
			e.orphan = false
			all = append(all, e)
		}
	}
	return all
}

func (s *elders) isOrphan(e *elder) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return e.orphan
}

// follow begins to hear one more.
func (s *elders) follow(e *elder) {
	s.add(e)
	s.watch(e)
}

// watch hears what an older process says, until that process ends or release.
func (s *elders) watch(e *elder) { s.done.Go(func() { s.hear(e) }) }

func (s *elders) hear(e *elder) {
	for f := range e.link.Frames {
		if f.Kind == wire.KindReturned && s.isOrphan(e) { // nobody has asked for that yet
			f.Close()
			continue
		}
		if f.Kind == wire.KindReturned { // of an orphan that was sent away, see orphan.go
			s.restore(e.PID, f, s.stop)
			f.Close()
			_ = e.link.Send(wire.KindReleased, nil) // one that has ended needs no answer
			continue
		}
		select {
		case s.frames <- f:
		case <-s.stop:
			f.Close()
		}
	}
	select {
	case s.gone <- e:
	case <-s.stop:
	}
}

// pass gives the sockets to the candidate, which becomes the one that may need them. Both hold them until this process
// ends, but it stops reading (quit) when the other one serves: connections come on them.
func (s *elders) pass(to *wire.Link) error {
	var errs []error
	for _, e := range s.list() {
		errs = append(errs, e.pass(to))
	}
	return errors.Join(errs...)
}

func (e *elder) pass(to *wire.Link) error {
	if e.link == nil { // a candidate that was taken back has adopted it, and never was the main generation
		return to.Send(wire.KindElder, e.ElderBody, e.file)
	}
	file, err := e.link.Dup()
	if err != nil {
		return err
	}
	defer file.Close()
	return to.Send(wire.KindElder, e.ElderBody, file)
}

// quit leaves the reading to the successor.
func (s *elders) quit() {
	for _, e := range s.list() {
		if e.link != nil {
			e.link.Quit()
		}
	}
}

// rest hears what was under way when quit was called.
func (s *elders) rest(hear func(wire.Frame)) {
	over := make(chan struct{})
	go func() { // ends with those that quit has ended
		s.done.Wait()
		close(over)
	}()
	for {
		select {
		case f := <-s.frames:
			hear(f)
		case <-s.gone: // of whom this process was told
		case <-over:
			return
		}
	}
}

// release closes the sockets and waits until nobody reads them.
func (s *elders) release() {
	close(s.stop)
	for _, e := range s.list() {
		if e.file != nil {
			e.file.Close()
			continue
		}
		e.link.Close()
	}
	s.done.Wait()
}

// forget drops one whose process has ended.
func (s *elders) forget(e *elder) {
	s.remove(e)
	e.link.Close()
}

// hurry tells the oldest generations to close their idle connections if there are more than most. The process that was replaced gets the
// message only after it was told that this one serves. hurry may wait for a process that does not read.
func (s *elders) hurry(most int, log *slog.Logger) {
	for _, e := range s.markHurried(most) {
		log.Warn("upgrade: too many generations: this one closes what is idle", "draining", e.PID, "generation", e.Generation, "MaxGenerations", most)
		_ = e.link.Send(wire.KindHurry, nil) // fails if the process has ended meanwhile
	}
}
