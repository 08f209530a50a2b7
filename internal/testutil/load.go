package testutil

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// LoadOptions describes a load. Addr and one of KeepAlive and New are required.
type LoadOptions struct {
	Network   string        // "tcp" (default) or "unix"
	Addr      string        // address or path of the socket
	KeepAlive int           // the number of clients that keep their connection
	New       int           // the number of clients that open a connection for each request
	Method    string        // default "POST"
	Path      string        // the path of requests; default "/work"
	SlowEvery int           // each client sends every n-th request to SlowPath; 0: no request
	SlowPath  string        // default "/slow"
	Rate      float64       // requests per second of all clients, whenever answers come; 0: each client waits for the answer
	Think     time.Duration // the pause of a client between an answer and its next request; not used with Rate
	Timeout   time.Duration // of one request, from its connection to the end of its answer; default 10s
	Body      int           // the size of a request's body, in bytes
	Header    string        // further header lines, each ended by "\r\n"

	// Dial opens a connection. Many goroutines call Dial at the same time. Default: DialContext of a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Load is a running load. Its methods may be called from any goroutine.
type Load struct {
	opts    LoadOptions
	prefix  string
	begin   time.Time
	clients []*client
	who     *roster
	ending  chan struct{}
	end     sync.Once
	running sync.WaitGroup
	report  func() *Report

	total, failed                        atomic.Int64
	dials, announced, idleClosed, strays atomic.Int64
}

// loads numbers the loads of this process.
var loads atomic.Int64

// StartLoad starts the clients of a load. The end of the test calls Stop, if the test has not.
func StartLoad(t testing.TB, opts LoadOptions) *Load {
	t.Helper()
	l, err := NewLoad(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Stop() })
	return l
}

// NewLoad starts the clients of a load without a test: the caller must call Stop.
func NewLoad(opts LoadOptions) (*Load, error) {
	if opts.Addr == "" || opts.KeepAlive < 0 || opts.New < 0 || opts.KeepAlive+opts.New == 0 {
		return nil, fmt.Errorf("testutil: a load needs an address and clients: %+v", opts)
	}
	l := &Load{
		opts:   opts.withDefaults(),
		prefix: fmt.Sprintf("%d.%d", os.Getpid(), loads.Add(1)),
		begin:  time.Now(),
		who:    newRoster(),
		ending: make(chan struct{}),
	}
	l.report = sync.OnceValue(l.makeReport)
	for i := range opts.KeepAlive + opts.New {
		l.clients = append(l.clients, newClient(l, i, i >= opts.KeepAlive))
	}
	for _, c := range l.clients {
		l.running.Go(c.run) // until Stop
	}
	return l, nil
}

func (o LoadOptions) withDefaults() LoadOptions {
	if o.Network == "" {
		o.Network = "tcp"
	}
	if o.Method == "" {
		o.Method = "POST"
	}
	if o.Path == "" {
		o.Path = "/work"
	}
	if o.SlowPath == "" {
		o.SlowPath = "/slow"
	}
	if o.Timeout <= 0 {
		o.Timeout = 10 * time.Second
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{KeepAlive: -1}).DialContext
	}
	return o
}

// Total returns how many requests have ended.
func (l *Load) Total() int { return int(l.total.Load()) }

// Failures returns how many requests have ended with another outcome than OK.
func (l *Load) Failures() int { return int(l.failed.Load()) }

// Seen reports whether a process of the version has answered a request.
func (l *Load) Seen(version string) bool { return l.who.has(version) }

// Stop waits until each client has finished its request, and returns the report of the load. Further calls return the same
// report.
func (l *Load) Stop() *Report {
	l.end.Do(func() { close(l.ending) })
	l.running.Wait()
	return l.report()
}

func (l *Load) makeReport() *Report {
	r := &Report{
		Begin: l.begin, End: time.Now(),
		Counts: map[Outcome]int{}, ByVersion: map[string]int{}, ByPID: map[int]int{},
		Dials: int(l.dials.Load()), Announced: int(l.announced.Load()),
		IdleClosed: int(l.idleClosed.Load()), Stray: int(l.strays.Load()),
		prefix: l.prefix, who: l.who.list,
	}
	for _, c := range l.clients {
		r.logs = append(r.logs, &c.log)
	}
	byWho := make([]int, len(r.who))
	for c, log := range r.logs {
		r.Total += log.len()
		for n, e := range log.all() {
			r.Counts[e.outcome]++
			if e.answered() {
				byWho[e.who]++
			}
			if e.outcome != OK {
				r.Failed = append(r.Failed, r.record(c, n, e))
			}
		}
	}
	r.sum(byWho)
	slices.SortFunc(r.Failed, func(a, b Record) int { return a.End.Compare(b.End) })
	return r
}

// sum fills in the counts of answers by version and by pid. byWho has the number of answers for each entry of r.who.
func (r *Report) sum(byWho []int) {
	for i, n := range byWho {
		if n > 0 {
			r.Answered += n
			r.ByVersion[r.who[i].Version] += n
			r.ByPID[r.who[i].PID] += n
		}
	}
}
