package upgrade

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/midair-go/midair/internal/guard"
	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// Candidate is the new process during the upgrade, as Options.Smoke and Options.Bake see it.
type Candidate struct {
	pid        int
	generation int
	version    string
	link       *wire.Link // nil before the process is started
	division   division   // sets the weight; nil before the process is started

	mu      sync.Mutex
	asked   map[int]chan error            // the calls of Dial that wait for an answer, by the ID in the message dial
	last    int                           // the last ID
	private []net.Conn                    // this process's ends of the connections of Dial
	over    bool                          // Dial and DialListener fail, because no judge will be called any more
	hears   map[string]func([]byte) error // the functions of Subscribe, by name
}

// division divides the connections between the old process and the candidate.
type division interface {
	setWeight(w float64) error
	weight() float64
}

// PID returns the candidate's process id.
func (c *Candidate) PID() int { return c.pid }

// Generation returns the generation number that the candidate has after a commit.
func (c *Candidate) Generation() int { return c.generation }

// Version returns the version that the candidate reports; empty for a program without this library.
func (c *Candidate) Version() string { return c.version }

// dialLimit is how long Dial and DialListener wait for the candidate's answer at most.
const dialLimit = 10 * time.Second

// Dial returns a private connection to the candidate, as if a client had connected to the first listener that the candidate
// has opened with Listen. The call does not make the candidate reachable for clients. Dial works in Smoke and in Bake. When
// Smoke or Bake returns, the connections that it has dialed are closed. Each is a TCP connection over the loopback interface;
// for a unix listener, [Candidate.DialListener] returns a unix connection. The caller has to speak the protocol of the server,
// for example TLS. A client for HTTP can use this transport:
//
//	t := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return c.Dial(ctx) }}
//
// When neither Smoke nor Bake will run any more, the error is ErrClosed.
func (c *Candidate) Dial(ctx context.Context) (net.Conn, error) { return c.DialListener(ctx, "", "") }

// DialListener is [Candidate.Dial] for the listener that the candidate has opened with the given network and address. Spell
// both as in the program's call of Listen. A second listener of the address ":0" is called ":0#2" here, and the listener of
// ListenPinned is called ":0#pinned".
func (c *Candidate) DialListener(ctx context.Context, network, address string) (net.Conn, error) {
	if c.link == nil {
		return nil, fmt.Errorf("%w: no process was started for this candidate", ErrClosed)
	}
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	ours, theirs, err := connPair(ctx, strings.HasPrefix(network, "unix"))
	if err != nil {
		return nil, fmt.Errorf("upgrade: dial the candidate: %w", err)
	}
	defer theirs.Close()
	id, reply, err := c.expect(ours)
	if err == nil {
		err = c.link.Send(wire.KindDial, wire.DialBody{ID: id, Network: network, Addr: address}, theirs)
	}
	if err == nil {
		select {
		case err = <-reply:
		case <-ctx.Done():
			err = fmt.Errorf("the candidate did not take the connection: %w", context.Cause(ctx))
		}
	}
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("upgrade: dial the candidate: %w", err)
	}
	return ours, nil
}

// expect registers a call of Dial under a new id. When the candidate answers, dialed sends the result on the channel reply.
func (c *Candidate) expect(conn net.Conn) (id int, reply chan error, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return 0, nil, fmt.Errorf("%w: Smoke or Bake has returned", ErrClosed)
	}
	if c.asked == nil {
		c.asked = map[int]chan error{}
	}
	c.last++
	reply = make(chan error, 1)
	c.asked[c.last] = reply
	c.private = append(c.private, conn)
	return c.last, reply, nil
}

// dialed handles the message dialed, the candidate's answer to a call of Dial.
func (c *Candidate) dialed(f wire.Frame) {
	var body wire.DialedBody
	err := f.Decode(&body)
	if body.Error != "" {
		err = errors.New(body.Error)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if reply, ok := c.asked[body.ID]; ok {
		delete(c.asked, body.ID)
		reply <- err
	}
}

// hangUp closes the connections that a judge has left open. If last is true, no judge will be called any more, and Dial fails
// from now on.
func (c *Candidate) hangUp(last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = c.over || last
	for _, conn := range c.private {
		conn.Close()
	}
	c.private, c.asked = nil, nil
}

// connPair makes a connection. It returns one end for this process, and the descriptor of the other end for the candidate.
func connPair(ctx context.Context, unix bool) (net.Conn, *os.File, error) {
	if unix {
		return sys.UnixPair()
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		ln, err = new(net.ListenConfig).Listen(ctx, "tcp", "[::1]:0")
	}
	if err != nil {
		return nil, nil, err
	}
	defer ln.Close()
	ours, err := new(net.Dialer).DialContext(ctx, "tcp", ln.Addr().String())
	if err != nil {
		return nil, nil, err
	}
	theirs, err := acceptFrom(ctx, ln, ours.LocalAddr())
	if err != nil {
		ours.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}

// acceptFrom accepts the connection from the given address. It closes all others, because any process of the machine can
// connect.
func acceptFrom(ctx context.Context, ln net.Listener, from net.Addr) (*os.File, error) {
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	for {
		c, err := ln.Accept()
		if err != nil {
			return nil, err
		}
		if c.RemoteAddr().String() == from.String() {
			defer c.Close()
			return sys.ConnFile(c)
		}
		c.Close()
	}
}

// SetWeight gives the candidate a share of the connections, from 0 to 1. While Bake runs, SetWeight can be called at any time,
// with a higher or a lower weight. This process accepts the new connections, and passes the candidate's share on. At weight 1
// the candidate accepts by itself, and this process is a warm standby with open sockets. There is one exception: if the
// candidate has opened an additional listener on a port of an inherited listener, this process also accepts at weight 1, and
// passes all connections on.
//
// By default this process counts the connections, and the share is exact; chance decides which of them the candidate gets (see
// [Assigned]). With Options.Sticky the address of the client decides which process serves a connection. With Options.Split the
// function in this option decides.
//
// Idle connections move too, if the server offers them ([Upgrader.Rebalance]). When the weight rises, this process passes idle
// connections to the candidate, up to the same share. When the weight falls, the candidate sends a part of its idle connections
// back, and after an abort all of them. If the candidate dies, this process serves the passed connections that the candidate
// has not read from.
//
// The error is ErrNotSupported on other platforms than Linux, ErrNotReady if the old or the new process needs an exclusive
// resource to serve, and ErrClosed if Bake does not run.
func (c *Candidate) SetWeight(w float64) error {
	if math.IsNaN(w) || w < 0 || w > 1 {
		return fmt.Errorf("upgrade: a weight of %v: want a number from 0 to 1", w)
	}
	if c.division == nil {
		return ErrClosed
	}
	return c.division.setWeight(w)
}

// Weight returns the candidate's share of the connections, as SetWeight has set it.
func (c *Candidate) Weight() float64 {
	if c.division == nil {
		return 0
	}
	return c.division.weight()
}

// Subscribe makes this process call fn with each message that the candidate publishes under the name while Bake runs. fn must
// not block. If fn returns an error, the upgrade is taken back.
func (c *Candidate) Subscribe(name string, fn func([]byte) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hears == nil {
		c.hears = map[string]func([]byte) error{}
	}
	c.hears[name] = fn
}

// heardMessage calls the subscriber of a message, if there is one.
func (c *Candidate) heardMessage(f wire.Frame) error {
	var m wire.MessageBody
	if err := f.Decode(&m); err != nil {
		return err
	}
	c.mu.Lock()
	fn := c.hears[m.Name]
	c.mu.Unlock()
	if fn == nil {
		return nil
	}
	if err := guard.Call(func() error { return fn(m.Data) }); err != nil {
		return fmt.Errorf("subscriber of %q: %w", m.Name, err)
	}
	return nil
}
