//go:build linux

package scale

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// askers is how many goroutines open connections or send requests at the same time.
const askers = 32

// idle are keep-alive connections of clients. A client whose connection is closed does not open another one. If an answer
// announces the end of its connection, the client closes the connection, which is nil from then on.
type idle []net.Conn

// open opens n connections and sends a request over each. The connections are closed at the end of the test.
func open(t *testing.T, s *service, n int) idle {
	t.Helper()
	conns := make(idle, n)
	errs := each(n, func(i int, _ *bufio.Reader) (err error) {
		conns[i], err = net.DialTimeout("tcp", s.addr, patience)
		return err
	})
	t.Cleanup(conns.close)
	if len(errs) > 0 {
		t.Fatalf("open %d connections: %d failed: %v", n, len(errs), errs[0])
	}
	if got := conns.ask(); got.answers[s.old.pid] != n {
		t.Fatalf("%d requests before the upgrade: %s", n, got)
	}
	return conns
}

// close closes the connections in a way that leaves no port in TIME-WAIT.
func (conns idle) close() {
	for _, c := range conns {
		if c != nil {
			_ = c.(*net.TCPConn).SetLinger(0)
			c.Close()
		}
	}
}

// result is what a request over each connection has met.
type result struct {
	answers map[int]int // by pid
	told    int         // answers that announced the end of the connection
	failed  int
	first   error // of the failures
}

func (r result) String() string {
	s := fmt.Sprintf("%d failed, answers by pid %v, %d connections told to end", r.failed, r.answers, r.told)
	if r.first != nil {
		s += fmt.Sprintf(", first failure: %v", r.first)
	}
	return s
}

// wrong returns how many requests were answered by another process, or not at all.
func (r result) wrong(pid int) int {
	n := r.failed
	for p, count := range r.answers {
		if p != pid {
			n += count
		}
	}
	return n
}

// ask sends a request over each connection, closed or not. The answers must come within patienceFor all connections.
func (conns idle) ask() result {
	r := result{answers: map[int]int{}}
	deadline := time.Now().Add(patienceFor(len(conns)))
	var mu sync.Mutex
	errs := each(len(conns), func(i int, br *bufio.Reader) error {
		if conns[i] == nil {
			return nil
		}
		pid, last, err := ask(conns[i], br, deadline)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		r.answers[pid]++
		if last {
			r.told++
			conns[i].Close()
			conns[i] = nil
		}
		return nil
	})
	if r.failed = len(errs); len(errs) > 0 {
		r.first = errs[0]
	}
	return r
}

// ask sends a request and returns the pid in the answer. last is true if the answer announces the end of the connection.
func ask(c net.Conn, br *bufio.Reader, deadline time.Time) (pid int, last bool, err error) {
	if err := c.SetDeadline(deadline); err != nil {
		return 0, false, err
	}
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: service\r\n\r\n"); err != nil {
		return 0, false, err
	}
	br.Reset(c)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		return 0, false, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0, false, err
	}
	pid, err = strconv.Atoi(resp.Header.Get("X-Pid"))
	return pid, resp.Close, err
}

// closed returns how many connections the server has closed or reset.
func (conns idle) closed(t *testing.T) (n int) {
	t.Helper()
	for _, c := range conns {
		if c == nil {
			continue
		}
		raw, err := c.(syscall.Conn).SyscallConn()
		if err == nil {
			err = raw.Control(func(fd uintptr) {
				_, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
				if !errors.Is(err, unix.EAGAIN) {
					n++
				}
			})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// each calls fn for each number below n, from several goroutines, and returns the errors.
func each(n int, fn func(i int, br *bufio.Reader) error) (errs []error) {
	var running sync.WaitGroup
	var next atomic.Int64
	var mu sync.Mutex
	for range askers {
		running.Go(func() {
			br := bufio.NewReader(nil)
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := fn(i, br); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			}
		})
	}
	running.Wait()
	return errs
}
