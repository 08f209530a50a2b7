//go:build linux

package upgrade_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// names is a service like DNS: a datagram is a question, "id text", and its answer is "id text generation".
type names struct {
	pc         net.PacketConn // nil: there is none
	generation int
	release    string // questions with the text "hold" are answered when this file exists
}

func (s *service) openNames() (*names, error) {
	if s.set.Names == "" {
		return &names{}, nil
	}
	addr := "127.0.0.1:0"
	if s.set.Names == "unixgram" {
		addr = filepath.Join(s.dir, "names")
	}
	pc, err := s.up.ListenPacket(s.set.Names, addr)
	if err != nil {
		return nil, err
	}
	n := &names{pc: pc, generation: s.up.Status().Generation, release: filepath.Join(s.dir, "release")}
	return n, os.WriteFile(filepath.Join(s.dir, "names-addr"), []byte(pc.LocalAddr().String()), 0o600)
}

// serve starts the service. It ends with ctx, answers what it has read, and hangs up; then it says so.
func (n *names) serve(ctx context.Context) <-chan error {
	ended := make(chan error, 1)
	if n.pc == nil {
		close(ended)
		return ended
	}
	context.AfterFunc(ctx, func() { _ = n.pc.SetReadDeadline(time.Unix(1, 0)) })
	go func() { // ends with ctx, and with what is held
		var work sync.WaitGroup
		buf := make([]byte, 1500)
		for {
			size, from, err := n.pc.ReadFrom(buf)
			if err != nil {
				break
			}
			question := string(buf[:size])
			work.Go(func() { n.answer(question, from) })
		}
		work.Wait()
		ended <- n.pc.Close()
	}()
	return ended
}

func (n *names) answer(question string, to net.Addr) {
	if strings.HasSuffix(question, " hold") {
		for !exists(n.release) {
			time.Sleep(5 * time.Millisecond) // this is the work
		}
	}
	_, err := n.pc.WriteTo(fmt.Appendf(nil, "%s g%d", question, n.generation), to)
	if err != nil {
		fmt.Fprintln(os.Stderr, "answer:", err)
	}
}

// letGo lets the service go on with what it holds.
func (r *running) letGo() {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, "release"), nil, 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// resolver asks one question after the other, and none of them twice.
type resolver struct {
	c    net.Conn
	id   string
	next int
}

var resolvers atomic.Int64

func (r *running) resolver() *resolver {
	r.t.Helper()
	id := fmt.Sprint("c", resolvers.Add(1))
	b, err := os.ReadFile(filepath.Join(r.dir, "names-addr"))
	if err != nil {
		r.t.Fatal(err)
	}
	var d net.Dialer
	if r.set.Names == "unixgram" {
		d.LocalAddr = &net.UnixAddr{Net: "unixgram", Name: filepath.Join(r.dir, id)}
	}
	c, err := d.Dial(r.set.Names, string(b))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return &resolver{c: c, id: id}
}

// ask sends a question and returns the generation that has answered it.
func (c *resolver) ask(text string) (string, error) {
	if err := c.send(text); err != nil {
		return "", err
	}
	return c.answer(text)
}

func (c *resolver) send(text string) error {
	c.next++
	_, err := fmt.Fprintf(c.c, "%s-%d %s", c.id, c.next, text)
	return err
}

// answer waits for the answer to the last question. That of an earlier one would be its second.
func (c *resolver) answer(text string) (string, error) {
	buf := make([]byte, 1500)
	_ = c.c.SetReadDeadline(time.Now().Add(patience))
	n, err := c.c.Read(buf)
	if err != nil {
		return "", fmt.Errorf("question %d of %s is lost: %w", c.next, c.id, err)
	}
	by, ok := strings.CutPrefix(string(buf[:n]), fmt.Sprintf("%s-%d %s ", c.id, c.next, text))
	if !ok {
		return "", fmt.Errorf("question %d of %s: the answer is %q", c.next, c.id, buf[:n])
	}
	return by, nil
}

// nothingMore tells whether there is another answer, now that the service answers other questions.
func (c *resolver) nothingMore() error {
	if _, err := c.ask("last"); err != nil {
		return err
	}
	_ = c.c.SetReadDeadline(time.Now().Add(time.Millisecond))
	if n, err := c.c.Read(make([]byte, 1500)); !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("another answer to %s: %d bytes, %v", c.id, n, err)
	}
	return nil
}

// asking is many resolvers at work.
type asking struct {
	stop  chan struct{}
	done  sync.WaitGroup
	asked atomic.Int64
	by    sync.Map
}

func (r *running) startAsking(clients int) *asking {
	r.t.Helper()
	a := &asking{stop: make(chan struct{})}
	for range clients {
		c := r.resolver()
		a.done.Go(func() { a.run(r.t, c) })
	}
	return a
}

func (a *asking) run(t *testing.T, c *resolver) {
	for {
		select {
		case <-a.stop:
			if err := c.nothingMore(); err != nil {
				t.Error(err)
			}
			return
		default:
		}
		by, err := c.ask("name")
		if err != nil {
			t.Error(err)
			return
		}
		a.asked.Add(1)
		a.by.Store(by, true)
	}
}

func (a *asking) seen(by string) bool { _, ok := a.by.Load(by); return ok }

// end stops the clients.
func (a *asking) end() int64 {
	close(a.stop)
	a.done.Wait()
	return a.asked.Load()
}

// waitAnswers waits until n more questions have been answered.
func (a *asking) waitAnswers(t *testing.T, n int64) {
	t.Helper()
	want := a.asked.Load() + n
	testutil.Until(t, patience, "answers", func() bool { return a.asked.Load() >= want })
}
