//go:build linux

package testservice

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/midair-go/midair/upgrade"
)

// talks is a program whose connections have a state: raw connections and WebSockets. A client sends numbers, and each
// number is answered with the sum so far and the pid. The connections change process by MoveWith.
type talks struct {
	parts Parts
	up    *upgrade.Upgrader
	mu    sync.Mutex
	all   map[*talk]struct{}
}

// talk is a connection.
type talk struct {
	net.Conn
	words   language
	sum     int
	read    []byte // what is not a whole number yet
	offered atomic.Bool
}

// language is how numbers and sums are written.
type language interface {
	cut(b []byte) (n, size int) // size 0: there is no whole number
	sum(sum int) []byte
	state(sum int) []byte // what the next process reads first
}

func talksMain(parts Parts) error {
	set, dir, err := readSettings()
	if err = errors.Join(err, Validate(set)); err != nil {
		return err
	}
	up, err := upgrade.New(options(set, dir, new(trouble)))
	if err != nil {
		return err
	}
	defer up.Close()
	raw, err1 := up.Listen("tcp", "127.0.0.1:0")
	web, err2 := up.Listen("tcp", "127.0.0.1:0")
	admin, err3 := up.ListenPinned("unix", filepath.Join(dir, "admin.sock"))
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	if up.Status().Generation == 1 {
		if err := os.WriteFile(filepath.Join(dir, "addr"), []byte(raw.Addr().String()+" "+web.Addr().String()), 0o600); err != nil {
			return err
		}
	}
	t := &talks{parts: parts, up: up, all: map[*talk]struct{}{}}
	srv := parts.NewServer(&http.Server{Handler: http.HandlerFunc(t.serveWebSocket)}, ServerOptions{
		Grace: grace, Move: up.Move, Rebalance: up.Rebalance(), KeepWebSockets: true,
	})
	s := &service{parts: parts, up: up, set: set, dir: dir}
	adm := parts.NewServer(&http.Server{Handler: s.admin()}, ServerOptions{Grace: grace})
	return up.Run(context.Background(), func(ctx context.Context) error {
		ended := make(chan error, 2)
		go func() { ended <- srv.ServeTCP(ctx, raw, t.serveRaw) }() // both end with ctx
		go func() { ended <- adm.Serve(ctx, admin) }()
		go t.offer(parts.Draining(srv.Context(ctx))) // ends with ctx
		return errors.Join(srv.Serve(ctx, web), <-ended, <-ended)
	})
}

// offer interrupts every connection at the moments when connections can move. A connection that comes after the last
// moment sees the drain for itself.
func (t *talks) offer(draining <-chan struct{}) {
	offers := t.up.Rebalance()
	for over := false; !over; {
		select {
		case <-offers:
		case <-draining:
			over = true
		}
		t.mu.Lock()
		for c := range t.all {
			c.offered.Store(true)
			c.SetReadDeadline(time.Unix(1, 0))
		}
		t.mu.Unlock()
	}
}

func (t *talks) serveRaw(ctx context.Context, nc net.Conn) {
	c := &talk{Conn: nc, words: lines{}}
	if t.up.HasCarriedBytes(nc) {
		var state [8]byte
		if _, err := nc.Read(state[:]); err != nil {
			return
		}
		c.sum = int(binary.BigEndian.Uint64(state[:]))
	}
	t.run(ctx, c)
}

func (t *talks) serveWebSocket(w http.ResponseWriter, r *http.Request) {
	nc, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer nc.Close()
	nc.SetDeadline(time.Time{})
	c := &talk{Conn: nc, words: frames{}}
	if t.up.HasCarriedBytes(nc) {
		c.sum, _ = strconv.Atoi(r.Header.Get("Sum"))
	} else {
		fmt.Fprintf(nc, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n")
	}
	c.read, _ = rw.Reader.Peek(rw.Reader.Buffered())
	t.run(r.Context(), c)
}

// run answers until the client goes, or the connection has moved.
func (t *talks) run(ctx context.Context, c *talk) {
	t.mu.Lock()
	t.all[c] = struct{}{}
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		delete(t.all, c)
		t.mu.Unlock()
	}()
	draining := t.parts.Draining(ctx)
	b := make([]byte, 100)
	for {
		for n, size := c.words.cut(c.read); size > 0; n, size = c.words.cut(c.read) {
			c.sum += n
			c.read = c.read[size:]
			if _, err := c.Write(c.words.sum(c.sum)); err != nil {
				return
			}
		}
		if c.offered.Swap(false) || isOver(draining) {
			if t.up.MoveWith(c.Conn, append(c.words.state(c.sum), c.read...)) {
				return
			}
			again := time.Time{}
			if isOver(draining) { // the other process may be busy with those of others
				again = time.Now().Add(20 * time.Millisecond)
			}
			c.SetReadDeadline(again)
			if c.offered.Load() { // meanwhile
				continue
			}
		}
		n, err := c.Conn.Read(b)
		c.read = append(c.read, b[:n]...)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
	}
}

// lines is a number a line.
type lines struct{}

func (lines) cut(b []byte) (n, size int) {
	line, _, ok := bytes.Cut(b, []byte("\n"))
	if !ok {
		return 0, 0
	}
	n, _ = strconv.Atoi(string(line))
	return n, len(line) + 1
}

func (lines) sum(sum int) []byte   { return fmt.Appendf(nil, "%d %d\n", sum, os.Getpid()) }
func (lines) state(sum int) []byte { return binary.BigEndian.AppendUint64(nil, uint64(sum)) }

// frames is a number a WebSocket message.
type frames struct{}

func (frames) cut(b []byte) (n, size int) {
	if len(b) < 6 || len(b) < 6+int(b[1]&0x7f) {
		return 0, 0
	}
	text := bytes.Clone(b[6 : 6+int(b[1]&0x7f)])
	for i := range text {
		text[i] ^= b[2+i%4]
	}
	n, _ = strconv.Atoi(string(text))
	return n, 6 + len(text)
}

func (frames) sum(sum int) []byte {
	text := fmt.Sprintf("%d %d", sum, os.Getpid())
	return append([]byte{0x81, byte(len(text))}, text...)
}

func (frames) state(sum int) []byte {
	return fmt.Appendf(nil, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSum: %d\r\n\r\n", sum)
}

func isOver(stop <-chan struct{}) bool {
	select {
	case <-stop:
		return true
	default:
		return false
	}
}
