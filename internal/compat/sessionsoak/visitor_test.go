package sessionsoak

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"
)

const (
	// requestLimit is how long a visitor waits for an answer.
	requestLimit = 20 * time.Second
	// answerLimit is how long an answer may take while the store is away: the service waits a second for the store.
	answerLimit = 5 * time.Second
	// think is the pause of a visitor between two requests.
	think = 30 * time.Millisecond
)

// A visitor asks for /count again and again, keeps the cookie, and never repeats a request. It checks each answer.
type visitor struct {
	addr   string
	fresh  bool // each request has a connection of its own
	conn   net.Conn
	in     *bufio.Reader
	cookie string

	mu       sync.Mutex
	counted  int      // answers with a number
	refused  int      // answers with 503: such a request may be counted or not
	extra    int      // refused requests that were counted
	versions []string // who has answered, without repetitions
	wrong    []string
}

// run asks until stop is closed.
func (v *visitor) run(stop <-chan struct{}) {
	defer v.hangUp()
	for {
		v.ask()
		select {
		case <-stop:
			return
		case <-time.After(think):
		}
	}
}

// ask sends one request and notes what came of it.
func (v *visitor) ask() {
	begin := time.Now()
	resp, body, err := v.exchange()
	took := time.Since(begin)
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case err != nil:
		v.hangUp()
		v.wrong = append(v.wrong, fmt.Sprintf("a request is lost: %v", err))
		return
	case resp.StatusCode == http.StatusServiceUnavailable:
		v.refused++
		if took > answerLimit {
			v.wrong = append(v.wrong, fmt.Sprintf("503 after %v", took))
		}
	case resp.StatusCode != http.StatusOK:
		v.wrong = append(v.wrong, fmt.Sprintf("%s: %s", resp.Status, body))
	default:
		v.number(body)
	}
	if version := resp.Header.Get("X-Version"); len(v.versions) == 0 || v.versions[len(v.versions)-1] != version {
		v.versions = append(v.versions, version)
	}
}

// number checks a count: it grows by one with each answer, and further only by requests that were refused.
func (v *visitor) number(body string) {
	n, err := strconv.Atoi(body)
	v.counted++
	extra := n - v.counted
	if err != nil || extra < v.extra || extra > v.refused {
		v.wrong = append(v.wrong, fmt.Sprintf("%q after %d counted and %d refused requests, %d of which counted", body, v.counted, v.refused, v.extra))
		return
	}
	v.extra = extra
}

func (v *visitor) exchange() (*http.Response, string, error) {
	if err := v.connect(); err != nil {
		return nil, "", err
	}
	request := "GET /count HTTP/1.1\r\nHost: " + v.addr + "\r\n"
	if v.cookie != "" {
		request += "Cookie: " + v.cookie + "\r\n"
	}
	if v.fresh {
		request += "Connection: close\r\n"
	}
	if _, err := io.WriteString(v.conn, request+"\r\n"); err != nil {
		return nil, "", err
	}
	resp, err := http.ReadResponse(v.in, nil)
	if err != nil {
		return nil, "", err
	}
	body, err := io.ReadAll(resp.Body)
	if v.fresh || resp.Close {
		v.hangUp()
	}
	for _, c := range resp.Cookies() {
		v.cookie = c.Name + "=" + c.Value
	}
	return resp, string(body), err
}

func (v *visitor) connect() (err error) {
	if v.conn == nil {
		if v.conn, err = net.DialTimeout("tcp", v.addr, requestLimit); err != nil {
			v.conn = nil
			return err
		}
		v.in = bufio.NewReader(v.conn)
	}
	return v.conn.SetDeadline(time.Now().Add(requestLimit))
}

func (v *visitor) hangUp() {
	if v.conn != nil {
		v.conn.Close()
		v.conn = nil
	}
}

// A crowd is a number of visitors, half of which keep their connections.
type crowd struct {
	visitors []*visitor
	end      chan struct{}
	stop     func() // ends the visits and waits for their end
	all      sync.WaitGroup
}

func newCrowd(t *testing.T, n int, addr string) *crowd {
	c := &crowd{end: make(chan struct{})}
	for i := range n {
		v := &visitor{addr: addr, fresh: i%2 == 0}
		c.visitors = append(c.visitors, v)
		c.all.Go(func() { v.run(c.end) })
	}
	c.stop = sync.OnceFunc(func() {
		close(c.end)
		c.all.Wait()
	})
	t.Cleanup(c.stop)
	return c
}

// sum is what all visitors have seen.
func (c *crowd) sum() *visitor {
	s := &visitor{}
	for i, v := range c.visitors {
		v.mu.Lock()
		s.counted += v.counted
		s.refused += v.refused
		s.extra += v.extra
		for _, w := range v.wrong {
			s.wrong = append(s.wrong, fmt.Sprintf("visitor %d: %s", i, w))
		}
		v.mu.Unlock()
	}
	return s
}

// values is what fn says of each visitor.
func (c *crowd) values(fn func(*visitor) int) []int {
	var all []int
	for _, v := range c.visitors {
		v.mu.Lock()
		all = append(all, fn(v))
		v.mu.Unlock()
	}
	return all
}
