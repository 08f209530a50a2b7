package drain_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/midair-go/midair/drain"
)

// A trial is a request that a rule of the drain could treat in a wrong way.
type trial struct {
	id, method string
	header     [][2]string
	body       string // empty: none
	chunked    bool
}

// trials are all combinations of methods, headers and bodies.
func trials() (all []trial) {
	events, upgrade := [2]string{"Accept", "text/event-stream"}, [2]string{"Upgrade", "websocket"}
	headers := map[string][][2]string{
		"none":              nil,
		"events":            {events},
		"events, resumed":   {events, {"Last-Event-ID", "7"}, {"Cache-Control", "no-cache"}},
		"WebSocket":         {upgrade, {"Connection", "Upgrade"}, {"Sec-WebSocket-Version", "13"}, {"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}},
		"leftover of proxy": {upgrade},
		"both":              {events, upgrade, {"Connection", "keep-alive, upgrade"}},
		"expects":           {events, {"Expect", "100-continue"}},
		"gRPC":              {{"Content-Type", "application/grpc"}, {"TE", "trailers"}},
	}
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY", "PURGE"} {
		for name, header := range headers {
			for _, body := range []string{"", "{}", "chunked"} {
				id := fmt.Sprintf("/%s/%s/%s", method, strings.ReplaceAll(name, " ", "-"), body)
				all = append(all, trial{id, method, header, body, body == "chunked"})
			}
		}
	}
	return all
}

// mayHaveEffects reports whether the request may have side effects, so that the client must learn whether it was executed.
func (r trial) mayHaveEffects() bool { return r.method != "GET" && r.method != "HEAD" || r.body != "" }

// plain reports whether the request has no header, so that no rule can apply.
func (r trial) plain() bool { return len(r.header) == 0 }

// http1 is the request on the wire.
func (r trial) http1() string {
	text := r.method + " " + r.id + " HTTP/1.1\r\nHost: x\r\n"
	for _, h := range r.header {
		text += h[0] + ": " + h[1] + "\r\n"
	}
	switch {
	case r.chunked:
		return text + fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(r.body), r.body)
	case r.body != "":
		return text + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(r.body), r.body)
	}
	return text + "\r\n"
}

// http2 is the request on a stream.
func (r trial) http2(stream uint32) string {
	literal := func(text string) string { return string([]byte{byte(len(text))}) + text }
	block := "\x02" + literal(r.method) + "\x86\x04" + literal(r.id) + "\x41\x01x"
	for _, h := range r.header {
		if h[0] != "Connection" && h[0] != "Upgrade" { // HTTP/2 has none
			block += "\x00" + literal(strings.ToLower(h[0])) + literal(h[1])
		}
	}
	if r.body == "" {
		return frame{headers, endStream | endHeaders, stream, block}.String()
	}
	return frame{headers, endHeaders, stream, block}.String() + frame{data, endStream, stream, r.body}.String()
}

// A model answers with some events and an end, as a service does that streams the answer of a language model.
type model struct {
	begun chan string   // gets the id of each request but the request for /warm
	on    chan struct{} // closed: those that have begun go on

	mu       sync.Mutex
	executed map[string]int
}

const done = "data: [DONE]\n\n"

func (m *model) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/warm" {
		io.WriteString(w, "warm")
		return
	}
	io.Copy(io.Discard, r.Body)
	m.mu.Lock()
	m.executed[r.URL.Path]++
	m.mu.Unlock()
	w.Header().Set("Content-Type", "text/event-stream")
	io.WriteString(w, "data: token\n\n")
	flush(w)
	m.begun <- r.URL.Path
	<-m.on
	io.WriteString(w, "data: token\n\n")
	flush(w)
	io.WriteString(w, done)
}

// check holds an answer to the promise.
func (m *model) check(t *testing.T, r trial, status int, body string, closes bool) {
	m.mu.Lock()
	n := m.executed[r.id]
	m.mu.Unlock()
	whole := n == 1 && status == http.StatusOK && (r.method == "HEAD" || strings.HasSuffix(body, done))
	refused := n == 0 && status == http.StatusServiceUnavailable && closes
	switch {
	case whole:
	case r.plain():
		t.Errorf("%s has no header and gets %d %q, executed %d times", r.id, status, body, n)
	case r.mayHaveEffects() && !refused:
		t.Errorf("%s may have side effects, and gets %d %q, executed %d times", r.id, status, body, n)
	}
}

// A moment says when a request comes: before the function begin is called, or after.
type moment struct {
	opts   drain.Options
	begin  func(*service)
	phase  drain.Phase
	before bool
}

var moments = map[string]moment{
	"serving":                 {drain.Options{}, func(*service) {}, drain.Serving, false},
	"lame duck":               {drain.Options{}, func(s *service) { s.Drain() }, drain.LameDuck, false},
	"propagating":             {drain.Options{Grace: 10 * time.Second, Propagation: time.Hour}, (*service).stop, drain.Propagating, false},
	"late, stop":              {drain.Options{}, (*service).stop, drain.Draining, false},
	"late, handover":          {drain.Options{}, (*service).handOver, drain.Draining, false},
	"begun before a stop":     {drain.Options{}, (*service).stop, drain.Draining, true},
	"begun before a handover": {drain.Options{}, (*service).handOver, drain.Draining, true},
	"begun before, hurried":   {drain.Options{Hurry: hurry()}, (*service).handOver, drain.Draining, true},
}

// pass calls begin, and before or after begin the function send, which sends n requests. Then it lets the model go on. If the
// requests came before, it first waits until the drain has asked all event streams to end.
func (at moment) pass(s *service, m *model, send func(), n int) {
	s.t.Helper()
	if at.before {
		send()
		m.await(n)
	}
	at.begin(s)
	s.until("it is "+string(at.phase), func() bool { return s.Status().Phase == at.phase })
	if at.before {
		<-drain.FromContext(s.Context(context.Background())).Begun()
		s.until("event streams were told", func() bool { return streamsTold(s) })
	} else {
		send()
	}
	close(m.on)
}

func hurry() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// In every phase and with every header, a request that may have side effects is served to its end, or it is refused before its
// handler runs, with a status that means "not executed". A request without any header is always served.
func TestNoRuleTouchesARequestThatMayHaveSideEffects(t *testing.T) {
	for name, at := range moments {
		at.opts.IdleGrace = time.Hour
		if at.opts.Grace == 0 {
			at.opts.Grace = time.Hour
		}
		t.Run("HTTP/1.1 "+name, func(t *testing.T) {
			all := trials()
			m := &model{begun: make(chan string, len(all)), on: make(chan struct{}), executed: map[string]int{}}
			s := serve(t, &http.Server{Handler: m}, at.opts)
			clients := make([]*client, len(all))
			for i := range all {
				clients[i] = s.dial()
				wantBody(t, clients[i].get("/warm"), "warm", false)
			}
			send := func() {
				for i, r := range all {
					clients[i].send(r.http1())
				}
			}
			at.pass(s, m, send, len(all))
			for i, r := range all {
				res, err := clients[i].response(r.method)
				if err != nil {
					t.Errorf("%s gets no answer: %v", r.id, err)
					continue
				}
				body, err := io.ReadAll(res.Body)
				if err != nil && r.mayHaveEffects() {
					t.Errorf("%s: %v", r.id, err)
				}
				m.check(t, r, res.StatusCode, string(body), res.Close)
				clients[i].Close()
			}
		})
		t.Run("HTTP/2 "+name, func(t *testing.T) {
			all := trials()
			m := &model{begun: make(chan string, len(all)), on: make(chan struct{}), executed: map[string]int{}}
			s := serve(t, &http.Server{Handler: m, Protocols: both()}, at.opts)
			c := h2(s.dial())
			c.open(1, "/warm")
			if got := c.body(t, 1); got != "warm" {
				t.Fatalf("%q", got)
			}
			send := func() {
				for i, r := range all {
					c.send(r.http2(uint32(2*i + 3)))
				}
			}
			at.pass(s, m, send, len(all))
			bodies := make([]string, len(all))
			for left := len(all); left > 0; {
				f, err := readFrame(c.r)
				if err != nil {
					t.Fatalf("%d streams have no end: %v", left, err)
				}
				if i := (int(f.stream) - 3) / 2; f.stream > 1 && (f.kind == data || f.kind == headers) {
					if f.kind == data {
						bodies[i] += f.payload
					}
					if f.flags&endStream != 0 {
						left--
					}
				}
				if f.kind == 3 {
					t.Errorf("%s is reset", all[(f.stream-3)/2].id)
					left--
				}
			}
			for i, r := range all { // if the answer is not from the handler, its body shows this
				m.check(t, r, http.StatusOK, bodies[i], false)
			}
			c.Close()
		})
	}
}

// await waits until n requests have begun.
func (m *model) await(n int) {
	for range n {
		<-m.begun
	}
}

// streamsTold reports whether the drain has asked all event streams in the registry to end.
func streamsTold(s *service) bool {
	n := 0
	for _, e := range s.Entries() {
		if e.Protocol == "sse" {
			n++
		}
	}
	return drain.EventStreamsAsked(s.Server) == n
}

// response reads the header of an answer. It skips informational answers.
func (c *client) response(method string) (*http.Response, error) {
	for {
		res, err := http.ReadResponse(c.r, &http.Request{Method: method})
		if err != nil || res.StatusCode >= http.StatusOK {
			return res, err
		}
	}
}

// Each rule has texts about late requests, about running requests, and about the reason.
func TestRulesHaveReasons(t *testing.T) {
	if n, bare := drain.Rules(); n != 2 || len(bare) > 0 {
		t.Errorf("%d rules, want 2; without a reason: %v", n, bare)
	}
}

// Only a request of HTTP/1.1 asks for a WebSocket, and only if the header Connection lists the word upgrade.
func TestWebSocketsAreAskedForByConnection(t *testing.T) {
	for _, c := range []struct {
		major, minor int
		connection   []string
		want         bool
	}{
		{1, 1, []string{"Upgrade"}, true},
		{1, 1, []string{"keep-alive, upgrade"}, true},
		{1, 1, []string{"keep-alive,\tUPGRADE ,x"}, true},
		{1, 1, []string{"keep-alive", "upgrade"}, true},
		{1, 1, nil, false},
		{1, 1, []string{"keep-alive"}, false},
		{1, 1, []string{"upgrades"}, false},
		{1, 1, []string{"keep-alive upgrade"}, false},
		{1, 0, []string{"Upgrade"}, false},
		{2, 0, []string{"Upgrade"}, false},
	} {
		h := http.Header{"Upgrade": {"websocket"}, "Connection": c.connection}
		r := &http.Request{Method: "GET", ProtoMajor: c.major, ProtoMinor: c.minor, Header: h}
		if got := drain.AsksForWebSocket(r); got != c.want {
			t.Errorf("HTTP/%d.%d with Connection %q asks for a WebSocket: %v", c.major, c.minor, c.connection, got)
		}
	}
}
