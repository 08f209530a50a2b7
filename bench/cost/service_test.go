//go:build linux

package cost

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/drain"
	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
)

// patience is how long a single step of a measurement may take.
const patience = 30 * time.Second

// roles are the processes that are compared. The first is what the others are compared with.
var roles = []string{"net/http", "drain", "upgrade+drain"}

func plainMain() error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	hs, err := newService(ln.Addr())
	if err != nil {
		return err
	}
	return hs.Serve(ln)
}

func drainMain() error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	hs, err := newService(ln.Addr())
	if err != nil {
		return err
	}
	return drain.NewServer(hs, drain.Options{}).Serve(context.Background(), ln)
}

func upgradeMain() error {
	up, err := upgrade.New(upgrade.Options{})
	if err != nil {
		return err
	}
	defer up.Close()
	ln, err := up.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	hs, err := newService(ln.Addr())
	if err != nil {
		return err
	}
	srv := drain.NewServer(hs, drain.Options{Move: up.Move, Rebalance: up.Rebalance(), Hurry: up.Hurry()})
	return up.Run(context.Background(), func(ctx context.Context) error { return srv.Serve(ctx, ln) })
}

// newService returns the server that is measured, for HTTP/1.1 and HTTP/2 without TLS. It prints the address of the server, and
// the address of a second server, which answers with the usage of the process.
func newService(addr net.Addr) (*http.Server, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	var requests atomic.Int64
	control := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(newUsage(requests.Load(), r.URL.Path == "/collect"))
	})}
	control.SetKeepAlivesEnabled(false)
	go control.Serve(ln) // ends with the process
	fmt.Printf("serves %s\nreports %s\n", addr, ln.Addr())
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	return &http.Server{Protocols: p, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		_, _ = io.WriteString(w, "hello")
	})}, nil
}

// A usage is what a process has used.
type usage struct {
	Live       uint64        // bytes of objects on the heap, and of stacks
	Resident   uint64        // bytes of the process that are in memory
	Goroutines int           // how many there are
	Allocs     uint64        // how many allocations there were
	CPU        time.Duration // of all threads, in the process and in the kernel
	Requests   int64         // how many requests were answered
}

// newUsage returns the usage of this process. If collect is true, it removes garbage first.
func newUsage(requests int64, collect bool) usage {
	if collect {
		runtime.GC() // a collection halves the stacks that are mostly empty, so there is more than one
		runtime.GC()
		debug.FreeOSMemory()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{
		Live: m.HeapAlloc + m.StackInuse, Resident: resident(), Goroutines: runtime.NumGoroutine(), Allocs: m.Mallocs,
		CPU: cpuTime(), Requests: requests,
	}
}

// cpuTime returns how much time all threads of this process have run, in the process and in the kernel.
func cpuTime() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r) // never fails for this process
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func resident() uint64 {
	var size, pages uint64
	b, _ := os.ReadFile("/proc/self/statm")
	_, _ = fmt.Sscan(string(b), &size, &pages)
	return pages * uint64(os.Getpagesize())
}

// A service is a started process.
type service struct {
	t             testing.TB
	role          string
	addr, control string
}

func start(t testing.TB, role string) *service {
	t.Helper()
	p := testutil.Start(t, role, testutil.Cfg{})
	s := &service{t, role, p.WaitOutput(patience, "serves "), p.WaitOutput(patience, "reports ")}
	t.Cleanup(p.Kill)
	return s
}

func startAll(t testing.TB) (all []*service) {
	t.Helper()
	for _, role := range roles {
		all = append(all, start(t, role))
	}
	return all
}

// usage returns the usage of the process. With "collect" as path the process removes garbage first.
func (s *service) usage(path string) (u usage) {
	s.t.Helper()
	resp, err := http.Get("http://" + s.control + "/" + path)
	if err == nil {
		defer resp.Body.Close()
		err = json.NewDecoder(resp.Body).Decode(&u)
	}
	if err != nil {
		s.t.Fatalf("usage of %s: %v", s.role, err)
	}
	return u
}
