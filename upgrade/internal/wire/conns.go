package wire

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/midair-go/midair/internal/sys"
)

// Idle connections move in messages of KindConns, which the receiver answers. The receiver sends the answer before it delivers
// the connections. So at every moment each connection has one owner, whichever of the two processes dies: the sender keeps its
// descriptors open until the answer comes, and a connection that is not in the answer was not served by the receiver.
//
// A Link answers by itself. The receiver of its frames gets each connection as a frame of KindConn.

// MostConns is how many connections a message of KindConns has at most. The kernel counts descriptors that are on their way
// between processes against the user's limit of open files, and the message has to fit into a frame.
const MostConns = 32

// MostText is how many bytes the texts of the connections of a message have at most, all together.
const MostText = 16 << 10

// answering marks a frame of a process that answers messages of KindConns.
func answering(b []byte) []byte {
	b[6] = 1
	return b
}

// batches are the sent messages of KindConns without an answer.
type batches struct {
	mu      sync.Mutex
	answers bool // the peer answers messages of KindConns
	over    bool // no answer comes any more
	last    uint64
	waiting map[uint64]func(took int) // the keys are ids of messages
}

// Answers reports whether the peer answers SendConns, as far as this process knows. It is false until the first message of the
// peer has come.
func (l *Link) Answers() bool {
	l.batches.mu.Lock()
	defer l.batches.mu.Unlock()
	return l.batches.answers && !l.batches.over
}

// SendConns sends connections to a peer that answers. files has a descriptor of each connection; the caller closes the files,
// but keeps a descriptor of each connection open until the answer comes. SendConns does not wait, and sends all of the
// connections or none. If the peer does not answer, SendConns sends nothing and returns an error.
//
// If the error is nil, the function answered is called once: when the answer has come, or when it is certain that none will
// come. The first took connections then belong to the peer, and this process must not use them any more. answered is called in
// the goroutine that receives, and must not wait.
func (l *Link) SendConns(conns []ConnBody, files []*os.File, answered func(took int)) error {
	w, ok := l.wire.(trySender)
	if !ok {
		return errors.ErrUnsupported
	}
	id, err := l.batches.add(answered)
	if err != nil {
		return err
	}
	b, err := Encode(KindConns, ConnsBody{id, conns}, len(files))
	if err == nil && !l.takeTurn(0) {
		err = errBusy
	}
	if err == nil {
		err = w.TrySend(answering(b), files...)
		<-l.turn
	}
	if err != nil && l.batches.remove(id) == nil { // the link has ended, and answered was called
		return nil
	}
	return err
}

func (s *batches) add(answered func(took int)) (id uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.over:
		return 0, os.ErrClosed
	case !s.answers:
		return 0, errors.ErrUnsupported
	}
	if s.waiting == nil {
		s.waiting = map[uint64]func(int){}
	}
	s.last++
	s.waiting[s.last] = answered
	return s.last, nil
}

// remove removes a message, and returns its function; nil if there is no such message.
func (s *batches) remove(id uint64) (answered func(took int)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answered = s.waiting[id]
	delete(s.waiting, id)
	return answered
}

// took handles an answer.
func (s *batches) took(f Frame) error {
	defer f.Close()
	var body TookBody
	if err := f.Decode(&body); err != nil {
		return fmt.Errorf("%w: %w", ErrFrame, err)
	}
	if answered := s.remove(body.ID); answered != nil {
		answered(max(body.Took, 0))
	}
	return nil
}

// heard notes whether the sender of a frame answers messages of KindConns. If it does not, no more answers come for the messages
// that were sent: another process with an earlier version of this library reads from the socket now.
func (s *batches) heard(answers bool) {
	s.mu.Lock()
	s.answers = answers
	lost := s.waiting
	if answers {
		lost = nil
	} else {
		s.waiting = nil
	}
	s.mu.Unlock()
	for _, answered := range lost {
		answered(0)
	}
}

// end notes that no answers come any more.
func (s *batches) end() {
	s.heard(false)
	s.mu.Lock()
	lost := s.waiting
	s.over, s.waiting = true, nil
	s.mu.Unlock()
	for _, answered := range lost { // sent since heard
		answered(0)
	}
}

// takeConns answers a message of KindConns, and delivers the connections for which this process has room. If the sender is dead,
// nobody else has the connections, so they are delivered without an answer. If the answer cannot be sent for another reason, the
// connections belong to the sender. Then takeConns returns an error, and the link ends, so that the sender knows.
func (l *Link) takeConns(f Frame) error {
	var body ConnsBody
	if err := f.Decode(&body); err != nil {
		f.Close()
		return fmt.Errorf("%w: %w", ErrFrame, err)
	}
	took := 0
	if sys.Room(spare()) {
		took = min(len(f.Files), len(body.Conns))
	}
	if err := l.Send(KindTook, TookBody{body.ID, took}); err != nil && !Gone(err) {
		f.Close()
		return fmt.Errorf("answer %v: %w", KindConns, err)
	}
	Frame{Files: f.Files[took:]}.Close()
	for i := range took {
		if err := l.pass(Frame{Kind: KindConn, Files: f.Files[i : i+1 : i+1], conn: &body.Conns[i]}); err != nil {
			Frame{Files: f.Files[i+1 : took]}.Close()
			return err
		}
	}
	return nil
}

// spare returns how many descriptors have to be free after connections have come: a process that serves needs more of them, for
// new connections and for files.
func spare() int { return min(max(sys.FileLimit()/16, 16), 64) }

// Resign tells the peer that the process that reads this end of the socket from now on does not answer SendConns. It is called
// after the end of the receiving here.
func (l *Link) Resign() error {
	b, err := Encode(KindTakes, TakesBody{}, 0)
	if err != nil {
		return err
	}
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	return l.wire.Send(b, nil)
}
