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

// elders are the older generations that still drain. The main generation holds a control socket to each older generation, so
// that it can send the message hurry when there are too many generations. Each candidate gets these sockets too, and reads them
// from its commit on. The main generation has a socket to every older generation, not only to the last one, because a
// generation may outlive its successor.
type elders struct {
	gone    chan *elder                                        // receives each older generation whose socket has ended
	frames  chan wire.Frame                                    // messages of older generations; KindConn brings a connection
	restore func(from int, f wire.Frame, stop <-chan struct{}) // restores the state that an orphan sends back
	stop    chan struct{}                                      // closed by release
	done    sync.WaitGroup

	mu  sync.Mutex
	all []*elder // sorted: the oldest comes first
}

// elder is an older generation that still drains. Its socket ends with its process.
type elder struct {
	wire.ElderBody
	link   *wire.Link
	orphan bool     // the process is an orphan that this process has not yet sent away, see orphan.go
	file   *os.File // the socket as a file, from which begin makes the link; nil when link is set
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

// list returns a copy of the list of older generations.
func (s *elders) list() []*elder {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}

// status describes the older generations for Status.
func (s *elders) status() []Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Process
	for _, e := range s.all {
		all = append(all, Process{PID: e.PID, Version: e.Version, Generation: e.Generation, Hurried: e.Hurried})
	}
	return all
}

// markHurried returns the oldest generations if there are too many: these generations have to close their idle connections. The
// argument most is the limit, and this process counts too. A later call does not return the same generation again.
//
// The caller sends the message hurry to the returned generations. markHurried does not send, because Status waits for the lock
// of markHurried, and the sending may wait for a process that does not read.
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

// adopt is called in a candidate: it receives, from the old process, the socket to an older generation.
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

// begin starts to read the adopted sockets. Until this call, the old process has read them. begin is called when this process
// serves in place of the old process.
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

// dismissed returns the orphans that were not sent away, for the caller to send them away. A later call does not return these
// orphans again.
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

// follow adds an older process, and begins to read its messages.
func (s *elders) follow(e *elder) {
	s.add(e)
	s.watch(e)
}

// watch reads the messages of an older process in a new goroutine, until that process ends or until quit or release is called.
func (s *elders) watch(e *elder) { s.done.Go(func() { s.hear(e) }) }

func (s *elders) hear(e *elder) {
	for f := range e.link.Frames {
		if f.Kind == wire.KindReturned && s.isOrphan(e) { // too early: this process has not yet sent the orphan away
			f.Close()
			continue
		}
		if f.Kind == wire.KindReturned { // from an orphan that was sent away, see orphan.go
			s.restore(e.PID, f, s.stop)
			f.Close()
			_ = e.link.Send(wire.KindReleased, nil) // fails if the orphan has ended
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

// pass sends copies of the sockets to the candidate, which needs them if it becomes the main generation. Only one process may
// read the messages on these sockets, so this process calls quit when the candidate serves.
func (s *elders) pass(to *wire.Link) error {
	var errs []error
	for _, e := range s.list() {
		errs = append(errs, e.pass(to))
	}
	return errors.Join(errs...)
}

func (e *elder) pass(to *wire.Link) error {
	if e.link == nil { // begin was not called: the adopted socket is still a file
		return to.Send(wire.KindElder, e.ElderBody, e.file)
	}
	file, err := e.link.Dup()
	if err != nil {
		return err
	}
	defer file.Close()
	return to.Send(wire.KindElder, e.ElderBody, file)
}

// quit ends the reading in this process: from now on the successor reads the sockets.
func (s *elders) quit() {
	for _, e := range s.list() {
		if e.link != nil {
			e.link.Quit()
		}
	}
}

// rest calls the function hear for each message that this process had received before quit, and returns when all goroutines of
// watch have ended. answers reports whether the process that reads the sockets from now on answers messages of wire.KindConns.
func (s *elders) rest(hear func(wire.Frame), answers bool) {
	over := make(chan struct{})
	go func() { // ends when the goroutines of watch have ended because of quit
		s.done.Wait()
		close(over)
	}()
	for {
		select {
		case f := <-s.frames:
			hear(f)
		case <-s.gone: // a goroutine of watch has ended because of quit; the older process may still run
		case <-over:
			if !answers {
				s.resign()
			}
			return
		}
	}
}

// resign tells the older generations that the process that reads the sockets from now on does not answer messages of
// wire.KindConns. Errors are ignored: a generation that has ended needs no message.
func (s *elders) resign() {
	for _, e := range s.list() {
		if e.link != nil {
			_ = e.link.Resign()
		}
	}
}

// release closes the sockets, and waits until no goroutine reads them.
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

// forget removes an older generation whose process has ended.
func (s *elders) forget(e *elder) {
	s.remove(e)
	e.link.Close()
}

// hurry sends the message hurry to the oldest generations if there are too many (see markHurried). The message orders these
// generations to close their idle connections. hurry may wait for a process that does not read. The old process may be among
// the oldest generations, and gets the message serving first: so hurry is called after the message serving was sent.
func (s *elders) hurry(most int, log *slog.Logger) {
	for _, e := range s.markHurried(most) {
		log.Warn("upgrade: too many generations: this one closes what is idle", "draining", e.PID, "generation", e.Generation, "MaxGenerations", most)
		_ = e.link.Send(wire.KindHurry, nil) // fails if that process has ended
	}
}
