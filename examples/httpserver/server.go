package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/midair-go/midair/upgrade"
)

// The limits of the parameters of a request.
const (
	maxBody   = 16 << 20
	maxSlow   = 5 * time.Minute
	maxStream = 100_000
)

// identity names the process of an answer.
type identity struct {
	version         string
	generation, pid int
	started         time.Time
}

func newIdentity(s upgrade.Status) identity {
	return identity{version: s.Version, generation: s.Generation, pid: s.PID, started: s.Started}
}

// newSite returns the handler of the whole site. The handlers counter and visitors answer the requests that need a session.
func newSite(id identity, page, ready, counter, visitors http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", page)
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, r *http.Request) {
		noStore(w, "text/plain; charset=utf-8")
		fmt.Fprintf(w, "%s\n%d\n%d\n", id.version, id.generation, id.pid)
	})
	mux.HandleFunc("POST /echo", echo)
	mux.HandleFunc("/slow", slow)
	mux.HandleFunc("GET /stream", stream)
	mux.HandleFunc("GET /events", id.events)
	mux.HandleFunc("GET /ws", webSocket)
	mux.Handle("/count", counter)
	for _, path := range []string{"/cart", "/flag/", "/visitor"} {
		mux.Handle(path, visitors)
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "ok") })
	mux.Handle("GET /readyz", ready)
	return mux
}

func noStore(w http.ResponseWriter, contentType string) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", contentType)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	noStore(w, "application/json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(v) // a client that has gone needs no answer
}

// echo reads the whole body before the answer begins: with HTTP/1.1, an earlier answer ends the reading.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	noStore(w, "application/octet-stream") // never a page of this site, whatever was sent
	_, _ = w.Write(body)                   // a client that has gone needs no answer
}

// slow answers after the time d.
func slow(w http.ResponseWriter, r *http.Request) {
	d, err := duration(r, "d", 200*time.Millisecond)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if sleep(r.Context(), d) == nil {
		fmt.Fprintln(w, "slept", d)
	}
}

// stream sends n numbered lines, with a pause after each line. A drain waits for the last line: a client that counts wants all
// lines. A stream without an end would watch drain.FromContext.
func stream(w http.ResponseWriter, r *http.Request) {
	n, err := number(r, "n", 50)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	every, err := duration(r, "every", 20*time.Millisecond)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	noStore(w, "text/plain; charset=utf-8")
	rc := http.NewResponseController(w)
	for i := range n {
		fmt.Fprintln(w, i+1)
		if rc.Flush() != nil || i+1 < n && sleep(r.Context(), every) != nil {
			return
		}
	}
}

// duration reads a time between 0 and maxSlow from a parameter.
func duration(r *http.Request, name string, fallback time.Duration) (time.Duration, error) {
	s := r.FormValue(name)
	if s == "" {
		return fallback, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > maxSlow {
		return 0, fmt.Errorf("%s=%q: want a time between 0s and %v, such as %v", name, s, maxSlow, fallback)
	}
	return d, nil
}

// number reads a number between 1 and maxStream from a parameter.
func number(r *http.Request, name string, fallback int) (int, error) {
	s := r.FormValue(name)
	if s == "" {
		return fallback, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > maxStream {
		return 0, fmt.Errorf("%s=%q: want a number between 1 and %d, such as %d", name, s, maxStream, fallback)
	}
	return n, nil
}

// sleep waits for d, or for the end of ctx, which is an error.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
