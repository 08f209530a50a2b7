// Package admin is the listener that operators and deploy scripts talk to. It has a server of its own, which closes last,
// so that a drain can be watched to its end.
package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/midair-go/midair/drain"
	"github.com/midair-go/midair/upgrade"
)

// Options of Listen. All but Page and Actions are needed.
type Options struct {
	Addr   string                  // host:port, unix:PATH or systemd:NAME; empty: there is none
	Grace  time.Duration           // drain limit
	Status func() any              // the answer of GET /status, as JSON
	Page   http.Handler            // the answer of GET /; nil: that of GET /status
	Stop   context.CancelCauseFunc // begins a graceful stop

	Actions Actions // of this service alone
}

// Actions are functions by name: POST /name?reason=TEXT calls the function with the parameters. The reason is never empty. An
// error is answered with 500, or with the status of a Refusal.
type Actions map[string]func(url.Values) error

// Server is the listener with its HTTP server.
type Server struct {
	up   *upgrade.Upgrader
	opts Options
	addr string // real address, or unix:PATH; empty: there is none
	name string // the host that Options.Addr gives
	ln   net.Listener
	srv  *drain.Server
}

// Answer is the answer to a POST: in which phase an upgrade ended and why. Reason is empty after a success.
type Answer struct {
	Phase   upgrade.Phase    `json:"phase"`
	Reason  string           `json:"reason"`
	Outcome *upgrade.Outcome `json:"outcome,omitempty"` // all about an upgrade that was started
}

// Listen opens the listener. The listener is pinned: during an upgrade, requests reach the old process, which can abort the
// upgrade.
func Listen(up *upgrade.Upgrader, o Options) (*Server, error) {
	s := &Server{up: up, opts: o, name: hostname(o.Addr)}
	if o.Addr == "" {
		return s, nil
	}
	path, unix := strings.CutPrefix(o.Addr, "unix:")
	var err error
	if unix {
		s.ln, err = listenPrivate(up, path)
		if abs, err := filepath.Abs(path); err == nil { // for people who are in another directory
			path = abs
		}
		s.addr = "unix:" + path
	} else if s.ln, err = up.ListenPinned(Network(o.Addr)); err == nil {
		s.addr = s.ln.Addr().String()
		if s.ln.Addr().Network() == "unix" { // systemd has passed one
			s.addr = "unix:" + s.addr
		}
	}
	if err != nil {
		return nil, fmt.Errorf("-admin: %w", err)
	}
	hs := &http.Server{
		Handler:           Tag(up.Status(), s.guard(s.routes())),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(slog.Default().Handler(), slog.LevelWarn),
	}
	hs.SetKeepAlivesEnabled(false) // so that each request finds the process that is the main one then
	s.srv = drain.NewServer(hs, drain.Options{Grace: o.Grace})
	return s, nil
}

// Network returns network and address for Listen of the Upgrader: of a socket of systemd, which is "systemd:" with a name, or
// of a TCP address.
func Network(addr string) (network, address string) {
	if name, ok := strings.CutPrefix(addr, "systemd:"); ok {
		return "systemd", name
	}
	return "tcp", addr
}

// Tag adds version, generation and pid of the process to every answer.
func Tag(who upgrade.Status, next http.Handler) http.Handler {
	generation, pid := strconv.Itoa(who.Generation), strconv.Itoa(who.PID)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Version", who.Version)
		h.Set("X-Generation", generation)
		h.Set("X-Pid", pid)
		next.ServeHTTP(w, r)
	})
}

// listenPrivate listens on a unix socket for the user of the process alone. A socket file without a listener was left behind by a
// killed process, and is removed.
func listenPrivate(up *upgrade.Upgrader, path string) (net.Listener, error) {
	if info, err := os.Stat(path); err == nil && info.Mode()&fs.ModeSocket != 0 {
		conn, err := net.Dial("unix", path)
		if err == nil {
			conn.Close()
		} else {
			os.Remove(path)
		}
	}
	defer privateFiles()()
	return up.ListenPinned("unix", path)
}

// Beside runs serve, and serves the admin listener from the beginning until serve has returned.
func (s *Server) Beside(ctx context.Context, serve func(context.Context) error) error {
	if s.srv == nil {
		return serve(ctx)
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	last, end := context.WithCancelCause(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { // ends with last
		err := s.srv.Serve(last, s.ln)
		fail(err) // too late to matter, unless the listener broke
		done <- err
	}()
	go slog.Info("admin", "addr", s.addr) // ends when it is written: serving does not wait for it
	err := serve(ctx)
	end(context.Cause(ctx)) // it tells a handover from a stop
	return errors.Join(err, <-done)
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	status := func(w http.ResponseWriter, r *http.Request) { writeJSON(w, http.StatusOK, s.opts.Status()) }
	mux.HandleFunc("GET /status", status)
	if s.opts.Page != nil {
		mux.Handle("GET /{$}", s.opts.Page)
	} else {
		mux.HandleFunc("GET /{$}", status)
	}
	mux.HandleFunc("POST /upgrade", func(w http.ResponseWriter, r *http.Request) {
		switch q := r.URL.Query(); {
		case q.Get("rehearse") != "":
			s.replace(w, r, upgrade.PhaseSmoke, s.up.Rehearse)
		case q.Get("force") != "":
			s.replace(w, r, upgrade.PhaseCommit, s.up.Restart)
		default:
			s.replace(w, r, upgrade.PhaseCommit, s.up.Upgrade)
		}
	})
	mux.HandleFunc("POST /rollback", func(w http.ResponseWriter, r *http.Request) {
		s.replace(w, r, upgrade.PhaseCommit, s.up.Rollback)
	})
	mux.HandleFunc("POST /commit", func(w http.ResponseWriter, r *http.Request) {
		answer(w, upgrade.PhaseCommit, s.up.Commit(), nil)
	})
	mux.HandleFunc("POST /abort", func(w http.ResponseWriter, r *http.Request) {
		answer(w, "", s.up.Abort("asked for over the admin interface"), nil)
	})
	mux.HandleFunc("POST /drain", func(w http.ResponseWriter, r *http.Request) {
		s.opts.Stop(errors.New("asked for over the admin interface"))
		writeJSON(w, http.StatusAccepted, Answer{})
	})
	for name, do := range s.opts.Actions {
		mux.HandleFunc("POST /"+name, func(w http.ResponseWriter, r *http.Request) { act(w, r, do) })
	}
	return mux
}

// replace runs an upgrade, a rehearsal, a restart or a rollback to the end, even if the client goes away.
func (s *Server) replace(w http.ResponseWriter, r *http.Request, done upgrade.Phase, do func(context.Context) error) {
	err := do(context.WithoutCancel(r.Context()))
	answer(w, done, err, s.up.Status().Last)
}

// act runs an action of the service.
func act(w http.ResponseWriter, r *http.Request, do func(url.Values) error) {
	q := r.URL.Query()
	q.Set("reason", cmp.Or(q.Get("reason"), "asked for over the admin interface"))
	err, refusal := do(q), (*Refusal)(nil)
	switch {
	case err == nil:
		writeJSON(w, http.StatusOK, Answer{})
	case errors.As(err, &refusal):
		writeJSON(w, refusal.Status, refusal.Answer)
	default:
		writeJSON(w, http.StatusInternalServerError, Answer{Reason: err.Error()})
	}
}

// answer sends the outcome of an upgrade: 200 for success, 409 if another upgrade is in progress, 422 if the upgrade was refused
// before a process was started, 500 if the new process was taken back.
func answer(w http.ResponseWriter, done upgrade.Phase, err error, out *upgrade.Outcome) {
	if err == nil {
		writeJSON(w, http.StatusOK, Answer{Phase: done, Outcome: out})
		return
	}
	a, status := Answer{Reason: err.Error()}, http.StatusUnprocessableEntity
	if errors.Is(err, upgrade.ErrInProgress) {
		status = http.StatusConflict
	}
	if e := (*upgrade.Error)(nil); errors.As(err, &e) {
		a = Answer{Phase: e.Phase, Reason: e.Reason, Outcome: out}
		if e.PID != 0 {
			status = http.StatusInternalServerError
		}
	}
	writeJSON(w, status, a)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(v) // a client that has gone needs no answer
}

// guard refuses the scripts of web pages in a browser on the same machine. Such scripts can send requests to the listener, but
// only with a foreign Origin, or a foreign name in Host.
func (s *Server) guard(next http.Handler) http.Handler {
	next = http.NewCrossOriginProtection().Handler(next)
	if strings.HasPrefix(s.addr, "unix:") {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.allows(hostname(r.Host)) {
			http.Error(w, "admin: Host must be a loopback name or address, or the one that -admin gives", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) allows(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback() || host != "" && strings.EqualFold(host, s.name)
}

// hostname returns the host without the port.
func hostname(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return strings.Trim(hostport, "[]")
}

// Curl returns the beginning of a command line for the listener, up to the path, and nothing if there is no listener.
func (s *Server) Curl() string {
	if path, unix := strings.CutPrefix(s.addr, "unix:"); unix {
		return "curl --unix-socket " + path + " http://admin"
	}
	if s.addr == "" {
		return ""
	}
	return "curl http://" + s.addr
}
