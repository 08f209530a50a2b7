package drain

import (
	"net/http"
	"sync"
	"time"
)

// A request is one that a handler is at work on. Those of a connection are linked; on HTTP/1 it is one at most, and has its
// place in the connection.
type request struct {
	method, path string
	since        time.Time
	events       *eventStream
	prev, next   *request
}

// requests are for streams of HTTP/2.
var requests = sync.Pool{New: func() any { return new(request) }}

// begin notes a request. The two strings share the memory of the request line.
func (c *conn) begin(r *http.Request) *request {
	q := &c.only
	since := time.Time{}
	if r.ProtoMajor > 1 {
		q = requests.Get().(*request)
		since = time.Now()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.ProtoMajor <= 1 {
		since = c.since
	}
	q.method, q.path, q.since = r.Method, r.URL.Path, since
	if q.next = c.running; q.next != nil {
		q.next.prev = q
	}
	c.running = q
	c.method, c.path = q.method, q.path
	return q
}

// end strikes a request off.
func (c *conn) end(q *request) {
	c.mu.Lock()
	if q.prev != nil {
		q.prev.next = q.next
	} else {
		c.running = q.next
	}
	if q.next != nil {
		q.next.prev = q.prev
	}
	q.prev, q.next, q.events = nil, nil, nil
	c.mu.Unlock()
	if q != &c.only {
		q.method, q.path = "", ""
		requests.Put(q)
	}
}
