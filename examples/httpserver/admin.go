package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/drain"
	"github.com/midair-go/midair/examples/internal/steps"
	"github.com/midair-go/midair/flags"
	"github.com/midair-go/midair/upgrade"
)

// admin is what operators and deploy scripts talk to. It has a listener and a server of its own, which closes last, so
// that a drain can be watched to its end.
type admin struct {
	up    *upgrade.Upgrader
	web   *drain.Server
	cart  *canary.Router
	flags *flags.Flags
	judge *steps.Judge
	stop  context.CancelCauseFunc // begins a graceful stop

	// What listen sets.
	addr string // real address, or unix:PATH; empty: there is none
	name string // the host that -admin gives
	ln   net.Listener
	srv  *drain.Server
}

// adminStatus is the answer of GET /status.
type adminStatus struct {
	Upgrade upgrade.Status `json:"upgrade"`
	Drain   drain.Status   `json:"drain"`
	Canary  canary.Status  `json:"canary"`
	Flags   flags.Status   `json:"flags"`

	Steps *steps.Progress `json:"steps,omitempty"` // of a progressive upgrade
}

// adminAnswer is the answer to a POST: in which phase an upgrade ended and why. Reason is empty after a success.
type adminAnswer struct {
	Phase   upgrade.Phase    `json:"phase"`
	Reason  string           `json:"reason"`
	Outcome *upgrade.Outcome `json:"outcome,omitempty"` // all about an upgrade that was started
}

// listen opens the listener. It is pinned: during an upgrade it leads to the process that can abort it.
func (a *admin) listen(c config) error {
	a.name = hostname(c.admin)
	if c.admin == "" {
		return nil
	}
	path, unix := strings.CutPrefix(c.admin, "unix:")
	var err error
	if unix {
		a.ln, err = listenPrivate(a.up, path)
		a.addr = "unix:" + absolute(path)
	} else if a.ln, err = a.up.ListenPinned("tcp", c.admin); err == nil {
		a.addr = a.ln.Addr().String()
	}
	if err != nil {
		return fmt.Errorf("-admin: %w", err)
	}
	hs := newHTTPServer()
	hs.SetKeepAlivesEnabled(false) // so that each request finds the process that is the main one then
	hs.Handler = newIdentity(a.up.Status()).tag(a.guard(a.routes()))
	a.srv = drain.NewServer(hs, drain.Options{Grace: c.grace})
	return nil
}

// listenPrivate listens on a unix socket that only this user can reach. A socket file that nobody listens on was left
// behind by a process that was killed.
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

// beside runs serve with the admin interface beside it, which ends after it.
func (a *admin) beside(ctx context.Context, serve func(context.Context) error) error {
	if a.srv == nil {
		return serve(ctx)
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	last, end := context.WithCancelCause(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { // ends with last
		err := a.srv.Serve(last, a.ln)
		fail(err) // too late to matter, unless the listener broke
		done <- err
	}()
	slog.Info("admin", "addr", a.addr)
	err := serve(ctx)
	end(context.Cause(ctx)) // it tells a handover from a stop
	return errors.Join(err, <-done)
}

func (a *admin) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", adminPage())
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusOK, adminStatus{a.up.Status(), a.web.Status(), a.cart.Status(), a.flags.Status(), a.judge.Progress()})
	})
	mux.HandleFunc("POST /upgrade", func(w http.ResponseWriter, r *http.Request) {
		switch q := r.URL.Query(); {
		case q.Get("rehearse") != "":
			a.replace(w, r, upgrade.PhaseSmoke, a.up.Rehearse)
		case q.Get("force") != "":
			a.replace(w, r, upgrade.PhaseCommit, a.up.Restart)
		default:
			a.replace(w, r, upgrade.PhaseCommit, a.up.Upgrade)
		}
	})
	mux.HandleFunc("POST /rollback", func(w http.ResponseWriter, r *http.Request) {
		a.replace(w, r, upgrade.PhaseCommit, a.up.Rollback)
	})
	mux.HandleFunc("POST /commit", func(w http.ResponseWriter, r *http.Request) {
		answer(w, upgrade.PhaseCommit, a.up.Commit(), nil)
	})
	mux.HandleFunc("POST /abort", func(w http.ResponseWriter, r *http.Request) {
		answer(w, "", a.up.Abort("asked for over the admin interface"), nil)
	})
	mux.HandleFunc("POST /drain", func(w http.ResponseWriter, r *http.Request) {
		a.stop(errors.New("asked for over the admin interface"))
		writeJSON(w, http.StatusAccepted, adminAnswer{})
	})
	return mux
}

// replace does what leads to another process, and waits for its end; whoever asked may go away.
func (a *admin) replace(w http.ResponseWriter, r *http.Request, done upgrade.Phase, do func(context.Context) error) {
	err := do(context.WithoutCancel(r.Context()))
	answer(w, done, err, a.up.Status().Last)
}

// answer tells how an upgrade ended: 200 as it was meant to, 409 another one is in progress, 422 it was refused before a
// process was started, 500 it was taken back.
func answer(w http.ResponseWriter, done upgrade.Phase, err error, out *upgrade.Outcome) {
	if err == nil {
		writeJSON(w, http.StatusOK, adminAnswer{Phase: done, Outcome: out})
		return
	}
	a, status := adminAnswer{Reason: err.Error()}, http.StatusUnprocessableEntity
	if errors.Is(err, upgrade.ErrInProgress) {
		status = http.StatusConflict
	}
	if e := (*upgrade.Error)(nil); errors.As(err, &e) {
		a = adminAnswer{Phase: e.Phase, Reason: e.Reason, Outcome: out}
		if e.PID != 0 {
			status = http.StatusInternalServerError
		}
	}
	writeJSON(w, status, a)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	noStore(w, "application/json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(v) // a client that has gone needs no answer
}

// guard keeps web pages out that a browser on this machine has open: their scripts can send requests here, but not
// without a foreign Origin, or a foreign name in Host.
func (a *admin) guard(next http.Handler) http.Handler {
	next = http.NewCrossOriginProtection().Handler(next)
	if strings.HasPrefix(a.addr, "unix:") {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !a.allows(hostname(r.Host)) {
			http.Error(w, "admin: Host must be a loopback name or address, or the one that -admin gives", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (a *admin) allows(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback() || host != "" && strings.EqualFold(host, a.name)
}

// hostname is what comes before the port.
func hostname(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return strings.Trim(hostport, "[]")
}

// absolute is path from everywhere, for people who are in another directory.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// curl is how a person reaches the listener from a shell, up to the path; empty if there is none.
func (a *admin) curl() string {
	if path, unix := strings.CutPrefix(a.addr, "unix:"); unix {
		return "curl --unix-socket " + path + " http://admin"
	}
	if a.addr == "" {
		return ""
	}
	return "curl http://" + a.addr
}
