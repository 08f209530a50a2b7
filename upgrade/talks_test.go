//go:build linux

package upgrade_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/midair-go/midair/drain"
	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
)

// talks is a program whose connections have a state: raw ones and WebSockets. A client sends numbers, and each is answered
// with the sum of all so far and the process that has it. The connections change process by MoveWith.
type talks struct {
	up  *upgrade.Upgrader
	mu  sync.Mutex
	all map[*talk]struct{}
}

// talk is one of the connections.
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

func talksMain() error {
	set, dir, err := readSettings()
	if err != nil {
		return err
	}
	up, err := upgrade.New(options(set, dir))
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
	t := &talks{up: up, all: map[*talk]struct{}{}}
	srv := drain.NewServer(&http.Server{Handler: http.HandlerFunc(t.serveWebSocket)}, drain.Options{
		Grace: grace, Move: up.Move, Offers: up.Offers(), KeepWebSockets: true,
	})
	s := &service{up: up, set: set, dir: dir, value: &value{}}
	adm := drain.NewServer(&http.Server{Handler: s.admin()}, drain.Options{Grace: grace})
	return up.Run(context.Background(), func(ctx context.Context) error {
		ended := make(chan error, 2)
		go func() { ended <- srv.ServeTCP(ctx, raw, t.serveRaw) }()
		go func() { ended <- adm.Serve(ctx, admin) }()
		go t.offer(drain.FromContext(srv.Context(ctx)))
		return errors.Join(srv.Serve(ctx, web), <-ended, <-ended)
	})
}

// offer interrupts every connection when it might move. What comes after the last time sees itself that the drain has begun.
func (t *talks) offer(notice *drain.Notice) {
	offers := t.up.Offers()
	for over := false; !over; {
		select {
		case <-offers:
		case <-notice.Begun():
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
	if t.up.Carries(nc) {
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
	if t.up.Carries(nc) {
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
	notice := drain.FromContext(ctx)
	b := make([]byte, 100)
	for {
		for n, size := c.words.cut(c.read); size > 0; n, size = c.words.cut(c.read) {
			c.sum += n
			c.read = c.read[size:]
			if _, err := c.Write(c.words.sum(c.sum)); err != nil {
				return
			}
		}
		if c.offered.Swap(false) || isOver(notice.Begun()) {
			if t.up.MoveWith(c.Conn, append(c.words.state(c.sum), c.read...)) {
				return
			}
			again := time.Time{}
			if isOver(notice.Begun()) { // the other process may be busy with those of others
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

// speaker is a client of one connection, which is its only one.
type speaker struct {
	net.Conn
	web        bool
	rand       *rand.Rand
	sum        int
	asked, pid int
	moves      int
}

func startTalks(t *testing.T, change func(*settings)) *running {
	t.Helper()
	return startServiceBy(t, change, func(r *running) *testutil.Proc {
		return testutil.Start(t, "talks", testutil.Cfg{Env: []string{dirEnv + "=" + r.dir}})
	})
}

// speaker is the nth client. Those with an odd number have a WebSocket.
func (r *running) speaker(n int) (*speaker, error) {
	addr, webAddr, _ := strings.Cut(r.addr, " ")
	web := n%2 == 1
	if web {
		addr = webAddr
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	s := &speaker{Conn: c, web: web, rand: rand.New(rand.NewPCG(uint64(n), 2))}
	if web {
		c.SetDeadline(time.Now().Add(patience))
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
		for head := ""; !strings.HasSuffix(head, "\r\n\r\n"); {
			var b [1]byte
			if _, err := c.Read(b[:]); err != nil {
				return nil, err
			}
			head += string(b[:])
		}
	}
	return s, nil
}

// speakers are n clients that have said something.
func (r *running) speakers(n int) (all []*speaker) {
	r.t.Helper()
	for i := range n {
		s, err := r.speaker(i)
		if err == nil {
			r.t.Cleanup(func() { s.Close() })
			err = s.say()
		}
		if err != nil {
			r.t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

// say sends some numbers in pieces and hears the sums.
func (s *speaker) say() error {
	s.SetDeadline(time.Now().Add(patience))
	var numbers []int
	var out []byte
	for range 1 + s.rand.IntN(3) {
		n := s.rand.IntN(10_000)
		numbers = append(numbers, n)
		if text := strconv.Itoa(n); s.web {
			out = append(out, 0x81, 0x80|byte(len(text)), 1, 2, 3, 4)
			for i := range text {
				out = append(out, text[i]^byte(1+i%4))
			}
		} else {
			out = append(out, text+"\n"...)
		}
	}
	for len(out) > 0 {
		cut := 1 + s.rand.IntN(len(out))
		if _, err := s.Write(out[:cut]); err != nil {
			return err
		}
		out = out[cut:]
		<-time.After(time.Duration(s.rand.IntN(3)) * time.Millisecond)
	}
	for _, n := range numbers {
		s.sum += n
		s.asked++
		text, err := s.hear()
		if err != nil {
			return fmt.Errorf("after %d numbers: %w", s.asked, err)
		}
		var sum, pid int
		if _, err := fmt.Sscan(text, &sum, &pid); err != nil || sum != s.sum {
			return fmt.Errorf("answer %d is %q, want the sum %d", s.asked, text, s.sum)
		}
		if pid != s.pid {
			s.pid = pid
			s.moves++
		}
	}
	return nil
}

func (s *speaker) hear() (text string, err error) {
	var b [1]byte
	if s.web {
		var head [2]byte
		if _, err := s.Read(head[:1]); err != nil {
			return "", err
		}
		if _, err := s.Read(head[1:]); err != nil || head[0] != 0x81 {
			return "", fmt.Errorf("a frame %x: %w", head, err)
		}
		for range head[1] {
			if _, err := s.Read(b[:]); err != nil {
				return "", err
			}
			text += string(b[:])
		}
		return text, nil
	}
	for b[0] != '\n' {
		if _, err := s.Read(b[:]); err != nil {
			return "", err
		}
		text += string(b[:])
	}
	return text, nil
}
