package drain_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/midair-go/midair/drain"
)

// A generation is one server in a chain that takes turns on the same listening socket.
type generation struct {
	stop func() // ends the server as an upgrade does, and returns when the server has ended
}

// A tally accounts for every request of the clients.
type tally struct {
	answered, lost, announced, conns atomic.Int64
	first                            atomic.Value // the first error of a lost request
}

func (n *tally) String() string {
	return fmt.Sprintf("%d answered, %d lost, %d connections, %d ends announced", n.answered.Load(), n.lost.Load(), n.conns.Load(), n.announced.Load())
}

// load runs clients until ctx ends. Each client posts on a keep-alive connection and never retries. A client makes a new
// connection only after an answer has announced the end, or after a loss.
func load(ctx context.Context, addr string, clients int, n *tally) *sync.WaitGroup {
	var wg sync.WaitGroup
	for id := range clients {
		wg.Go(func() {
			for ctx.Err() == nil {
				post(ctx, addr, id, n)
			}
		})
	}
	return &wg
}

// post makes a connection, and sends requests on it until the connection ends.
func post(ctx context.Context, addr string, id int, n *tally) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		n.lose(err)
		return
	}
	defer nc.Close()
	n.conns.Add(1)
	nc.SetDeadline(time.Now().Add(patience))
	c := newClientUnbound(nc)
	for i := 0; ctx.Err() == nil; i++ {
		think(ctx, time.Duration((id*7+i*13)%11)*time.Millisecond)
		body := fmt.Sprintf("client %d request %d", id, i)
		_, err := fmt.Fprintf(nc, "POST /load HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		var a answer
		if err == nil {
			a, err = c.read()
		}
		if err != nil || a.body != body {
			n.lose(fmt.Errorf("request %d of a connection: %q %w", i, a.body, err))
			return
		}
		n.answered.Add(1)
		if a.close {
			n.announced.Add(1)
			return
		}
	}
}

func (n *tally) lose(err error) {
	n.lost.Add(1)
	n.first.CompareAndSwap(nil, err.Error())
}

// think is the time between two requests of a client.
func think(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// upgrades replaces one generation by the next, times times, while clients send requests.
func upgrades(t testing.TB, times, clients int, start func(net.Listener) generation) *tally {
	base, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	n := new(tally)
	old := start(duplicate(t, base))
	ctx, end := context.WithCancel(context.Background())
	defer end()
	wg := load(ctx, base.Addr().String(), clients, n)
	for i := range times {
		seen := n.answered.Load() + n.lost.Load()
		until(t, "the clients work", func() bool { return n.answered.Load()+n.lost.Load() > seen+int64(clients) })
		next := start(duplicate(t, base))
		old.stop()
		old = next
		if t.Failed() {
			t.Fatalf("upgrade %d", i)
		}
	}
	end()
	wg.Wait()
	old.stop()
	return n
}

// duplicate returns another listener of the same socket, as the next process would have it.
func duplicate(t testing.TB, ln net.Listener) net.Listener {
	t.Helper()
	f, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dup, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	return dup
}

func drained(t testing.TB, opts drain.Options) func(net.Listener) generation {
	return func(ln net.Listener) generation {
		s := drain.NewServer(&http.Server{Handler: echo}, opts)
		ctx, end := context.WithCancelCause(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Serve(ctx, ln) }()
		return generation{func() {
			end(upgraded{})
			if err := <-done; err != nil {
				t.Errorf("Serve = %v", err)
			}
		}}
	}
}

func shutDown(ln net.Listener) generation {
	srv := &http.Server{Handler: echo}
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Serve(ln)
	}()
	return generation{func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		srv.Shutdown(ctx)
		<-done
	}}
}

// No request is lost by an upgrade: clients that never retry keep posting while servers take turns on one socket.
func TestDrainLosesNoRequestUnderLoad(t *testing.T) {
	times := 100
	if testing.Short() {
		times = 20
	}
	n := upgrades(t, times, 40, drained(t, drain.Options{}))
	t.Logf("%d drains: %v", times, n)
	if n.lost.Load() != 0 || n.announced.Load() == 0 {
		t.Errorf("first loss: %v", n.first.Load())
	}
}

// For comparison, the same load with http.Server.Shutdown. The test checks nothing, because the package does not promise
// anything about Shutdown.
func TestShutdownUnderLoadForComparison(t *testing.T) {
	const times = 20
	n := upgrades(t, times, 40, shutDown)
	t.Logf("%d shutdowns: %v; first loss: %v", times, n, n.first.Load())
}

// A plain stop accepts the connections that are complete in the kernel, and then closes the listener.
func TestPlainStopAnswersTheAcceptQueue(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := prepare(t, &http.Server{Handler: echo}, drain.Options{})
	s.addr = ln.Addr().String()
	clients := make([]*client, 50)
	for i := range clients {
		clients[i] = s.dial() // nobody accepts yet
	}
	s.run(func(ctx context.Context) error {
		s.end(nil)
		return s.Serve(ctx, ln)
	})
	for _, c := range clients {
		c.send("GET /queued HTTP/1.1\r\nHost: x\r\n\r\n")
	}
	for _, c := range clients {
		wantBody(t, c.answer(), "/queued", true)
		c.closed()
	}
	s.clean()
}

// A handover leaves the accept queue to the successor, and readiness as it is.
func TestHandoverLeavesTheAcceptQueue(t *testing.T) {
	base, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	s := serveOn(t, duplicate(t, base), &http.Server{Handler: echo}, drain.Options{Propagation: time.Hour})
	s.until("it serves", func() bool { c := s.dial(); defer c.Close(); return c.get("/").status == http.StatusOK })
	s.handOver()
	s.clean()
	if status, _ := probe(s); status != http.StatusOK {
		t.Errorf("readiness %d after a handover", status)
	}
	c := s.dial()
	c.send("GET /next HTTP/1.1\r\nHost: x\r\n\r\n")
	next := serveOn(t, duplicate(t, base), &http.Server{Handler: echo}, drain.Options{})
	wantBody(t, c.answer(), "/next", false)
	c.Close()
	next.stop()
	next.clean()
}

// BenchmarkDrain measures how long a drain of idle connections with bytes on their way takes.
func BenchmarkDrain(b *testing.B) {
	for range b.N {
		s := serve(b, &http.Server{Handler: echo}, drain.Options{IdleGrace: time.Nanosecond})
		clients := make([]*client, 100)
		for i := range clients {
			clients[i] = s.dial()
			clients[i].get("/")
		}
		s.until("all idle", func() bool { return s.Status().Idle == len(clients) })
		b.StartTimer()
		s.handOver()
		for _, c := range clients {
			c.closed()
		}
		s.clean()
		b.StopTimer()
	}
}
