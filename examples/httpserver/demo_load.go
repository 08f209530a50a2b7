package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// load is a number of clients that send a request after each answer, under a new id, and never repeat a request: every id ends as
// answered by a version, or as lost.
type load struct {
	addr    string
	clients []*client
	ending  chan struct{}
	running sync.WaitGroup

	mu     sync.Mutex
	phases []*phase // the last one is the present
	losses []string // the first few
}

// phase has the counts of the clients for a part of the demo. A request belongs to the phase of its sending.
type phase struct {
	name     string
	begin    time.Time
	took     time.Duration
	sent     int
	answered map[string]int // by version
	lost     int
	slowest  time.Duration
}

// client is a client of a load.
type client struct {
	wire
	load  *load
	num   int
	fresh bool         // a connection for each request
	last  atomic.Value // string: the version that answered last
}

const (
	requestLimit = 10 * time.Second
	thinkTime    = 4 * time.Millisecond
	mostLosses   = 10
)

// startLoad starts clients: kept keep their connection, and fresh open a new connection for each request.
func startLoad(addr, phase string, kept, fresh int) *load {
	l := &load{addr: addr, ending: make(chan struct{})}
	l.begin(phase)
	for i := range kept + fresh {
		c := &client{wire: wire{addr: addr}, load: l, num: i, fresh: i >= kept}
		c.last.Store("")
		l.clients = append(l.clients, c)
	}
	for _, c := range l.clients {
		l.running.Go(c.run) // ends with ending
	}
	return l
}

// begin starts the next phase.
func (l *load) begin(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if n := len(l.phases); n > 0 {
		l.phases[n-1].took = now.Sub(l.phases[n-1].begin)
	}
	l.phases = append(l.phases, &phase{name: name, begin: now, answered: map[string]int{}})
}

// rename tells how the present phase went.
func (l *load) rename(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.phases[len(l.phases)-1].name = name
}

// stop lets every client finish its request, and returns all phases.
func (l *load) stop() []*phase {
	close(l.ending)
	l.running.Wait()
	last := l.phases[len(l.phases)-1]
	last.took = time.Since(last.begin)
	return l.phases
}

// all tells whether every client had its last answer from the version.
func (l *load) all(version string) bool {
	for _, c := range l.clients {
		if c.last.Load() != version {
			return false
		}
	}
	return true
}

// sent counts a request into the present phase.
func (l *load) sent() *phase {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.phases[len(l.phases)-1]
	p.sent++
	return p
}

func (l *load) ended(p *phase, id, version string, took time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p.slowest = max(p.slowest, took)
	if err == nil {
		p.answered[version]++
		return
	}
	p.lost++
	if len(l.losses) < mostLosses {
		l.losses = append(l.losses, fmt.Sprintf("%s, sent in %q: %v", id, p.name, err))
	}
}

func (c *client) run() {
	defer c.hangUp()
	think := time.NewTicker(thinkTime)
	defer think.Stop()
	for n := 0; ; n++ {
		select {
		case <-c.load.ending:
			return
		case <-think.C:
		}
		id := fmt.Sprintf("request-%d-%d", c.num, n)
		p, begin := c.load.sent(), time.Now()
		version, err := c.ask(id)
		c.load.ended(p, id, version, time.Since(begin), err)
		if err != nil {
			c.hangUp()
			continue
		}
		c.last.Store(version)
	}
}

// ask sends a request, and returns an error if the answer is neither the id of the request nor the deliberate error of v6.
func (c *client) ask(id string) (version string, err error) {
	header := "X-Request-Id: " + id
	if c.fresh {
		header += "\r\nConnection: close"
	}
	resp, body, err := c.exchange(fmt.Sprintf("POST /echo HTTP/1.1\r\nHost: %s\r\n%s\r\nContent-Length: %d\r\n\r\n%s", c.addr, header, len(id), id))
	if err != nil {
		return "", err
	}
	version = resp.Header.Get("X-Version")
	switch {
	case byBadRelease(resp):
	case resp.StatusCode != http.StatusOK:
		return version, fmt.Errorf("%s from %s", resp.Status, cmp.Or(version, "nobody"))
	case body != id:
		return version, fmt.Errorf("%s answered %q", version, body)
	}
	if c.fresh {
		c.hangUp()
	}
	return version, nil
}

// byBadRelease reports whether an answer is the deliberate error of v6.
func byBadRelease(resp *http.Response) bool {
	return resp.StatusCode == http.StatusInternalServerError && resp.Header.Get("X-Version") == v6.version
}

// wire speaks HTTP/1.1 on a bare connection, and keeps the connection as long as the server does: net/http would try some
// requests again.
type wire struct {
	addr string
	conn net.Conn
	in   *bufio.Reader
}

// exchange sends a request and reads the whole answer.
func (w *wire) exchange(request string) (*http.Response, string, error) {
	if err := w.dial(); err != nil {
		return nil, "", err
	}
	if _, err := io.WriteString(w.conn, request); err != nil {
		return nil, "", err
	}
	resp, err := http.ReadResponse(w.in, nil)
	if err != nil {
		return nil, "", err
	}
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.Close {
		w.hangUp()
	}
	return resp, string(body), err
}

// dial opens a connection if there is none, with a limit for the next request.
func (w *wire) dial() (err error) {
	if w.conn == nil {
		if w.conn, err = net.DialTimeout("tcp", w.addr, requestLimit); err != nil {
			w.conn = nil
			return err
		}
		w.in = bufio.NewReader(w.conn)
	}
	return w.conn.SetDeadline(time.Now().Add(requestLimit))
}

func (w *wire) hangUp() {
	if w.conn != nil {
		w.conn.Close()
		w.conn = nil
	}
}
