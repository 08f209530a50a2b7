package handoff

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/upgrade/internal/wire"
)

// Every way of reading and writing sets the slot to slotActive before it uses the connection.
func TestFirstTouchIsMarked(t *testing.T) {
	for name, touch := range map[string]func(c *Conn) error{
		"Read":     func(c *Conn) error { _, err := c.Read(make([]byte, 1)); return err },
		"WriteTo":  func(c *Conn) error { _, err := c.WriteTo(io.Discard); return err },
		"Write":    func(c *Conn) error { _, err := c.Write([]byte("x")); return err },
		"ReadFrom": func(c *Conn) error { _, err := c.ReadFrom(strings.NewReader("x")); return err },
	} {
		e := newExchange(t, nil)
		client, c := e.pass()
		if got := e.state(c); got != slotIdle || !c.Kept() {
			t.Errorf("%s: the slot says %d before", name, got)
		}
		if _, err := io.WriteString(client, "request"); err != nil {
			t.Fatal(err)
		}
		if err := client.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if err := touch(c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := e.state(c); got != slotActive {
			t.Errorf("%s: the slot says %d", name, got)
		}
	}
}

// While a Read waits for the client, the slot stays slotIdle. It stays so if a deadline ends the Read.
func TestWaitingReadTouchesNothing(t *testing.T) {
	e := newExchange(t, nil)
	client, c := e.pass()
	if err := c.SetReadDeadline(time.Now().Add(5 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || e.state(c) != slotIdle {
		t.Errorf("%d bytes, %v, the slot says %d", n, err, e.state(c))
	}
	if err := c.SetReadDeadline(time.Now().Add(waitLimit)); err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 1)
	go func() { // the goroutine ends when the client has sent
		b := make([]byte, 10)
		n, err := c.Read(b)
		if err != nil {
			t.Error(err)
		}
		got <- string(b[:n])
	}()
	if e.state(c) != slotIdle {
		t.Error("the read has touched it, and nothing has come")
	}
	if _, err := io.WriteString(client, "request"); err != nil {
		t.Fatal(err)
	}
	if text := <-got; text != "request" || e.state(c) != slotActive {
		t.Errorf("%q, and the slot says %d", text, e.state(c))
	}
}

// After SetIdle the old process can take the connection back, until the next read or write. This may be repeated. A connection
// that came with bytes never becomes idle, because the bytes would be read twice.
func TestIdleConnectionCanBeTakenBack(t *testing.T) {
	e := newExchange(t, nil)
	client, c := e.pass()
	for range 3 {
		answers(t, client, c)
		if got := e.state(c); got != slotActive {
			t.Errorf("between request and answer the slot says %d", got)
		}
		answers(t, c, client)
		if c.SetIdle(); e.state(c) != slotIdle {
			t.Errorf("idle, and the slot says %d", e.state(c))
		}
	}
	_, server := e.conn()
	e.dispatcher.SetWeight(1)
	if !e.dispatcher.Move(e.ref, server, []byte("ahead")) {
		t.Fatal("it does not move")
	}
	ahead := e.take()
	if _, err := ahead.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if ahead.SetIdle(); e.state(ahead) != slotActive {
		t.Errorf("with bytes ahead the slot says %d", e.state(ahead))
	}
}

// Close ends the connection for the client, although the old process has a descriptor.
func TestCloseEndsItForTheClient(t *testing.T) {
	e := newExchange(t, nil)
	client, c := e.pass()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if !ended(client) || e.state(c) != slotClosed || e.kept() != 1 {
		t.Errorf("the slot says %d, %d are kept", e.state(c), e.kept())
	}
}

// Abandon closes only the descriptor of this process. The client does not notice this, and the old process serves the client.
func TestAbandonedConnectionGoesOn(t *testing.T) {
	e := newExchange(t, nil)
	client, c := e.pass()
	c.Abandon()
	if e.state(c) != slotRefused {
		t.Errorf("the slot says %d", e.state(c))
	}
	if _, err := c.Write([]byte("x")); err == nil {
		t.Error("this process still has it")
	}
	e.dispatcher.Sweep()
	answers(t, client, e.accept(e.oldLn))
}

// A second Close does not write to the slot, because the slot may belong to another connection by then.
func TestSecondCloseLeavesTheSlotAlone(t *testing.T) {
	for name, first := range map[string]func(c *Conn){
		"Close": func(c *Conn) { c.Close() }, "Abandon": (*Conn).Abandon,
	} {
		e := newExchange(t, nil)
		_, c := e.pass()
		first(c)
		e.dispatcher.slots.at(c.about.Slot).Store(slotIdle) // the slot belongs to another connection now
		c.Close()
		c.Abandon()
		if c.SetIdle(); e.state(c) != slotIdle || c.Kept() {
			t.Errorf("after %s the slot says %d, kept %v", name, e.state(c), c.Kept())
		}
	}
}

// CloseWrite sets the slot to slotActive, because the client receives the end of the stream.
func TestCloseWriteIsATouch(t *testing.T) {
	e := newExchange(t, nil)
	client, c := e.pass()
	if err := c.CloseWrite(); err != nil || !ended(client) || e.state(c) != slotActive {
		t.Errorf("%v, the slot says %d", err, e.state(c))
	}
}

// When the old process has ended, Kept is false, and the connection does not write to the slot any more.
func TestNothingIsSharedWithAProcessThatHasEnded(t *testing.T) {
	e := newExchange(t, nil)
	client, c := e.pass()
	e.sharing.End()
	if c.Kept() {
		t.Error("it is kept")
	}
	answers(t, client, c)
	answers(t, c, client)
	c.SetIdle()
	c.Close()
	if got := e.state(c); got != slotIdle {
		t.Errorf("the slot says %d", got)
	}
	e.dispatcher.Settle(false)
	if !ended(client) {
		t.Error("somebody has the connection")
	}
}

// NewConn returns an error if the file is not a connection. It does not close the file.
func TestNewConnNeedsAConnection(t *testing.T) {
	keepsNothing(t)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if c, err := NewConn(null, wire.ConnBody{}, nil); c != nil || err == nil {
		t.Errorf("%v, %v", c, err)
	}
	if _, err := null.Stat(); err != nil {
		t.Errorf("the file is closed: %v", err)
	}
}
