package drain

import (
	"net/http"
	"sync"
	"time"
)

// A view is what an Entry shows of a connection.
type view struct {
	reported     http.ConnState // by net/http
	since        time.Time      // when reported changed
	method, path string         // of the last request
	action       string         // the step that ended the connection when Grace had run out
	only         request
	running      *request // the requests that are answered, the youngest first
}

// A request is being answered by a handler. The requests of a connection are linked. On HTTP/1 there is at most a
// single request, in the field only, so that a request costs no allocation.
type request struct {
	method, path string
	since        time.Time
	events       *eventStream
	prev, next   *request
}

// requests are for streams of HTTP/2.
var requests = sync.Pool{New: func() any { return new(request) }}

// report notes a state that net/http reports, and reports whether the state is another one than before.
func (v *view) report(state http.ConnState) bool {
	if v.reported == state {
		return false
	}
	v.reported, v.since = state, time.Now()
	return true
}

// add notes a request. The two strings share the memory of the request line.
func (v *view) add(q *request, method, path string, since time.Time) {
	q.method, q.path, q.since = method, path, since
	if q.next = v.running; q.next != nil {
		q.next.prev = q
	}
	v.running = q
	v.method, v.path = method, path
}

// remove strikes a request off.
func (v *view) remove(q *request) {
	if q.prev != nil {
		q.prev.next = q.next
	} else {
		v.running = q.next
	}
	if q.next != nil {
		q.next.prev = q.prev
	}
	q.prev, q.next, q.events = nil, nil, nil
}

// entries appends a copy of e for each request, or e itself if there is no request.
func (v *view) entries(all []Entry, e Entry) []Entry {
	e.Since, e.Action = v.since, v.action
	if e.State == "" {
		e.State = v.reported.String()
	}
	if v.method != "" {
		e.Name = v.method + " " + v.path
	}
	if v.running == nil || v.reported == http.StateHijacked {
		return append(all, e)
	}
	for q := v.running; q != nil; q = q.next {
		of := e
		of.Name, of.Since = q.method+" "+q.path, q.since
		if q.events != nil {
			of.Protocol = "sse"
		}
		all = append(all, of)
	}
	return all
}
