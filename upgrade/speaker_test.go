//go:build linux

package upgrade_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// speaker is a client of the program "talks". It has one connection, and sends numbers.
type speaker struct {
	net.Conn
	web        bool
	rand       *rand.Rand
	sum        int
	asked, pid int
	moves      int
}

func startTalks(t *testing.T, change func(*plan.Settings)) *testclient.Service {
	t.Helper()
	return testclient.StartBy(t, change, func(r *testclient.Service) *testutil.Proc {
		return testutil.Start(t, "talks", testutil.Cfg{Env: []string{r.Env()}})
	})
}

// newSpeaker returns client number n. Clients with an odd number use a WebSocket.
func newSpeaker(r *testclient.Service, n int) (*speaker, error) {
	addr, webAddr, _ := strings.Cut(r.Addr, " ")
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

// speakers returns n clients that have already sent numbers.
func speakers(t *testing.T, r *testclient.Service, n int) (all []*speaker) {
	t.Helper()
	for i := range n {
		s, err := newSpeaker(r, i)
		if err == nil {
			t.Cleanup(func() { s.Close() })
			err = s.say()
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

// say sends some numbers in pieces and reads the sums.
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
		text, err := s.read()
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

func (s *speaker) read() (text string, err error) {
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
