package drain

import (
	"net/http"
	"slices"
	"time"
)

// An Entry is something that a [Server] waits for in a drain: a connection, a stream of HTTP/2, a job.
type Entry struct {
	// Protocol is "http/1.1", "http/2", "sse", "websocket", "hijacked" for another protocol that a handler took a
	// connection over for, "tcp", "job", or what [Server.ServeFunc] and [Server.Track] were given.
	Protocol string `json:"protocol"`
	// State is new, idle, active, hijacked or closing: it has its last answer, and the client is to close.
	State string `json:"state"`
	// Since is when it entered that state.
	Since time.Time `json:"since"`
	// Name is the method and path of the current or last request, or the name of a job; empty if there was none.
	Name string `json:"name,omitempty"`
	// Remote is the address of the client; empty for a job.
	Remote string `json:"remote,omitempty"`
	// Read and Written count the bytes of the connection; TLS is not taken off.
	Read    int64 `json:"read"`
	Written int64 `json:"written"`
	// Action is what ended it, or tried to, when Grace had run out: "cancelled", "deadline", "half-closed", "closed" or
	// "reset". Empty before.
	Action string `json:"action,omitempty"`
}

// String gives the entry in a line.
func (e Entry) String() string {
	text := e.Protocol + " " + e.State
	for _, part := range []string{e.Name, e.Remote, e.Action} {
		if part != "" {
			text += " " + part
		}
	}
	return text
}

// Entries lists the ledger, the oldest first.
func (s *Server) Entries() []Entry {
	var all []Entry
	for _, c := range s.ledger.list() {
		all = c.entries(all)
	}
	for _, t := range s.ledger.listTickets() {
		all = append(all, t.entry())
	}
	slices.SortStableFunc(all, func(a, b Entry) int { return a.Since.Compare(b.Since) })
	return all
}

// entries appends one for each request of the connection, or one for the connection if there is none.
func (c *conn) entries(all []Entry) []Entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := Entry{
		Protocol: c.protocol(), State: c.state.String(), Since: c.since, Name: c.name(),
		Read: c.read.Load(), Written: c.written.Load(), Action: c.action,
	}
	if c.state == http.StateClosed || c.lingering {
		e.State = "closing"
	}
	if a := c.Conn.RemoteAddr(); a != nil {
		e.Remote = a.String()
	}
	if c.running == nil || c.state == http.StateHijacked {
		return append(all, e)
	}
	for q := c.running; q != nil; q = q.next {
		of := e
		of.Name, of.Since = q.method+" "+q.path, q.since
		if q.events != nil {
			of.Protocol = "sse"
		}
		all = append(all, of)
	}
	return all
}

func (c *conn) protocol() string {
	switch {
	case c.proto != "":
		return c.proto
	case c.state == http.StateHijacked:
		return "hijacked"
	case c.http2:
		return "http/2"
	}
	return "http/1.1"
}

func (c *conn) name() string {
	if c.method == "" {
		return ""
	}
	return c.method + " " + c.path
}

// Status is what a [Server] does at a moment. Each connection is counted once, one after the other. Its numbers are made
// to be gauges: a main that uses OpenTelemetry observes them in a callback; this package needs the standard library only.
type Status struct {
	// Phase is how far the server is.
	Phase Phase `json:"phase"`
	// Since is when the drain began; zero before.
	Since time.Time `json:"since,omitzero"`
	// New is the number of connections whose first request has not been read.
	New int `json:"new"`
	// Idle is the number of connections between two requests.
	Idle int `json:"idle"`
	// Active is the number of connections with a request.
	Active int `json:"active"`
	// Hijacked is the number of connections that handlers took over and did not close yet, and of raw ones.
	Hijacked int `json:"hijacked"`
	// Closing is the number of connections that have their last answer and wait for the client to close.
	Closing int `json:"closing"`
	// Jobs is the number of jobs, and of what else was put into the ledger by Track.
	Jobs int `json:"jobs"`
	// HTTP2 says in how many steps HTTP/2 connections are told to end: "two steps", or "one step" where the http.Server
	// has a TLSNextProto of the user's for them, or a net/http that is not known. Empty before the first Serve,
	// and without HTTP/2.
	HTTP2 string `json:"http2,omitempty"`
}

// Status tells what the server does now. It looks at every connection.
func (s *Server) Status() Status {
	s.mu.Lock()
	st := Status{Phase: s.phase(), Since: s.since, HTTP2: s.steps}
	s.mu.Unlock()
	for _, c := range s.ledger.list() {
		switch c.current() {
		case http.StateNew:
			st.New++
		case http.StateIdle:
			st.Idle++
		case http.StateActive:
			st.Active++
		case http.StateHijacked:
			st.Hijacked++
		case http.StateClosed:
			st.Closing++
		}
	}
	st.Jobs = len(s.ledger.listTickets())
	return st
}
