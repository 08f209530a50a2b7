//go:build linux

package cost

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var idle = flag.Int("midair.idle", 2000, "how many idle connections there are; with -midair.long 20,000 at least")

// maxMemory is how much memory an idle connection may cost, as a multiple of its cost with net/http.
const maxMemory = 1.15

// An idle connection costs at most 15 % more memory than with net/http, and not a single goroutine more.
func TestIdleConnectionsCostLittleMemory(t *testing.T) {
	n := *idle
	if *long {
		n = max(n, 20000)
	}
	n = raiseDescriptors(t, n)
	var table strings.Builder
	fmt.Fprintf(&table, "%d idle connections, after one request each\n", n)
	fmt.Fprintf(&table, "%-14s %14s %7s %14s %7s %22s\n", "", "heap+stack/conn", "ratio", "resident/conn", "ratio", "goroutines/conn")
	var with [][3]float64
	for i, role := range roles {
		with = append(with, perConn(t, role, n))
		live, resident := with[i][0]/with[0][0], with[i][1]/with[0][1]
		fmt.Fprintf(&table, "%-14s %15.0f %7.3f %14.0f %7.3f %22.4f\n", role, with[i][0], live, with[i][1], resident, with[i][2])
		if live > maxMemory || resident > maxMemory {
			t.Errorf("%s: an idle connection costs %.3f of the memory of net/http on the heap and stacks, %.3f in all, want at most %.2f",
				role, live, resident, maxMemory)
		}
		if more := (with[i][2] - with[0][2]) * float64(n); more > 0.5 {
			t.Errorf("%s: %.0f goroutines more than with net/http", role, more)
		}
	}
	t.Log(table.String())
}

// perConn returns how many bytes of heap and stack, how many resident bytes, and how many goroutines an idle connection costs.
func perConn(t *testing.T, role string, n int) (of [3]float64) {
	t.Helper()
	s := start(t, role)
	before := s.usage("collect")
	end := s.connect(n)
	after := s.usage("collect")
	end()
	per := func(before, after uint64) float64 { return float64(after-before) / float64(n) }
	return [3]float64{
		per(before.Live, after.Live), per(before.Resident, after.Resident),
		float64(after.Goroutines-before.Goroutines) / float64(n),
	}
}

// connect opens n connections, and makes a request on each. The function end closes the connections.
func (s *service) connect(n int) (end func()) {
	s.t.Helper()
	conns := make([]net.Conn, n)
	errs := make([]error, n)
	const dialers = 16
	var wg sync.WaitGroup
	for first := range dialers {
		wg.Go(func() { // ends when its share of the connections is open
			for i := first; i < n; i += dialers {
				conns[i], errs[i] = ask(s.addr)
			}
		})
	}
	wg.Wait()
	end = func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		end()
		s.t.Fatalf("%s: %v", s.role, err)
	}
	return end
}

// ask opens a connection and makes a request.
func ask(addr string) (net.Conn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(patience))
	_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: cost\r\n\r\n")
	var resp *http.Response
	if err == nil {
		resp, err = http.ReadResponse(bufio.NewReaderSize(c, 512), nil)
	}
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
	}
	return c, err
}

// spare is how many descriptors a process needs beside the descriptors of its connections.
const spare = 200

// raiseDescriptors raises the limit of descriptors for this process, and for the processes that it starts, so that each can have
// n connections. It returns how many connections each can have: less than n if the limit cannot be raised so far.
func raiseDescriptors(t *testing.T, n int) int {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	need := uint64(n + spare)
	if limit.Cur >= need {
		return n
	}
	raised := syscall.Rlimit{Cur: need, Max: max(need, limit.Max)}
	err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised)
	t.Cleanup(func() { _ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) })
	if err == nil {
		return n
	}
	most := int(limit.Max) - spare
	fmt.Fprintf(os.Stderr, "%s NOT RUN with %d connections but with %d: a limit of %d descriptors is needed, and %d is the highest: %v\n",
		t.Name(), n, most, need, limit.Max, err)
	raised.Cur, raised.Max = limit.Max, limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised); err != nil {
		t.Fatal(err)
	}
	return most
}
