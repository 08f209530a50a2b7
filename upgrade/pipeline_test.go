//go:build linux

package upgrade_test

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

var moves = flag.Int("midair.moves", 1000, "how many moves of a connection TestNoByteIsLostByMoves waits for")

// Connections move between two processes again and again, while their clients pipeline requests and split them at any byte. No
// byte is lost or doubled, whatever deadlines and protocols the server has.
func TestNoByteIsLostByMoves(t *testing.T) {
	testutil.AlsoWithoutRace()
	for name, change := range map[string]func(*plan.Settings){
		"plain": func(*plan.Settings) {},
		"large": func(*plan.Settings) {}, // headers and bodies that are larger than net/http's buffer
		"timeouts": func(s *plan.Settings) {
			s.ReadTimeout, s.HeaderTimeout, s.IdleTimeout = time.Minute, time.Minute, time.Minute
		},
		"h2c": func(s *plan.Settings) { s.H2C = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, func(s *plan.Settings) { change(s); s.Bake, s.Soak = plan.BakeToggles, 0 })
			done := r.BeginUpgrade()
			r.WaitPhase("bake")
			var moved, asked atomic.Int64
			var running sync.WaitGroup
			stop := make(chan struct{})
			for seed := range 8 {
				running.Go(func() {
					c := newPipeliner(t, r.Addr, uint64(seed))
					defer c.c.Close()
					if name == "large" {
						c.pad, c.body = 5000, 9000
					}
					for !isOver(stop) {
						if !c.round(&moved, &asked) {
							return
						}
					}
				})
			}
			deadline := time.Now().Add(time.Minute)
			for moved.Load() < int64(*moves) && time.Now().Before(deadline) && !t.Failed() {
				<-time.After(10 * time.Millisecond)
			}
			close(stop)
			running.Wait()
			t.Logf("%d requests, %d moves", asked.Load(), moved.Load())
			if moved.Load() < int64(*moves) {
				t.Errorf("%d moves in a minute, want %d", moved.Load(), *moves)
			}
			r.Ask("POST", "/abort")
			if a := <-done; !a.Is(upgrade.ErrAborted) {
				t.Errorf("upgrade: %+v", a)
			}
		})
	}
}

// pipeliner is a client with one connection.
type pipeliner struct {
	t    *testing.T
	c    net.Conn
	r    *bufio.Reader
	rand *rand.Rand
	n    int
	by   string

	pad, body int // the greatest lengths of a header and a body
}

func newPipeliner(t *testing.T, addr string, seed uint64) *pipeliner {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return nil
	}
	return &pipeliner{t: t, c: c, r: bufio.NewReader(c), rand: rand.New(rand.NewPCG(seed, 1)), pad: 1, body: 40}
}

// round sends up to four requests in pieces, and reads their answers.
func (p *pipeliner) round(moved, asked *atomic.Int64) bool {
	var b strings.Builder
	first := p.n
	var bodies []string
	for range 1 + p.rand.IntN(4) {
		pad, body := strings.Repeat("p", p.rand.IntN(p.pad)), strings.Repeat("x", p.rand.IntN(p.body))
		fmt.Fprintf(&b, "POST /echo?n=%d HTTP/1.1\r\nHost: x\r\nPad: %s\r\nContent-Length: %d\r\n\r\n%s", p.n, pad, len(body), body)
		bodies = append(bodies, body)
		p.n++
	}
	_ = p.c.SetDeadline(time.Now().Add(patience))
	for all := b.String(); all != ""; {
		cut := 1 + p.rand.IntN(len(all))
		if _, err := io.WriteString(p.c, all[:cut]); err != nil {
			p.t.Errorf("write after %d requests, to %s: %v", p.n, p.by, err)
			return false
		}
		if all = all[cut:]; p.rand.IntN(3) == 0 {
			<-time.After(time.Duration(p.rand.IntN(3)) * time.Millisecond)
		}
	}
	for n := first; n < p.n; n++ {
		resp, err := http.ReadResponse(p.r, nil)
		if err != nil {
			p.t.Errorf("answer %d by %s: %v", n, p.by, err)
			return false
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if want := fmt.Sprintf("%d %s", n, bodies[n-first]); err != nil || string(got) != want {
			p.t.Errorf("answer %d is %q, want %q: %v", n, got, want, err)
			return false
		}
		asked.Add(1)
		if by := resp.Header.Get("X-Version"); by != p.by {
			moved.Add(1)
			p.by = by
		}
	}
	<-time.After(time.Duration(p.rand.IntN(4)) * time.Millisecond)
	return true
}
