package drain_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/drain"
)

// Everything unfinished when Grace has run out is ended step by step (F18). Each step is taken only against what the step
// before did not end. The list says which step was the last.
func TestEscalationNamesItsSteps(t *testing.T) {
	deaf := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/polite", func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		io.WriteString(w, "in time")
	})
	mux.HandleFunc("/stuck", func(w http.ResponseWriter, _ *http.Request) { io.Copy(w, zeros{}) })
	mux.HandleFunc("/deaf", func(http.ResponseWriter, *http.Request) { <-deaf })
	mux.HandleFunc("/tunnel", func(w http.ResponseWriter, _ *http.Request) {
		nc, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			defer nc.Close()
			for err = nil; err != io.EOF; { // it does not mind deadlines
				_, err = nc.Read(make([]byte, 1))
				if errors.Is(err, context.Canceled) {
					break
				}
				if err != nil && !isTimeout(err) {
					break
				}
			}
		}
	})
	s := serve(t, &http.Server{Handler: mux}, drain.Options{Grace: 100 * time.Millisecond})
	clients := map[string]*client{}
	for _, path := range []string{"/polite", "/stuck", "/deaf", "/tunnel"} {
		clients[path] = s.dial()
		clients[path].send("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n")
	}
	s.until("all are at work", func() bool { st := s.Status(); return st.Active == 3 && st.Hijacked == 1 })
	s.stop()
	wantBody(t, clients["/polite"].answer(), "in time", true)
	clients["/polite"].closed()
	var timeout *drain.TimeoutError
	if err := s.wait(); !errors.As(err, &timeout) {
		t.Fatalf("Serve = %v", err)
	}
	close(deaf)
	got := map[string]string{}
	for _, l := range timeout.Left {
		got[l.Name] = l.Action
	}
	for name, want := range map[string]string{"GET /polite": "cancelled", "GET /stuck": "deadline", "GET /deaf": "reset", "GET /tunnel": "closed"} {
		if got[name] != want {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
	if _, err := io.ReadAll(clients["/deaf"].r); !errors.Is(err, syscall.ECONNRESET) { // it must not look complete
		t.Errorf("the client of a request that was cut reads %v", err)
	}
}

func isTimeout(err error) bool {
	var ne interface{ Timeout() bool }
	return errors.As(err, &ne) && ne.Timeout()
}

// An entry and the message of a TimeoutError name protocol, state, name, peer and action.
func TestEntriesAreNamed(t *testing.T) {
	e := drain.Entry{Protocol: "websocket", State: "hijacked", Name: "GET /ws", Remote: "10.0.0.1:2", Action: "closed"}
	if got := e.String(); got != "websocket hijacked GET /ws 10.0.0.1:2 closed" {
		t.Errorf("got %q", got)
	}
	err := &drain.TimeoutError{Grace: time.Second, Left: []drain.Entry{e}}
	if got := err.Error(); got != "drain: 1 left after 1s: "+e.String() {
		t.Errorf("got %q", got)
	}
}
