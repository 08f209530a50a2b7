package drain_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/drain"
)

const askEvents = "GET /events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"

// events answers with each part that comes from the channel parts, and flushes the part. It ends when its context is cancelled.
func events(parts chan string, done chan error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		flush(w)
		for {
			select {
			case p := <-parts:
				if _, err := io.WriteString(w, p); err != nil {
					done <- err
					return
				}
				flush(w)
			case <-r.Context().Done():
				done <- context.Cause(r.Context())
				return
			}
		}
	})
}

func flush(w http.ResponseWriter) { http.NewResponseController(w).Flush() }

var retryLine = regexp.MustCompile(`^retry: [0-9]+\n\n$`)

// An event stream ends between two events, with a time after which to reconnect (F13). The context of the handler is cancelled,
// and later writes are refused.
func TestEventStreamsEndBetweenEvents(t *testing.T) {
	for name, c := range map[string]struct{ before, after string }{
		"no event yet":    {},
		"between events":  {before: "data: one\n\n"},
		"within an event": {before: "data: one\n\ndata: tw", after: "o\n\n"},
		"with CRLF":       {before: "data: one\r\n\r\ndata: two", after: "\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			parts, done := make(chan string), make(chan error, 1)
			s := serve(t, &http.Server{Handler: events(parts, done)}, drain.Options{Grace: time.Hour})
			cl := s.dial()
			cl.send(askEvents)
			if c.before != "" {
				parts <- c.before
			}
			s.until("it is an event stream", func() bool { e := s.Entries(); return len(e) == 1 && e[0].Protocol == "sse" })
			res, err := http.ReadResponse(cl.r, nil)
			if err != nil {
				t.Fatal(err)
			}
			head := make([]byte, len(c.before))
			io.ReadFull(res.Body, head)
			s.handOver()
			if c.after != "" {
				parts <- c.after
			}
			rest, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			if last, ok := strings.CutPrefix(string(rest), c.after); string(head) != c.before || !ok || !retryLine.MatchString(last) {
				t.Errorf("got %q and %q", head, rest)
			}
			<-done
			cl.Close()
			s.clean()
		})
	}
}

// An event stream also ends if its header is written only after the drain has asked for the end.
func TestEventStreamsWhoseHeaderComesLateEnd(t *testing.T) {
	entered, on := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	s := serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-on
		events(nil, done).ServeHTTP(w, r)
	})}, drain.Options{Grace: time.Hour})
	c := s.dial()
	c.send(askEvents)
	<-entered
	s.handOver()
	<-drain.FromContext(s.Context(t.Context())).Begun()
	until(t, "it was asked", func() bool { return drain.EventStreamsAsked(s.Server) == 1 })
	close(on)
	if a := c.answer(); !retryLine.MatchString(a.body) {
		t.Errorf("got %+v", a)
	}
	<-done
	c.Close()
	s.clean()
}

// If a handler does not look at its context, its next write of an event fails.
func TestEventStreamsOfDeafHandlersEnd(t *testing.T) {
	parts, done := make(chan string), make(chan error, 1)
	defer close(parts)
	s := serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for p := range parts {
			if _, err := io.WriteString(w, p); err != nil {
				done <- err
				return
			}
			flush(w)
		}
	})}, drain.Options{Grace: time.Hour})
	c := s.dial()
	c.send(askEvents)
	parts <- "data: one\n\n"
	s.until("it is an event stream", func() bool { e := s.Entries(); return len(e) == 1 && e[0].Protocol == "sse" })
	flushed := func() bool { e := s.Entries(); return len(e) == 1 && e[0].Written > 125 }
	until(t, "the first event was written", flushed)
	before := s.Entries()[0].Written
	s.handOver()
	until(t, "the end was written", func() bool { return s.Entries()[0].Written > before })
	parts <- "data: two\n\n"
	<-done
	if a := c.answer(); !strings.HasPrefix(a.body, "data: one\n\nretry: ") || strings.Contains(a.body, "two") {
		t.Errorf("got %q", a.body)
	}
	c.Close()
	s.clean()
}

// A request for an event stream in the drain is answered with status 200 and a time after which to reconnect: after another
// status, an EventSource would give up.
func TestEventStreamsOfADrainAreSentAway(t *testing.T) {
	s, c := inDrain(t, events(nil, nil))
	c.send(askEvents)
	if a := c.answer(); a.status != http.StatusOK || !retryLine.MatchString(a.body) || !a.close {
		t.Errorf("got %+v", a)
	}
	c.closed()
	s.clean()
}

// If a request asks for events, and the answer is not an event stream, the drain treats it like any other request.
func TestAnswersThatAreNoEventsAreLeftAlone(t *testing.T) {
	g := newGate()
	s := serve(t, &http.Server{Handler: g}, drain.Options{})
	c := s.dial()
	c.send(askEvents)
	<-g.entered
	s.handOver()
	close(g.open)
	if a := c.answer(); a.body != "/events" {
		t.Errorf("got %+v", a)
	}
	c.Close()
	s.clean()
}

// Event streams on one HTTP/2 connection end one by one, and the connection with them.
func TestEventStreamsOfHTTP2End(t *testing.T) {
	parts, done := make(chan string), make(chan error, 2)
	s := serve(t, &http.Server{Handler: events(parts, done), Protocols: both()}, drain.Options{Grace: time.Hour})
	c := h2(s.dial())
	for _, stream := range []uint32{1, 3} {
		f := get(stream, "/events")
		f.payload += fmt.Sprintf("\x0f\x04%c%s", len("text/event-stream"), "text/event-stream") // accept, by the static table
		c.send(f.String())
	}
	s.until("both are event streams", func() bool {
		e := s.Entries()
		return len(e) == 2 && e[0].Protocol == "sse" && e[1].Protocol == "sse" && e[0].Name == "GET /events"
	})
	s.handOver()
	for ended := 0; ended < 2; {
		f, err := readFrame(c.r)
		if err != nil {
			t.Fatal(err)
		}
		if f.kind == data && f.flags&endStream != 0 {
			ended++
		}
		if f.kind == ping && f.flags&ack == 0 {
			c.pong(f)
		}
	}
	<-done
	<-done
	c.Close()
	s.clean()
}

// Beside an event stream on the same HTTP/2 connection, the registry lists another request as what it is.
func TestRegistryTellsEventStreamsFromOtherRequests(t *testing.T) {
	parts, ended, g := make(chan string), make(chan error, 1), newGate()
	mux := http.NewServeMux()
	mux.Handle("/events", events(parts, ended))
	mux.Handle("/", g)
	s := serve(t, &http.Server{Handler: mux, Protocols: both()}, drain.Options{Grace: time.Hour})
	c := h2(s.dial())
	c.open(1, "/slow")
	<-g.entered
	f := get(3, "/events")
	f.payload += fmt.Sprintf("\x0f\x04%c%s", len("text/event-stream"), "text/event-stream") // accept, by the static table
	c.send(f.String())
	s.until("both are listed as what they are", func() bool {
		kinds := map[string]string{}
		for _, e := range s.Entries() {
			kinds[e.Name] = e.Protocol
		}
		return kinds["GET /slow"] == "http/2" && kinds["GET /events"] == "sse"
	})
	close(g.open)
	c.Close()
	<-ended
	s.stop()
	s.clean()
}
