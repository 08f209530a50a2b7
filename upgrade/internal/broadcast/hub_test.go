//go:build unix

package broadcast

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

const patience = 60 * time.Second

// member is a hub of a test, with its log.
type member struct {
	*Hub
	log *records
}

// records is a log that a test reads.
type records struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (r *records) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.Write(b)
}

func (r *records) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.String()
}

// newMember returns a hub that is closed at the end of the test.
func newMember(t *testing.T) member {
	t.Helper()
	log := new(records)
	m := member{New(slog.New(slog.NewTextHandler(log, nil))), log}
	t.Cleanup(m.Close)
	return m
}

// impatient makes a hub wait for a short time only.
func impatient(m member) member {
	m.limit = 200 * time.Millisecond
	return m
}

// pair makes a broadcast socket.
func pair(t *testing.T) (one, other *os.File) {
	t.Helper()
	one, other, err := sys.SocketPair()
	if err != nil {
		t.Fatal(err)
	}
	return one, other
}

// meet connects two hubs. The first gets to know that the second lacks the messages since a time; 0: it lacks none.
func meet(t *testing.T, a, b member, since time.Duration) {
	t.Helper()
	one, other := pair(t)
	if err := errors.Join(a.Join(one, wire.IntroduceBody{Since: since}), b.Join(other, wire.IntroduceBody{})); err != nil {
		t.Fatal(err)
	}
}

// raw is the other end of a socket, without a hub. If greets is true, it has said that it reads.
func raw(t *testing.T, a member, who wire.IntroduceBody, greets bool) *wire.Link {
	t.Helper()
	one, other := pair(t)
	if err := a.Join(one, who); err != nil {
		t.Fatal(err)
	}
	sock, err := wire.NewSocket(other)
	if err != nil {
		t.Fatal(err)
	}
	l := wire.NewLink(sock)
	t.Cleanup(l.Close)
	if greets {
		if err := l.Send(wire.KindIntroduce, wire.IntroduceBody{PID: who.PID, ID: "raw"}); err != nil {
			t.Fatal(err)
		}
		testutil.Until(t, patience, "the greeting", func() bool {
			a.mu.Lock()
			defer a.mu.Unlock()
			return a.contacts[len(a.contacts)-1].greeted
		})
	}
	return l
}

// heard is what a function has got.
type heard struct {
	mu  sync.Mutex
	all []string
}

func (r *heard) add(data []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, string(data))
	return nil
}

func (r *heard) list() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

func (r *heard) must(t *testing.T, want ...string) {
	t.Helper()
	if !testutil.Within(patience, func() bool { return slices.Equal(r.list(), want) }) {
		t.Fatalf("got %.300q, want %.300q", r.list(), want)
	}
}

// numbers are the messages from one number to another.
func numbers(from, to int) (all []string) {
	for n := from; n <= to; n++ {
		all = append(all, fmt.Sprint(n))
	}
	return all
}

func (m member) send(t *testing.T, name string, messages ...string) {
	t.Helper()
	for _, data := range messages {
		if err := m.Broadcast(name, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
}

// The messages of each sender come to every other hub in order, and to the sender itself not at all.
func TestMessagesComeInOrder(t *testing.T) {
	all := []member{newMember(t), newMember(t), newMember(t)}
	got := make([]map[string]*heard, len(all))
	for i, m := range all {
		got[i] = map[string]*heard{}
		for j := range all {
			h := new(heard)
			got[i][fmt.Sprint("from ", j)] = h
			m.Handle(fmt.Sprint("from ", j), h.add)
		}
		for _, other := range all[:i] {
			meet(t, m, other, 0)
		}
	}
	var sending sync.WaitGroup
	for i, m := range all {
		sending.Go(func() { m.send(t, fmt.Sprint("from ", i), numbers(1, 300)...) })
	}
	sending.Wait()
	for i := range all {
		for j := range all {
			var want []string
			if i != j {
				want = numbers(1, 300)
			}
			got[i][fmt.Sprint("from ", j)].must(t, want...)
		}
	}
}

// Two sockets between two generations deliver a message once.
func TestMessageComesOnceOverTwoSockets(t *testing.T) {
	a, b := newMember(t), newMember(t)
	meet(t, a, b, 0)
	a.send(t, "n", "1", "2")
	got := new(heard)
	b.Handle("n", got.add)
	got.must(t, "1", "2")
	meet(t, a, b, sys.Uptime()) // delivers both once more, and everything from now on
	last := new(heard)
	b.Handle("last", last.add)
	a.send(t, "n", numbers(3, 50)...)
	a.send(t, "last", "x")
	last.must(t, "x")
	got.must(t, numbers(1, 50)...)
	testutil.Until(t, patience, "the second socket has delivered everything", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.contacts[0].out.len() == 0 && a.contacts[1].out.len() == 0
	})
	got.must(t, numbers(1, 50)...)
}

// The memory of senders is bounded.
func TestMemoryOfSendersIsBounded(t *testing.T) {
	var s seen
	for n := range 10 * mostSeen {
		id := fmt.Sprint(n)
		if !s.mark(id, 1) || s.mark(id, 1) || !s.mark(id, 2) || s.mark(id, 1) {
			t.Fatalf("sender %d", n)
		}
	}
	if len(s.last) != mostSeen || len(s.ids) != mostSeen {
		t.Errorf("%d and %d senders are remembered, want %d", len(s.last), len(s.ids), mostSeen)
	}
}

// Messages that come before their function wait for it: the last ones, in order, for a limited number of names.
func TestMessagesWaitForTheirFunction(t *testing.T) {
	a, b := newMember(t), newMember(t)
	meet(t, a, b, 0)
	a.send(t, "n", numbers(1, unheardMost+4)...)
	for n := range 2 * mostUnknown {
		a.send(t, fmt.Sprint("unknown ", n), "x")
	}
	got, end := new(heard), new(heard)
	b.Handle("end", end.add)
	a.send(t, "end", "x")
	end.must(t, "x")
	b.Handle("n", got.add)
	got.must(t, numbers(5, unheardMost+4)...)
	a.send(t, "n", fmt.Sprint(unheardMost+5))
	got.must(t, numbers(5, unheardMost+5)...)
	if !strings.Contains(b.log.String(), "name=n dropped=4") {
		t.Errorf("the dropped messages are not counted: %s", b.log)
	}
	b.mu.Lock()
	names := len(b.inboxes)
	b.mu.Unlock()
	if names > mostUnknown+2 {
		t.Errorf("messages of %d names wait", names)
	}
	b.Handle("n", nil)
	a.send(t, "n", fmt.Sprint(unheardMost+6))
	b.Handle("n", got.add)
	got.must(t, numbers(5, unheardMost+6)...)
}

// A function that blocks delays its own name only. The messages that wait for it are limited: the newest ones stay, and the
// others are counted in the log.
func TestBlockingFunctionDelaysItsOwnName(t *testing.T) {
	a, b := newMember(t), newMember(t)
	meet(t, a, b, 0)
	got, other, begun, goOn := new(heard), new(heard), make(chan struct{}, 2*queueMost), make(chan struct{})
	b.Handle("slow", func(data []byte) error { begun <- struct{}{}; <-goOn; return got.add(data) })
	b.Handle("other", other.add)
	a.send(t, "slow", "0")
	<-begun
	a.send(t, "slow", numbers(1, queueMost+6)...)
	a.send(t, "other", "x")
	other.must(t, "x")
	close(goOn)
	got.must(t, append([]string{"0"}, numbers(7, queueMost+6)...)...)
	testutil.Until(t, patience, "the number of dropped messages", func() bool { return strings.Contains(b.log.String(), "name=slow dropped=6") })
}

// A function that fails, panics or ends its goroutine gets the next message. Failures in a row are logged once.
func TestFailingFunctionGetsTheNextMessage(t *testing.T) {
	a, b := newMember(t), newMember(t)
	meet(t, a, b, 0)
	got := new(heard)
	b.Handle("n", func(data []byte) error {
		got.add(data)
		switch string(data) {
		case "error":
			return errors.New("no")
		case "panic":
			panic("ouch")
		case "goexit":
			runtime.Goexit()
		}
		return nil
	})
	all := []string{"error", "panic", "goexit", "1", "goexit", "panic", "2"}
	a.send(t, "n", all...)
	got.must(t, all...)
	testutil.Until(t, patience, "two lines", func() bool { return strings.Count(b.log.String(), "has failed") == 2 })
	if s := b.log.String(); !strings.Contains(s, "err=no") || !strings.Contains(s, `err="it has ended its goroutine"`) {
		t.Errorf("the log does not say why: %s", s)
	}
}

// A generation that was started a moment ago gets the messages since a moment before its start: the last ones of each name.
func TestNewGenerationGetsRecentMessages(t *testing.T) {
	a, b, late := newMember(t), newMember(t), newMember(t)
	a.send(t, "n", numbers(1, 20)...)
	a.send(t, "m", "x")
	now := sys.Uptime()
	meet(t, a, late, now+overlap+time.Second) // it knows the messages already
	meet(t, a, b, now)
	got, other, later := new(heard), new(heard), new(heard)
	b.Handle("n", got.add)
	b.Handle("m", other.add)
	late.Handle("n", later.add)
	a.send(t, "n", "21")
	got.must(t, numbers(5, 21)...)
	other.must(t, "x")
	later.must(t, "21")
}

// backdate makes the messages that the hub has sent so far older.
func (m member) backdate(by time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, old := range m.recent.all {
		old.at -= by
	}
}

// A process that was started after a crash gets the messages of the last minute, also if another generation has ended between
// the crash and the start.
func TestSuccessorGetsTheLastMinute(t *testing.T) {
	a, b := newMember(t), newMember(t)
	crashed := raw(t, a, wire.IntroduceBody{Generation: 3, PID: os.Getpid()}, true)
	drains := raw(t, a, wire.IntroduceBody{Generation: 2, PID: os.Getppid()}, true)
	ended := func(pid int) func() bool { return func() bool { return !a.Reaches(pid) } }
	a.send(t, "n", "too old")
	a.backdate(2 * pauseLimit)
	crashed.Close()
	testutil.Until(t, patience, "the crash", ended(os.Getpid()))
	_ = a.Broadcast("n", []byte("1"))
	a.backdate(10 * overlap)
	drains.Close()
	testutil.Until(t, patience, "the end of another generation", ended(os.Getppid()))
	_ = a.Broadcast("n", []byte("2"))
	got := new(heard)
	b.Handle("n", got.add)
	one, other := pair(t)
	if err := errors.Join(a.JoinSuccessor(one, wire.IntroduceBody{}), b.Join(other, wire.IntroduceBody{})); err != nil {
		t.Fatal(err)
	}
	got.must(t, "1", "2")
}

// A generation that gets as many recent messages as a queue has room for gets the greeting before them: it ignores no message.
func TestFullQueueKeepsTheGreeting(t *testing.T) {
	a, b := newMember(t), newMember(t)
	for name := range queueMost / keptEach {
		a.send(t, fmt.Sprint(name), numbers(1, keptEach)...)
	}
	got := new(heard)
	b.Handle("0", got.add)
	meet(t, a, b, sys.Uptime())
	got.must(t, numbers(1, keptEach)...)
	a.send(t, "0", fmt.Sprint(keptEach+1))
	got.must(t, numbers(1, keptEach+1)...)
}

// What is kept for new generations is bounded for each name, and in all.
func TestRecentMessagesAreBounded(t *testing.T) {
	var r recent
	for n := range 5 * queueMost {
		r.add(&message{seq: uint64(n), name: fmt.Sprint(n), data: make([]byte, 10)})
	}
	if len(r.all) != queueMost || r.bytes != 10*queueMost {
		t.Errorf("%d messages with %d bytes", len(r.all), r.bytes)
	}
	for n := range 100 {
		r.add(&message{seq: uint64(n), name: "n", data: make([]byte, DataLimit)})
	}
	if n := len(slices.DeleteFunc(slices.Clone(r.all), func(m *message) bool { return m.name != "n" })); n != keptEach {
		t.Errorf("%d messages of a name", n)
	}
	for n := range 100 {
		r.add(&message{seq: uint64(n), name: fmt.Sprint("m", n), data: make([]byte, DataLimit)})
	}
	if r.bytes > queueBytes || r.bytes < queueBytes-DataLimit {
		t.Errorf("%d bytes", r.bytes)
	}
}

// A generation that does not read is named in the error after a second, and later at once. It gets everything in order when it
// reads again; the others do not wait for it.
func TestGenerationThatDoesNotReadIsNamed(t *testing.T) {
	a, b := impatient(newMember(t)), newMember(t)
	stuck := raw(t, a, wire.IntroduceBody{Generation: 3, PID: os.Getpid()}, true)
	meet(t, a, b, 0)
	var err error
	sent, big := 0, bytes.Repeat([]byte("x"), DataLimit)
	for ; err == nil && sent < 500; sent++ { // until the socket is full
		err = a.Broadcast("n", append([]byte(fmt.Sprint(sent, " ")), big[:DataLimit-10]...))
	}
	want := fmt.Sprintf("generation 3 (pid %d) does not read: the message waits for it", os.Getpid())
	if err == nil || err.Error() != want {
		t.Fatalf("%v, want %s", err, want)
	}
	testutil.Until(t, patience, "it is known to be stuck", func() bool {
		_, _, stuck := a.contacts[0].state()
		return stuck
	})
	got := new(heard)
	b.Handle("quick", got.add)
	began := time.Now()
	for _, data := range numbers(1, 20) {
		if err := a.Broadcast("quick", []byte(data)); err == nil || err.Error() != want {
			t.Fatalf("%v, want %s", err, want)
		}
	}
	if took := time.Since(began); took > 15*a.limit {
		t.Errorf("20 messages took %v", took)
	}
	got.must(t, numbers(1, 20)...)
	for n := range sent + 20 {
		f := <-stuck.Frames
		var m wire.BroadcastBody
		if f.Kind == wire.KindIntroduce {
			f = <-stuck.Frames
		}
		if err := f.Decode(&m); err != nil || m.Seq != uint64(n+1) {
			t.Fatalf("message %d has number %d, %v", n+1, m.Seq, err)
		}
	}
	testutil.Until(t, patience, "it is not stuck any more", func() bool { return a.Broadcast("n", nil) == nil })
}

// A generation that is being started, and does not read yet, delays nobody for long and is no error.
func TestStartingGenerationIsNoError(t *testing.T) {
	a := impatient(newMember(t))
	raw(t, a, wire.IntroduceBody{Generation: 2, PID: os.Getpid()}, false)
	began := time.Now()
	for range 100 {
		a.send(t, "n", strings.Repeat("x", DataLimit))
	}
	if took := time.Since(began); took > 20*a.limit {
		t.Errorf("100 messages took %v", took)
	}
}

// The messages that wait for a generation are limited: the newest ones stay, and the others are counted in the log.
func TestQueueOfAGenerationIsLimited(t *testing.T) {
	a := impatient(newMember(t))
	l := raw(t, a, wire.IntroduceBody{Generation: 2, PID: os.Getpid()}, true)
	sent := 0
	state := func() (waiting, dropped int) {
		_ = a.Broadcast("n", bytes.Repeat([]byte("x"), DataLimit))
		sent++
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.contacts[0].out.bytes, a.contacts[0].dropped
	}
	testutil.Until(t, patience, "dropped messages", func() bool {
		waiting, dropped := state()
		if waiting > queueBytes {
			t.Fatalf("%d bytes wait", waiting)
		}
		return dropped == 5
	})
	last, got := uint64(0), 0
	for last < uint64(sent) {
		f := <-l.Frames
		if f.Kind != wire.KindBroadcast {
			continue
		}
		var m wire.BroadcastBody
		if err := f.Decode(&m); err != nil || m.Seq <= last {
			t.Fatalf("after message %d comes %d, %v", last, m.Seq, err)
		}
		last = m.Seq
		got++
	}
	if got != sent-5 {
		t.Errorf("%d of %d messages have come", got, sent)
	}
	testutil.Until(t, patience, "the number of dropped messages", func() bool { return strings.Contains(a.log.String(), "dropped=5") })
}

// failing is a socket that sends the greeting, and then fails.
type failing struct {
	wire.Transport
	tries atomic.Int64
}

func (f *failing) Send([]byte, []*os.File) error     { return f.try() }
func (f *failing) TrySend([]byte, ...*os.File) error { return f.try() }

func (f *failing) SendBy([]byte, *os.File, time.Time) error { return f.try() }

func (f *failing) try() error {
	if f.tries.Add(1) == 1 {
		return nil
	}
	return syscall.EMSGSIZE
}

// A socket that fails for good is given up after the first failure, with a line in the log. The error names the generation, and
// so do later errors as long as the generation lives.
func TestSocketThatCannotSendIsGivenUp(t *testing.T) {
	a := newMember(t)
	one, other := pair(t)
	defer other.Close()
	sock, err := wire.NewSocket(one)
	if err != nil {
		t.Fatal(err)
	}
	bad := &failing{Transport: sock}
	if !a.add(newContact(a.Hub, wire.NewLink(bad), wire.IntroduceBody{Generation: 4, PID: os.Getpid()})) {
		t.Fatal("the hub is closed")
	}
	who := fmt.Sprintf("generation 4 (pid %d)", os.Getpid())
	if err := a.Broadcast("n", nil); err == nil || !strings.Contains(err.Error(), who+" does not get the message: ") {
		t.Error(err)
	}
	testutil.Until(t, patience, "the end of the socket", func() bool { return !a.Reaches(os.Getpid()) })
	if n := bad.tries.Load(); n != 2 {
		t.Errorf("%d tries", n)
	}
	if log := a.log.String(); strings.Count(log, "do not reach a generation any more") != 1 || !strings.Contains(log, "generation=4") {
		t.Errorf("the log does not name the generation: %s", log)
	}
	if err := a.Broadcast("n", nil); err == nil || !strings.Contains(err.Error(), who) {
		t.Error(err)
	}
}

// A generation whose build has no broadcasts closes the socket, and is named as long as it lives.
func TestGenerationWithoutBroadcastsIsNamed(t *testing.T) {
	a := newMember(t)
	program := exec.Command("sleep", "60")
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	pid := program.Process.Pid
	raw(t, a, wire.IntroduceBody{Generation: 7, PID: pid}, false).Close()
	testutil.Until(t, patience, "the end of the socket", func() bool { return !a.Reaches(pid) })
	if err := a.Broadcast("n", nil); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("generation 7 (pid %d) has no broadcast socket", pid)) {
		t.Error(err)
	}
	_ = program.Process.Kill()
	_ = program.Wait()
	a.send(t, "n", "it has ended")
}

// A generation whose Run ends is no error, although its process still lives.
func TestEndOfAGenerationIsNoError(t *testing.T) {
	a, b := newMember(t), newMember(t)
	meet(t, a, b, 0)
	a.send(t, "n", "1")
	testutil.Until(t, patience, "the greeting", func() bool { return a.Reaches(os.Getpid()) })
	b.Close()
	testutil.Until(t, patience, "the end of the socket", func() bool { return !a.Reaches(os.Getpid()) })
	a.send(t, "n", "2")
}

// The end of Run in another generation is no error of the broadcasts that are made at that moment, and delays none of them.
func TestEndOfAGenerationBesideBroadcastsIsNoError(t *testing.T) {
	for range 200 {
		a, b := newMember(t), newMember(t)
		meet(t, a, b, 0)
		testutil.Until(t, patience, "the greetings", func() bool { return a.greeted() && b.greeted() })
		var ending sync.WaitGroup
		ending.Go(b.Close)
		for a.Reaches(os.Getpid()) {
			a.send(t, "n", "to somebody who goes")
		}
		ending.Wait()
		a.send(t, "n", "to nobody")
		a.Close()
	}
}

// slow is a socket whose sender is held up after it has sent, as on a machine with too few processors.
type slow struct {
	wire.Transport
	by time.Duration
}

func (s slow) Send(b []byte, files []*os.File) error { return s.Transport.Send(b, files) }
func (s slow) TrySend(b []byte, file *os.File) error { return s.sender().TrySend(b, file) }

func (s slow) SendBy(b []byte, file *os.File, deadline time.Time) error {
	err := s.sender().SendBy(b, file, deadline)
	time.Sleep(s.by)
	return err
}

func (s slow) sender() interface {
	TrySend([]byte, *os.File) error
	SendBy([]byte, *os.File, time.Time) error
} {
	return s.Transport.(interface {
		TrySend([]byte, *os.File) error
		SendBy([]byte, *os.File, time.Time) error
	})
}

// A generation says that its Run ends also if another sender has the socket at that moment, and is held up.
func TestEndOfAGenerationIsSaidAlsoBesideASlowSender(t *testing.T) {
	a, b := newMember(t), newMember(t)
	one, other := pair(t)
	if err := a.Join(one, wire.IntroduceBody{Generation: 1, PID: os.Getpid()}); err != nil {
		t.Fatal(err)
	}
	sock, err := wire.NewSocket(other)
	if err != nil {
		t.Fatal(err)
	}
	if !b.add(newContact(b.Hub, wire.NewLink(slow{sock, 200 * time.Millisecond}), wire.IntroduceBody{Generation: 2, PID: os.Getpid()})) {
		t.Fatal("the hub is closed")
	}
	testutil.Until(t, patience, "the greeting", func() bool { return a.greeted() })
	b.Close() // the goroutine that has sent the greeting is still held up
	testutil.Until(t, patience, "the end of the socket", func() bool { return !a.Reaches(os.Getpid()) })
	a.send(t, "n", "to nobody")
}

// The end is known also of a generation that ends while its greeting is being sent, so that the greeting comes after the end.
func TestGreetingAfterTheEndIsNoReturn(t *testing.T) {
	a := newMember(t)
	who := wire.IntroduceBody{Generation: 7, PID: os.Getpid()}
	l := raw(t, a, who, false)
	ends := wire.IntroduceBody{PID: who.PID, ID: "raw", Ends: true}
	if err := errors.Join(l.Send(wire.KindIntroduce, ends), l.Send(wire.KindIntroduce, wire.IntroduceBody{PID: who.PID, ID: "raw"})); err != nil {
		t.Fatal(err)
	}
	l.Close()
	testutil.Until(t, patience, "the end of the socket", func() bool { return !a.Reaches(who.PID) })
	a.send(t, "n", "to nobody")
}

// greeted reports whether each other generation has said that it reads, or has gone since.
func (m member) greeted() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !slices.ContainsFunc(m.contacts, func(c *contact) bool { return !c.greeted })
}

// A generation that has read broadcasts, and whose socket ends although its Run goes on, is named as long as it lives.
func TestGenerationWithoutItsSocketIsNamed(t *testing.T) {
	a := newMember(t)
	program := exec.Command("sleep", "60")
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	who := wire.IntroduceBody{Generation: 7, PID: program.Process.Pid}
	raw(t, a, who, true).Close()
	testutil.Until(t, patience, "the end of the socket", func() bool { return !a.Reaches(who.PID) })
	want := fmt.Sprintf("generation 7 (pid %d) is not reached any more: its broadcast socket has ended", who.PID)
	if err := a.Broadcast("n", nil); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	raw(t, a, who, true) // another socket
	a.send(t, "n", "it is reached again")
	_ = program.Process.Kill()
	_ = program.Wait()
	raw(t, a, who, true).Close()
	a.send(t, "n", "it has ended")
}

// A function may broadcast in reply, from both sides and with full queues, and nobody waits for ever.
func TestFunctionsMayBroadcast(t *testing.T) {
	a, b := newMember(t), newMember(t)
	meet(t, a, b, 0)
	var pings, pongs heard
	b.Handle("ping", func(data []byte) error { pings.add(data); return b.Broadcast("pong", data) })
	a.Handle("pong", func(data []byte) error { pongs.add(data); return a.Broadcast("over", data) })
	b.Handle("over", func([]byte) error { return nil })
	var sending sync.WaitGroup
	sending.Go(func() { a.send(t, "ping", numbers(1, 500)...) })
	sending.Wait()
	pings.must(t, numbers(1, 500)...)
	pongs.must(t, numbers(1, 500)...)
}

// A message or a name that is too large is refused, with its size, and so is a name that is no text.
func TestLimitsOfAMessage(t *testing.T) {
	a, b := newMember(t), newMember(t)
	meet(t, a, b, 0)
	for want, err := range map[string]error{
		"16385 bytes are more than 16384": a.Broadcast("n", make([]byte, DataLimit+1)),
		"a name of 129 bytes":             a.Broadcast(strings.Repeat("x", NameLimit+1), nil),
		"a name of 0 bytes":               a.Broadcast("", nil),
		"a name of 1 bytes":               a.Broadcast("\xff", nil),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	got, name := new(heard), strings.Repeat("\x01", NameLimit) // in JSON each byte needs six
	b.Handle(name, got.add)
	b.Handle("", got.add)
	a.send(t, name, strings.Repeat("x", DataLimit))
	got.must(t, strings.Repeat("x", DataLimit))
}

// After Close, Broadcast fails. Close does not wait for ever for a function, and names it in the log.
func TestCloseDoesNotWaitForEver(t *testing.T) {
	a, b := newMember(t), impatient(newMember(t))
	meet(t, a, b, 0)
	begun, goOn := make(chan struct{}), make(chan struct{})
	b.Handle("slow", func([]byte) error { close(begun); <-goOn; return nil })
	a.send(t, "slow", "1")
	<-begun
	b.Close()
	if !strings.Contains(b.log.String(), "names=[slow]") {
		t.Errorf("the log does not name the function: %s", b.log)
	}
	close(goOn)
	if err := b.Broadcast("n", nil); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	one, other := pair(t)
	defer other.Close()
	if err := b.Join(one, wire.IntroduceBody{}); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}
