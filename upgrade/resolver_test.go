//go:build linux

package upgrade_test

import (
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
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// resolver sends one question after the other, and never the same question twice.
type resolver struct {
	c    net.Conn
	id   string
	next int
}

var resolvers atomic.Int64

func newResolver(t *testing.T, r *testclient.Service) *resolver {
	t.Helper()
	id := fmt.Sprint("c", resolvers.Add(1))
	var d net.Dialer
	if r.Set.Names == plan.NamesUnix {
		d.LocalAddr = &net.UnixAddr{Net: "unixgram", Name: filepath.Join(r.Dir, id)}
	}
	c, err := d.Dial(string(r.Set.Names), r.Read("names-addr"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
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

// answer waits for the answer to the last question. An answer to an earlier question would be its second answer: an error.
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

// nothingMore returns an error if a question was answered twice. It is called when the service answers other questions.
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

// asking has many resolvers that send questions at the same time.
type asking struct {
	stop  chan struct{}
	done  sync.WaitGroup
	asked atomic.Int64
	by    sync.Map
}

func startAsking(t *testing.T, r *testclient.Service, clients int) *asking {
	t.Helper()
	a := &asking{stop: make(chan struct{})}
	for range clients {
		c := newResolver(t, r)
		a.done.Go(func() { a.run(t, c) }) // ends with the method end
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
