// Package failing makes a program a bad release, in one of the ways in which releases are bad, so that upgrades can be
// tried that must not succeed.
package failing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/midair-go/midair/upgrade"
)

// Mode is a way to be bad, as a flag such as "errors=0.2". The zero value is a good release. Most modes act only in a process
// that is an upgrade; errors, slow, panic, cart-errors and cart-crash act in every process.
type Mode struct {
	name     string // empty: a good release
	delay    time.Duration
	share    float64
	most     int64 // requests, before the process is killed
	upgraded bool  // this process is an upgrade
	up       *upgrade.Upgrader
	leaked   *leak
}

// modes are the names, and an example of the value behind an equals sign.
var modes = []struct{ name, needs string }{
	{"start", ""}, {"check", ""}, {"hang", ""}, {"after-ready", ""}, {"leak-fd", ""},
	{"after-commit", "2s"}, {"slow", "200ms"}, {"errors", "0.2"}, {"panic", "0.1"}, {"cart-errors", "0.02"}, {"cart-crash", "0.01"},
	{"leak-memory", "1000"},
}

// Names lists all modes, with an example of a value for each mode that needs a value.
func Names() string {
	var names []string
	for _, m := range modes {
		names = append(names, strings.TrimSuffix(m.name+"="+m.needs, "="))
	}
	return strings.Join(names, ", ")
}

// String returns the name.
func (m *Mode) String() string { return m.name }

// Set reads "name" or "name=value".
func (m *Mode) Set(s string) error {
	*m = Mode{}
	if s == "" {
		return nil
	}
	name, value, valued := strings.Cut(s, "=")
	for _, known := range modes {
		if known.name != name {
			continue
		}
		m.name = name
		if valued != (known.needs != "") {
			return fmt.Errorf("%q: want it like %q", s, strings.TrimSuffix(name+"="+known.needs, "="))
		}
		return m.setValue(value)
	}
	return fmt.Errorf("%q is none of %s", s, Names())
}

func (m *Mode) setValue(value string) (err error) {
	switch m.name {
	case "after-commit", "slow":
		if m.delay, err = time.ParseDuration(value); err == nil && m.delay < 0 {
			err = errors.New("negative")
		}
	case "leak-memory":
		if m.most, err = strconv.ParseInt(value, 10, 64); err == nil && m.most <= 0 {
			err = errors.New("not above 0")
		}
	case "errors", "panic", "cart-errors", "cart-crash":
		if m.share, err = strconv.ParseFloat(value, 64); err == nil && !(m.share >= 0 && m.share <= 1) {
			err = errors.New("not between 0 and 1")
		}
	}
	if err != nil {
		return fmt.Errorf("%s=%s: %w", m.name, value, err)
	}
	return nil
}

// BeforeNew has the faults before the first message to the old process. At this point only the environment shows whether the
// process is an upgrade.
func (m *Mode) BeforeNew() {
	if os.Getenv("TABLEFLIP_HAS_PARENT_7DIU3") == "" {
		return
	}
	switch m.name {
	case "start":
		die("fails at its start")
	case "hang":
		time.Sleep(time.Hour) // not for ever: nobody should have to look for it
		die("has hung for an hour")
	}
}

func die(how string) {
	slog.Error("this release is bad", "how", how)
	os.Exit(7)
}

// AfterNew adds the faults of the checks.
func (m *Mode) AfterNew(up *upgrade.Upgrader) {
	m.up, m.leaked, m.upgraded = up, new(leak), up.Status().Generation > 1
	if m.name == "check" && m.upgraded {
		up.Check("self-test", func(context.Context) error { return errors.New("this release is bad: it fails its own check") })
	}
}

// Listener returns ln, or a listener that ends the process.
func (m *Mode) Listener(ctx context.Context, ln net.Listener) net.Listener {
	switch {
	case !m.upgraded:
	case m.name == "after-ready":
		return doomed{ln}
	case m.name == "after-commit":
		go m.dieAfterCommit(ctx) // ends with ctx
	}
	return ln
}

// doomed is a listener whose process ends a moment after the first call of Accept. The call makes the process prepared. Accept
// takes no connection, because of a deadline in the past, so no request is lost.
type doomed struct{ net.Listener }

// Accept ends the process, or returns the error of a closed listener.
func (d doomed) Accept() (net.Conn, error) {
	if l, ok := d.Listener.(interface{ SetDeadline(time.Time) error }); ok {
		_ = l.SetDeadline(time.Unix(1, 0)) // fails if it is closed, and so does Accept
	}
	conn, err := d.Listener.Accept()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		time.Sleep(10 * time.Millisecond)
		die("exits right after it was prepared")
	}
	return conn, err
}

func (m *Mode) dieAfterCommit(ctx context.Context) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var end <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if m.up.Status().State == "serving" {
				tick.Stop()
				end = time.After(m.delay)
			}
		case <-end:
			die("exits " + m.delay.String() + " after the commit")
		}
	}
}

// Middleware adds the faults of requests over HTTP. Probes are spared: such a release looks healthy from outside.
func (m *Mode) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "z") {
			if err := m.Request(r.Context()); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// Request adds the faults of a request: Request waits, panics, leaks, or returns the error for the client.
func (m *Mode) Request(ctx context.Context) error {
	switch hit := rand.Float64() < m.share; {
	case m.name == "slow":
		select {
		case <-time.After(m.delay):
		case <-ctx.Done(): // a client that has gone needs no answer
		}
	case m.name == "panic" && hit:
		panic("this release is bad: it panics")
	case m.name == "errors" && hit:
		return errors.New("this release is bad: it answers with errors")
	case m.name == "leak-fd" && m.upgraded:
		m.leaked.another()
	case m.name == "leak-memory" && m.upgraded:
		m.leaked.memory(m.most)
	}
	return nil
}

// Cart adds the faults of the new cart.
func (m *Mode) Cart(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch hit := rand.Float64() < m.share; {
		case m.name == "cart-errors" && hit:
			http.Error(w, "this cart is bad: it answers with errors", http.StatusInternalServerError)
			return
		case m.name == "cart-crash" && hit:
			go panic("this cart is bad: it panics in a goroutine") // which ends the process
			<-r.Context().Done()
		}
		next.ServeHTTP(w, r)
	})
}

// leak keeps useless descriptors and memory.
type leak struct {
	mu    sync.Mutex
	files []*os.File // without this the garbage collector would close them
	pages [][]byte
}

// memory keeps a page of memory for each request. At the last request, the process ends as if the kernel had killed it for lack
// of memory.
func (l *leak) memory(most int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pages = append(l.pages, make([]byte, 4096))
	if int64(len(l.pages)) < most {
		return
	}
	slog.Error("this release is bad", "how", "leaks memory, and is killed")
	if p, err := os.FindProcess(os.Getpid()); err == nil {
		_ = p.Kill() // cannot fail for this process
	}
	select {} // the process is killed
}

func (l *leak) another() {
	f, err := os.Open(os.DevNull)
	if err != nil {
		return // that is what it is for
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.files = append(l.files, f)
}
