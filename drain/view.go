package drain

import (
	"net/http"
	"sync"
)

// A view has what an Entry shows of a connection.
type view struct {
	reported     http.ConnState // the last state that net/http has reported; StateHijacked if another server serves
	since        moment         // when reported changed
	method, path string         // the method and the path of the last request
	action       string         // the last step that was taken against the connection after Grace had run out
	events       *eventStream   // the answer to a request of HTTP/1, if it is an event stream
	running      *request       // the list of requests of HTTP/2 whose handlers run, the youngest first
}

// A request is a request of HTTP/2 whose handler runs. The requests of a connection form a linked list. HTTP/1 has at most one
// request at a time, and the view itself has all about this request.
type request struct {
	method, path string
	since        moment
	events       *eventStream
	prev, next   *request
}

// requests is a pool.
var requests = sync.Pool{New: func() any { return new(request) }}

// newRequest returns a request of HTTP/2 that begins now. It returns nil for a request of HTTP/1.
func newRequest(r *http.Request) *request {
	if r.ProtoMajor <= 1 {
		return nil
	}
	q := requests.Get().(*request)
	q.method, q.path, q.since = r.Method, r.URL.Path, instant()
	return q
}

// free gives a request back to the pool after it was removed from its view.
func (q *request) free() {
	*q = request{}
	requests.Put(q)
}

// report notes a state that net/http reports, and returns true if the state has changed.
func (v *view) report(state http.ConnState) bool {
	if v.reported == state {
		return false
	}
	v.reported, v.since = state, instant()
	return true
}

// add notes a request, and adds it to the list. q is nil for a request of HTTP/1. Keeping method and path costs no allocation: both
// share the memory of the request line.
func (v *view) add(q *request, method, path string) {
	v.method, v.path = method, path
	if q == nil {
		return
	}
	if q.next = v.running; q.next != nil {
		q.next.prev = q
	}
	v.running = q
}

// answer notes that the answer to a request is the event stream e. After the end of the stream, e is nil. q is nil for a request
// of HTTP/1.
func (v *view) answer(q *request, e *eventStream) {
	if q == nil {
		v.events = e
	} else {
		q.events = e
	}
}

// remove removes a request from the list.
func (v *view) remove(q *request) {
	if q.prev != nil {
		q.prev.next = q.next
	} else {
		v.running = q.next
	}
	if q.next != nil {
		q.next.prev = q.prev
	}
}

// entries appends a copy of e for each request of HTTP/2. If there is no such request, or if the connection is hijacked, entries
// appends e itself.
func (v *view) entries(all []Entry, e Entry) []Entry {
	e.Since, e.Action = v.since.shown(), v.action
	if e.State == "" {
		e.State = v.reported.String()
	}
	if v.method != "" {
		e.Name = v.method + " " + v.path
	}
	if v.reported == http.StateHijacked {
		return append(all, e)
	}
	if v.events != nil {
		e.Protocol = "sse"
	}
	if v.running == nil {
		return append(all, e)
	}
	for q := v.running; q != nil; q = q.next {
		of := e
		of.Name, of.Since = q.method+" "+q.path, q.since.shown()
		if q.events != nil {
			of.Protocol = "sse"
		}
		all = append(all, of)
	}
	return all
}
