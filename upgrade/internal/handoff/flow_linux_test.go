package handoff

import (
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// A receiver is the other end of a flow. It answers only when the test says so.
type receiver struct {
	t    *testing.T
	link *wire.Link // the sender's end
	wire wire.Transport
}

// newReceiver returns a receiver that has sent a message, so that the sender knows that it answers.
func newReceiver(t *testing.T) *receiver {
	t.Helper()
	ours, theirs, err := sys.SocketPair()
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{t: t, link: newLink(t, ours)}
	if err := wire.Queue(theirs, wire.KindBeat, nil, nil); err != nil {
		t.Fatal(err)
	}
	if r.wire, err = wire.NewSocket(theirs); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.wire.Close() })
	f := <-r.link.Frames
	f.Close()
	return r
}

// receive returns the number of connections in the next message, and the id of the message. After the end of the socket it
// returns 0, 0.
func (r *receiver) receive() (id uint64, conns int) {
	b := make([]byte, 64<<10)
	n, files, err := r.wire.Recv(b)
	wire.Frame{Files: files}.Close()
	if err != nil || n == 0 {
		return 0, 0
	}
	var body wire.ConnsBody
	err = wire.Frame{Kind: wire.Kind(b[4]), Body: b[12:n]}.Decode(&body)
	if err != nil || wire.Kind(b[4]) != wire.KindConns || len(files) != len(body.Conns) {
		r.t.Errorf("%v with %d files for %d connections, %v", wire.Kind(b[4]), len(files), len(body.Conns), err)
	}
	return body.ID, len(body.Conns)
}

// answerAll answers all messages in a goroutine, until the end of the socket. took returns how many connections of a message are
// taken.
func (r *receiver) answerAll(took func(conns int) int) {
	var answering sync.WaitGroup
	answering.Go(func() {
		for {
			id, conns := r.receive()
			if id == 0 {
				return
			}
			r.answer(id, took(conns))
		}
	})
	r.t.Cleanup(func() { r.link.Close(); answering.Wait() })
}

// answer answers a message.
func (r *receiver) answer(id uint64, took int) {
	r.t.Helper()
	if err := r.wire.Send(answering(r.t, wire.KindTook, wire.TookBody{ID: id, Took: took}), nil); err != nil {
		r.t.Error(err)
	}
}

// answering returns a message of a process that answers.
func answering(t testing.TB, k wire.Kind, body any) []byte {
	t.Helper()
	b, err := wire.Encode(k, body, 0)
	if err != nil {
		t.Fatal(err)
	}
	b[6] = 1
	return b
}

// An offering is a number of connections that were offered to a flow, each in a goroutine.
type offering struct {
	t       *testing.T
	flow    *flow
	clients []net.Conn
	servers []net.Conn
	mu      sync.Mutex
	results map[int]bool
	done    sync.WaitGroup
}

func offerAll(t *testing.T, l *wire.Link, n int, full func()) *offering {
	o := &offering{t: t, flow: newFlow(l, succeeding{}, full), results: map[int]bool{}}
	for i := range n {
		client, server := pairOf(t, "tcp")
		o.clients, o.servers = append(o.clients, client), append(o.servers, server)
		o.done.Go(func() {
			took := o.flow.move(server, wire.ConnBody{Network: "tcp", Addr: ":0", Idle: true})
			o.mu.Lock()
			defer o.mu.Unlock()
			o.results[i] = took
		})
	}
	t.Cleanup(func() { o.flow.stop(); l.Close(); o.done.Wait() })
	return o
}

// ended returns how many calls of move have returned, and how many of them have returned true.
func (o *offering) ended() (all, took int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, t := range o.results {
		all++
		if t {
			took++
		}
	}
	return all, took
}

func (o *offering) wait(what string, all, took int) {
	o.t.Helper()
	testutil.Until(o.t, waitLimit, what, func() bool {
		a, b := o.ended()
		return a == all && b == took
	})
}

// waits waits until so many connections are in the queue.
func (o *offering) waits(n int) {
	o.t.Helper()
	testutil.Until(o.t, waitLimit, "the connections wait", func() bool {
		o.flow.mu.Lock()
		defer o.flow.mu.Unlock()
		return o.flow.queue.Len() == n
	})
}

// A process that answers nothing gets only a few messages. The connections of all others stay here, and a request on one of them
// is served here at once.
func TestRequestDoesNotWaitForABusyProcess(t *testing.T) {
	r := newReceiver(t)
	const n = 40
	o := offerAll(t, r.link, n, nil)
	sent := 0
	for range window {
		_, conns := r.receive()
		sent += conns
	}
	o.waits(n - sent)
	if all, _ := o.ended(); all != 0 {
		t.Fatalf("%d calls have returned without an answer", all)
	}
	for _, c := range o.clients {
		if _, err := c.Write([]byte("a request")); err != nil {
			t.Fatal(err)
		}
	}
	o.wait("the connections that were not sent are served here", n-sent, 0)
	for i, c := range o.servers {
		o.mu.Lock()
		_, here := o.results[i]
		o.mu.Unlock()
		if b := make([]byte, 20); here {
			if n, err := c.Read(b); err != nil || string(b[:n]) != "a request" {
				t.Errorf("read %q, %v", b[:n], err)
			}
		}
	}
}

// As soon as the other process answers, the next connections are sent, until all have moved, in few messages.
func TestAnswersSetThePace(t *testing.T) {
	r := newReceiver(t)
	const n = 200
	o := offerAll(t, r.link, n, nil)
	var first []uint64
	sent := 0
	for range window {
		id, conns := r.receive()
		first, sent = append(first, id), sent+conns
	}
	o.waits(n - sent)
	for _, id := range first {
		r.answer(id, wire.MostConns)
	}
	r.answerAll(func(conns int) int {
		if n := flying(o.flow); conns > wire.MostConns || n > window {
			t.Errorf("%d connections in a message, %d messages without an answer", conns, n)
		}
		return conns
	})
	o.wait("all have moved", n, n)
}

func flying(f *flow) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.flying
}

// The connections that the other process has no room for stay here. The program learns of it once.
func TestConnectionsWithoutRoomStay(t *testing.T) {
	r := newReceiver(t)
	var full atomic.Int32
	o := offerAll(t, r.link, 2, func() { full.Add(1) })
	r.answerAll(func(int) int { return 0 })
	o.wait("both stay", 2, 0)
	if full.Load() != 1 {
		t.Errorf("%d times full", full.Load())
	}
	for i, c := range o.servers {
		answers(t, c, o.clients[i])
	}
}

// If the other process ends, or one that does not answer takes its place, the connections without an answer stay here.
func TestConnectionsWithoutAnAnswerStay(t *testing.T) {
	for name, end := range map[string]func(r *receiver) error{
		"ended": func(r *receiver) error { return r.wire.Close() },
		"an older build reads": func(r *receiver) error {
			b, err := wire.Encode(wire.KindTakes, wire.TakesBody{}, 0)
			if err != nil {
				return err
			}
			return r.wire.Send(b, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReceiver(t)
			o := offerAll(t, r.link, 1, func() { t.Error("a process that has gone is called full") })
			r.receive()
			if err := end(r); err != nil {
				t.Fatal(err)
			}
			o.wait("it stays", 1, 0)
			answers(t, o.servers[0], o.clients[0])
		})
	}
}

// If an older build takes the place of the other process while connections wait for their turn, none of them is sent to the older
// build, which would not answer: all of them stay here.
func TestWaitingConnectionsStayIfAnOlderBuildReads(t *testing.T) {
	r := newReceiver(t)
	const n = window + 20
	o := offerAll(t, r.link, n, nil)
	sent := 0
	for range window {
		_, conns := r.receive()
		sent += conns
	}
	o.waits(n - sent)
	b, err := wire.Encode(wire.KindTakes, wire.TakesBody{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.wire.Send(b, nil); err != nil {
		t.Fatal(err)
	}
	o.wait("all stay", n, 0)
	for i, c := range o.servers {
		answers(t, c, o.clients[i])
	}
}

// A late is a connection that notes whether a read deadline in the past was set after the result of its offer.
type late struct {
	net.Conn
	offer *offer
	after bool
}

func (l *late) SetReadDeadline(at time.Time) error {
	l.after = l.after || !at.IsZero() && l.offer.settled()
	return l.Conn.SetReadDeadline(at)
}

// The deadline that ends the wait of an offer is set before its result is given. Otherwise move could take the deadline away
// before it is set, and the next read of a connection that stays would fail.
func TestNoDeadlineIsSetAfterTheResult(t *testing.T) {
	_, server := pairOf(t, "tcp")
	f := newFlow(newReceiver(t).link, succeeding{}, nil)
	c := &late{Conn: server, offer: &offer{result: make(chan bool, 1)}}
	c.offer.conn = c
	f.mu.Lock()
	f.settle(c.offer, false)
	f.mu.Unlock()
	if c.after {
		t.Error("a deadline in the past is set after the result")
	}
}

// After stop, and after a close of the connection, the calls that wait return.
func TestWaitingMoveCanBeEnded(t *testing.T) {
	for name, end := range map[string]func(o *offering){
		"stop":     func(o *offering) { o.flow.stop() },
		"close":    func(o *offering) { closeAll(o.servers) },
		"deadline": func(o *offering) { expireAll(o.servers) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newReceiver(t)
			const n = window + 20
			o := offerAll(t, r.link, n, nil)
			sent := 0
			for range window {
				_, conns := r.receive()
				sent += conns
			}
			o.waits(n - sent)
			end(o)
			o.wait("the waiting ones stay", n-sent, 0)
			if name == "stop" && o.flow.move(o.servers[0], wire.ConnBody{Idle: true}) {
				t.Error("a connection moves after stop")
			}
		})
	}
}

func closeAll(conns []net.Conn) {
	for _, c := range conns {
		c.Close()
	}
}

func expireAll(conns []net.Conn) {
	for _, c := range conns {
		_ = c.SetReadDeadline(time.Unix(1, 0))
	}
}

// A shortWire cannot send while it is short, and answers each message.
type shortWire struct {
	t     *testing.T
	short atomic.Bool
	tries atomic.Int32
	in    chan []byte
}

func (w *shortWire) TrySend(b []byte, files ...*os.File) error {
	w.tries.Add(1)
	if w.short.Load() {
		return syscall.ETOOMANYREFS
	}
	var body wire.ConnsBody
	if err := (wire.Frame{Body: b[12:]}).Decode(&body); err != nil {
		w.t.Error(err)
	}
	w.in <- answering(w.t, wire.KindTook, wire.TookBody{ID: body.ID, Took: len(files)})
	return nil
}

func (w *shortWire) SendBy([]byte, *os.File, time.Time) error { return nil }
func (w *shortWire) Send([]byte, []*os.File) error            { return nil }
func (w *shortWire) Close() error                             { close(w.in); return nil }
func (w *shortWire) Recv(b []byte) (int, []*os.File, error)   { return copy(b, <-w.in), nil, nil }

// If too many descriptors are on their way between processes, the flow tries again until the connections have moved.
func TestFlowOutlastsAShortage(t *testing.T) {
	w := &shortWire{t: t, in: make(chan []byte, 100)}
	w.short.Store(true)
	w.in <- answering(t, wire.KindBeat, nil)
	l := wire.NewLink(w)
	f := <-l.Frames
	f.Close()
	o := offerAll(t, l, 3, nil)
	testutil.Until(t, waitLimit, "it was tried again", func() bool { return w.tries.Load() > 4 })
	if all, _ := o.ended(); all != 0 {
		t.Errorf("%d calls of move have returned", all)
	}
	w.short.Store(false)
	o.wait("all have moved", 3, 3)
}

// A connection that comes back, and comes again after the step, stays: it belongs to the next step.
func TestLaterConnectionsStayInAStepDown(t *testing.T) {
	e := newExchange(t, nil)
	_, before := e.pass()
	r := NewReturner(e.parent, e.takes, nil, 1, 0, e.sharing)
	_, after := e.pass()
	if r.Move(e.ref, after, nil) {
		t.Error("a connection that came after the step goes back")
	}
	if !r.Move(e.ref, before, nil) {
		t.Error("a connection that came before the step stays")
	}
}

// A receiver that has no descriptors to spare takes no connection, and the sender keeps all of them.
func TestReceiverWithoutSpareDescriptorsTakesNothing(t *testing.T) {
	e := newExchange(t, nil)
	o := offerAll(t, e.link, 0, nil)
	client, server := e.conn()
	defer takeAllDescriptors(t)()
	if o.flow.move(server, wire.ConnBody{Network: "tcp", Addr: "127.0.0.1:0", Idle: true}) {
		t.Error("a connection is taken")
	}
	answers(t, server, client)
}

// takeAllDescriptors lowers the limit of open files so that eight are free, until the returned function is called.
func takeAllDescriptors(t *testing.T) (giveBack func()) {
	t.Helper()
	var had syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &had); err != nil {
		t.Fatal(err)
	}
	var spare sys.Reserve
	spare.Fill(8)
	low := syscall.Rlimit{Cur: uint64(len(testutil.OpenFDs())) + 64, Max: had.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	var all sys.Reserve
	all.Fill(1 << 20)
	spare.Release()
	return func() {
		all.Release()
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &had); err != nil {
			t.Error(err)
		}
	}
}

// If the sender dies before the answer, the receiver serves the connections of its message: nobody else has them.
func TestConnectionsOfADeadSenderAreServed(t *testing.T) {
	keepsNothing(t)
	ours, theirs, err := sys.SocketPair()
	if err != nil {
		t.Fatal(err)
	}
	client, server := pairOf(t, "tcp")
	file, err := sys.ConnFile(server)
	if err != nil {
		t.Fatal(err)
	}
	conns := wire.ConnsBody{ID: 1, Conns: []wire.ConnBody{{Network: "tcp", Addr: ":0", Idle: true}}}
	if err := wire.Queue(ours, wire.KindConns, conns, []int{int(sys.FD(file))}); err != nil {
		t.Fatal(err)
	}
	file.Close()
	server.Close()
	ours.Close()
	f, ok := <-newLink(t, theirs).Frames
	if !ok || f.Kind != wire.KindConn || len(f.Files) != 1 {
		t.Fatalf("%v with %d files", f.Kind, len(f.Files))
	}
	defer f.Close()
	c, err := sys.FileConn(f.Files[0])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	answers(t, c, client)
}
