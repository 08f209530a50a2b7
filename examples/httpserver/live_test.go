//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// socket opens a WebSocket.
func socket(t testing.TB, addr string) (net.Conn, *bufio.Reader, http.Header) {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(nc, "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	r := bufio.NewReader(nc)
	res, err := http.ReadResponse(r, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols || res.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatalf("%+v, %v", res, err)
	}
	return nc, r, res.Header
}

// say sends a frame with a mask that changes nothing.
func say(w io.Writer, op byte, text string) {
	head := []byte{0x80 | op, 0x80 | 126}
	head = binary.BigEndian.AppendUint16(head, uint16(len(text)))
	w.Write(append(append(head, 0, 0, 0, 0), text...))
}

// hear reads a frame of a server.
func hear(r io.Reader) (op byte, text string, err error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:2]); err != nil {
		return 0, "", err
	}
	n := int(head[1])
	if n == 126 {
		io.ReadFull(r, head[2:])
		n = int(binary.BigEndian.Uint16(head[2:]))
	}
	body := make([]byte, n)
	_, err = io.ReadFull(r, body)
	return head[0] & 0x0f, string(body), err
}

// A WebSocket echoes, says which process it is on, and an upgrade ends it with a close that asks to come back.
func TestWebSocketEndsWithAnUpgrade(t *testing.T) {
	s := startSite(t)
	nc, r, header := socket(t, s.addr)
	if header.Get("X-Version") != "v1" {
		t.Errorf("header %v", header)
	}
	for _, text := range []string{"", "hello", strings.Repeat("long ", 1000)} {
		say(nc, 1, text)
		if op, got, err := hear(r); op != 1 || got != text || err != nil {
			t.Fatalf("%d %.20q, %v", op, got, err)
		}
	}
	say(nc, 9, "ping")
	if op, got, _ := hear(r); op != 10 || got != "ping" {
		t.Errorf("%d %q is no pong", op, got)
	}
	hangup(s)
	op, got, err := hear(r)
	if op != 8 || !strings.HasPrefix(got, "\x03\xf4") || err != nil { // 1012
		t.Fatalf("%d %q, %v", op, got, err)
	}
	say(nc, 8, got[:2])
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("after the close: %v", err)
	}
}

// Event streams go on over upgrades: each ends between two events with a time to come back, and no number is missing for a
// client that comes back.
func TestEventsGoOnOverUpgrades(t *testing.T) {
	s := startSite(t)
	ctx, end := context.WithCancel(t.Context())
	defer end()
	var seen, streams atomic.Int64
	wrong := make(chan string, 1)
	go func() {
		defer close(wrong)
		for ctx.Err() == nil {
			if text := follow(ctx, s.addr, &seen); text != "" {
				wrong <- text
				return
			}
			streams.Add(1)
		}
	}()
	for range 3 {
		before := seen.Load()
		testutil.Until(t, patience, "events come", func() bool { return seen.Load() > before+10 || len(wrong) > 0 })
		hangup(s)
	}
	end()
	if text := <-wrong; text != "" {
		t.Error(text)
	}
	if streams.Load() < 3 {
		t.Errorf("%d streams for 3 upgrades", streams.Load())
	}
}

// follow reads one event stream, and says what is wrong with it.
func follow(ctx context.Context, addr string, seen *atomic.Int64) string {
	req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+addr+"/events?every=5ms", nil)
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Last-Event-ID", fmt.Sprint(seen.Load()))
	res, err := oneShot().Do(req)
	if err != nil {
		return unlessOver(ctx, err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	last := ""
	for lines.Scan() {
		if id, ok := strings.CutPrefix(lines.Text(), "id: "); ok && id != fmt.Sprint(seen.Add(1)) {
			return fmt.Sprintf("event %s, want %d", id, seen.Load())
		}
		if lines.Text() != "" {
			last = lines.Text()
		}
	}
	if lines.Err() != nil || !strings.HasPrefix(last, "retry: ") {
		return unlessOver(ctx, fmt.Errorf("it ended with %q, %v", last, lines.Err()))
	}
	return ""
}

func unlessOver(ctx context.Context, err error) string {
	if ctx.Err() != nil {
		return ""
	}
	return err.Error()
}

// hangup asks for an upgrade, and waits until another process has committed.
func hangup(s *site) {
	s.t.Helper()
	old := s.mainPID()
	s.signal(syscall.SIGHUP)
	testutil.Until(s.t, patience, "another process serves", func() bool { pid := s.mainPID(); return pid != old && pid != 0 })
}
