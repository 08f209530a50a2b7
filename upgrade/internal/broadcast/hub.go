// Package broadcast carries messages of the application between the generations of a service. Each two generations that live
// at the same time have a socket of their own, the broadcast socket. So a message needs no generation in between, the death of
// a generation cuts off no other generation, and the messages of a sender stay in order.
//
//	hub.go      Hub: one generation, as a sender and as a receiver
//	contact.go  the socket to another generation, and the messages that wait to be sent
//	recent.go   the last messages of this generation, for a generation that was started a moment ago
//	inbox.go    the received messages, and the functions of the program
package broadcast

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// Limits of a message.
const (
	DataLimit = 16 << 10 // in bytes: in its frame the message is longer by a third, because of base64
	NameLimit = 128      // in bytes
)

const (
	// waitLimit is how long Broadcast waits at most until the message is in the sockets, and how long Close waits at most for
	// running functions of the program.
	waitLimit = time.Second
	// overlap is how much earlier than the start of a process the messages begin that the process gets afterwards. The kept
	// values of the process may lack the effect of a message that was sent right before they were written.
	overlap = time.Second
	// pauseLimit is how old the messages may be that a process gets which was started after a crash.
	pauseLimit = time.Minute
)

// ErrClosed means that Close was called.
var ErrClosed = errors.New("the generation has ended")

// Hub is the part of a generation that sends and receives broadcasts. The methods may be called from any goroutine.
type Hub struct {
	log   *slog.Logger
	id    string        // the name of this process on broadcast sockets
	limit time.Duration // see waitLimit

	mu       sync.Mutex // nothing is sent, logged or called while mu is held
	closed   bool
	seq      uint64 // the number of the last message
	recent   recent
	contacts []*contact
	expected []expected // generations that do not read broadcasts so far, or not any more
	seen     seen
	inboxes  map[string]*inbox

	links sync.WaitGroup // the goroutines of contacts
	calls sync.WaitGroup // the goroutines that call functions of the program
}

// New returns a hub without contacts.
func New(log *slog.Logger) *Hub {
	return &Hub{log: log, id: rand.Text(), limit: waitLimit, inboxes: map[string]*inbox{}}
}

// Broadcast sends a message to all contacts. It returns when the message is in the sockets, after waitLimit at the latest. The
// error names the generations that the message does not reach.
func (h *Hub) Broadcast(name string, data []byte) error {
	switch {
	case name == "" || len(name) > NameLimit || !utf8.ValidString(name):
		return fmt.Errorf("a name of %d bytes: want UTF-8 text of 1 to %d bytes", len(name), NameLimit)
	case len(data) > DataLimit:
		return fmt.Errorf("%d bytes are more than %d", len(data), DataLimit)
	}
	waits, err := h.queue(&message{name: name, data: slices.Clone(data)})
	if err != nil {
		return err
	}
	late := time.NewTimer(h.limit)
	defer late.Stop()
	over, failed := false, h.unreached()
	for _, d := range waits {
		if why := d.await(late.C, &over); why != "" {
			failed = append(failed, why)
		}
	}
	if len(failed) > 0 {
		return errors.New(strings.Join(failed, "; "))
	}
	return nil
}

// queue numbers a message, and puts it into the queue of every contact. The result has a delivery for each contact.
func (h *Hub) queue(m *message) (waits []*delivery, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, ErrClosed
	}
	h.seq++
	m.seq, m.at = h.seq, sys.Uptime()
	h.recent.add(m)
	for _, c := range h.contacts {
		waits = append(waits, c.put(m))
	}
	return waits, nil
}

// unreached returns a reason for each expected generation that lives and has no contact.
func (h *Hub) unreached() (reasons []string) {
	for _, who := range h.missing() {
		if !process.HasEnded(who.PID) {
			reasons = append(reasons, nameOf(who.IntroduceBody)+" "+who.why)
		}
	}
	return reasons
}

// missing returns the expected generations without a contact.
func (h *Hub) missing() []expected {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(h.expected), func(who expected) bool { return h.reaches(who.PID) })
}

func nameOf(who wire.IntroduceBody) string {
	return fmt.Sprintf("generation %d (pid %d)", who.Generation, who.PID)
}

// expected is a generation to which there should be a contact.
type expected struct {
	wire.IntroduceBody
	why string // the reason why there is no contact
}

// Reasons why there is no contact to a generation that lives.
const (
	noSocket    = "has no broadcast socket: its build has no Broadcast, or it could get no descriptor"
	socketEnded = "is not reached any more: its broadcast socket has ended"
)

// Expect notes a generation to which there should be a contact. Until there is one, Broadcast returns an error with the name of
// the generation.
func (h *Hub) Expect(who wire.IntroduceBody) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.expect(who, noSocket)
}

// mostExpected is how many generations are expected at most. Generations that have ended are not removed from the list.
const mostExpected = 64

func (h *Hub) expect(who wire.IntroduceBody, why string) {
	if who.PID > 0 {
		h.expected = append(without(h.expected, who.PID), expected{who, why})
		h.expected = h.expected[max(0, len(h.expected)-mostExpected):]
	}
}

// without returns the list without a process.
func without(all []expected, pid int) []expected {
	return slices.DeleteFunc(all, func(who expected) bool { return who.PID == pid })
}

// Reaches reports whether there is a contact to a process.
func (h *Hub) Reaches(pid int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reaches(pid)
}

func (h *Hub) reaches(pid int) bool {
	return slices.ContainsFunc(h.contacts, func(c *contact) bool { return c.who.PID == pid })
}

// Take handles a message on a control socket if it is about broadcasts, and reports whether it has closed the message. It is
// for wire.NewLinkWith.
func (h *Hub) Take(f wire.Frame) bool {
	switch f.Kind {
	case wire.KindElder: // the old process has introduced this generation before
		var e wire.ElderBody
		if f.Decode(&e) == nil && !h.Reaches(e.PID) {
			h.Expect(wire.IntroduceBody{Generation: e.Generation, PID: e.PID})
		}
		return false
	case wire.KindIntroduce:
		defer f.Close()
		h.introduced(f)
		return true
	}
	return false
}

// introduced takes the socket of the message introduce.
func (h *Hub) introduced(f wire.Frame) {
	var who wire.IntroduceBody
	err := f.Decode(&who)
	if err == nil && len(f.Files) == 0 {
		err = wire.ErrMissing
	}
	if err == nil {
		file := f.Files[0]
		f.Files[0] = nil // Join closes the file
		err = h.Join(file, who)
	}
	if err != nil && !errors.Is(err, ErrClosed) {
		h.Expect(who)
		h.log.Warn("upgrade: broadcasts do not reach a generation", "generation", who.Generation, "pid", who.PID, "err", err)
	}
}

// JoinSuccessor is Join for a process that was started after the end of another process, perhaps after a pause. The new process
// first gets the messages of the last minute (pauseLimit), because the hub does not know when the pause began. The process that
// has ended may have got some of these messages.
func (h *Hub) JoinSuccessor(file *os.File, who wire.IntroduceBody) error {
	who.Since = max(sys.Uptime()-pauseLimit, 1) // 1 if the machine was started less than pauseLimit ago: 0 means no messages
	return h.Join(file, who)
}

// Join begins to use the broadcast socket to a generation, and closes the file. If who.Since is set, the generation first gets
// the messages sent since a moment before that time, as far as they are kept.
func (h *Hub) Join(file *os.File, who wire.IntroduceBody) error {
	sock, err := wire.NewSocket(file)
	if err != nil {
		return err
	}
	c := newContact(h, wire.NewLink(sock), who)
	if !h.add(c) {
		c.link.Close()
		return ErrClosed
	}
	return nil
}

// add adds a contact. It returns false after Close.
func (h *Hub) add(c *contact) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.expect(c.who, noSocket)
	if c.who.Since > 0 {
		for _, m := range h.recent.since(c.who.Since - overlap) {
			c.put(m)
		}
	}
	h.contacts = append(h.contacts, c)
	h.links.Go(c.write) // ends with stop
	h.links.Go(c.read)  // ends with the link
	return true
}

// drop removes a contact whose socket has ended. If the generation has read broadcasts, and Run goes on there as far as is known,
// the generation is expected again.
func (h *Hub) drop(c *contact) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.contacts = slices.DeleteFunc(h.contacts, func(o *contact) bool { return o == c })
	if c.greeted && !c.leaves {
		h.expect(c.who, socketEnded)
	}
}

// Close ends all contacts. It waits at most waitLimit for running functions of the program, and logs which of them go on.
func (h *Hub) Close() {
	h.mu.Lock()
	h.closed = true
	contacts := slices.Clone(h.contacts)
	h.mu.Unlock()
	var leaving sync.WaitGroup
	for _, c := range contacts {
		leaving.Go(c.leave)
	}
	leaving.Wait()
	h.links.Wait()
	idle := make(chan struct{})
	go func() { // ends with the last running function of the program
		h.calls.Wait()
		close(idle)
	}()
	late := time.NewTimer(h.limit)
	defer late.Stop()
	select {
	case <-idle:
	case <-late.C:
		h.log.Error("upgrade: a function of OnBroadcast goes on although Run is about to return", "names", h.running())
	}
}

// seen has, for each sender, the number of its last message that was received. It is bounded: the sender that was first seen
// longest ago is forgotten.
type seen struct {
	last map[string]uint64
	ids  []string
}

const mostSeen = 64

// mark notes a message, and reports whether the message is new: messages of a sender come in order, and perhaps twice if two
// sockets lead to the sender.
func (s *seen) mark(id string, seq uint64) bool {
	if s.last == nil {
		s.last = map[string]uint64{}
	}
	last, known := s.last[id]
	if seq <= last {
		return false
	}
	if !known {
		s.ids = append(s.ids, id)
	}
	if s.last[id] = seq; len(s.ids) > mostSeen {
		delete(s.last, s.ids[0])
		s.ids = s.ids[1:]
	}
	return true
}
