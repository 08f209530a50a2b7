//go:build linux

package upgrade_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/midair-go/midair/upgrade"
)

// More ways in which the test service misbehaves: those of settings.Bad that need some code, and those that the admin
// socket asks for while it runs.

// listen opens what the service listens on, on a detour if Bad says so.
func (s *service) listen() (net.Listener, error) {
	open := s.up.Listen
	if s.upgraded && s.set.Bad == "pin" {
		open = s.up.ListenPinned
	}
	if s.set.Systemd {
		return open("systemd", "web")
	}
	ln, err := open(network(s.set), s.set.Addr)
	if err != nil {
		return nil, err
	}
	if s.upgraded {
		return ln, s.listenMore()
	}
	for range map[string]int{"reopen": 1, "reopen twice": 2}[s.set.Bad] {
		addr := ln.Addr()
		ln.Close()
		if ln, err = s.up.Listen(addr.Network(), addr.String()); err != nil {
			return nil, err
		}
	}
	return ln, nil
}

// listenMore opens what only the new release listens on.
func (s *service) listenMore() error {
	switch s.set.Bad {
	case "listen":
		_, err := s.up.Listen("tcp", "127.0.0.1:99999")
		return err
	case "newsock", "check-newsock":
		return s.greet("new.sock")
	}
	return nil
}

// greet accepts on a socket in the service's directory, and hangs up.
func (s *service) greet(name string) error {
	ln, err := s.up.Listen("unix", filepath.Join(s.dir, name))
	if err != nil {
		return err
	}
	go func() { // ends with the process at the latest
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	return nil
}

var errBroken = errors.New("the server is broken")

// What the service says when a test has to know it.
const (
	hasReturned = "serve has returned"
	hangs       = "MarshalBinary hangs"
)

// serving makes serve fail as Bad says, or when the admin socket asks for it.
func (s *service) serving(serve func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		if s.upgraded && s.set.Bad == "serve" {
			return errors.New("the server does not start")
		}
		if s.set.Bake == "listen" || s.set.Bake == "object" {
			go s.publish(ctx)
		}
		if s.set.Bad == "churn" {
			go s.churn(ctx)
		}
		if s.set.Serve == "crash" {
			go s.crash(ctx)
		}
		ctx, s.end = context.WithCancelCause(ctx)
		defer s.end(nil)
		err := serve(ctx)
		if cause := context.Cause(ctx); errors.Is(cause, errBroken) {
			err = errors.Join(err, cause)
		}
		fmt.Fprintln(os.Stderr, hasReturned)
		return err
	}
}

// publish tells the judge of the old process about this one.
func (s *service) publish(ctx context.Context) {
	for ctx.Err() == nil && s.up.Status().State == "candidate" {
		_ = s.up.Publish("news", []byte(fmt.Sprint("from ", os.Getpid()))) // the next one will do
		time.Sleep(time.Millisecond)
	}
}

// churn closes listeners all the time, and opens connections that may get their numbers.
func (s *service) churn(ctx context.Context) {
	for ctx.Err() == nil {
		var open [8]net.Listener
		var conns [len(open)]net.Conn
		var errs [2 * len(open)]error
		for i := range open {
			open[i], errs[i] = s.up.Listen("tcp", "127.0.0.1:0")
		}
		for i, ln := range open {
			if ln != nil {
				ln.Close()
			}
			conns[i], errs[len(open)+i] = net.Dial("unix", filepath.Join(s.dir, "admin.sock"))
		}
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
		if err := errors.Join(errs[:]...); err != nil {
			fmt.Fprintln(os.Stderr, "churn:", err)
			return
		}
	}
}

// inspect returns 9 if this process has inherited somebody's connection, and 7 if it has not.
func inspect() int {
	fds, _ := os.ReadDir("/proc/self/fd")
	for _, e := range fds {
		fd, _ := strconv.Atoi(e.Name())
		kind, _ := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_TYPE)
		if _, err := syscall.Getpeername(fd); err == nil && kind == syscall.SOCK_STREAM {
			return 9
		}
	}
	return 7
}

// spoil adds to the admin socket what makes a running service misbehave.
func (s *service) spoil(mux *http.ServeMux, reply func(http.ResponseWriter, error)) {
	mux.HandleFunc("POST /end", func(w http.ResponseWriter, r *http.Request) {
		s.end(errBroken)
		reply(w, nil)
	})
	mux.HandleFunc("POST /hang", func(w http.ResponseWriter, r *http.Request) {
		s.value.hang.Store(true)
		reply(w, nil)
	})
	mux.HandleFunc("POST /fail", func(w http.ResponseWriter, r *http.Request) {
		s.value.fail.Store(true)
		reply(w, nil)
	})
	mux.HandleFunc("POST /orphan", func(w http.ResponseWriter, r *http.Request) {
		out, err := exec.Command("sh", "-c", "sleep 0.1 >/dev/null 2>&1 & echo $!").Output()
		reply(w, errors.Join(errors.New(strings.TrimSpace(string(out))), err))
	})
	mux.HandleFunc("POST /listen", func(w http.ResponseWriter, r *http.Request) { reply(w, s.greet("late.sock")) })
}

// smoke is the smoke test that the settings ask for.
func smoke(ctx context.Context, c *upgrade.Candidate) error {
	set, _, err := readSettings()
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return c.Dial(ctx) },
	}}
	switch set.Smoke {
	case "error":
		return errors.New("the smoke test finds fault")
	case "panic":
		panic("the smoke test fell over")
	case "forever":
		<-ctx.Done()
		return ctx.Err()
	case "answer":
		return expect(client, "/nothing", c)
	case "add":
		return expect(client, "/add", c)
	case "refusals":
		return refusals(ctx, c)
	case "keep":
		remembered = c
		return nil
	}
	for range 20 { // each with a connection of its own, which stays open
		client.Transport = client.Transport.(*http.Transport).Clone()
		if err := expect(client, "/work", c); err != nil {
			return err
		}
	}
	return nil
}

// remembered is a candidate that its smoke test has remembered.
var remembered *upgrade.Candidate

// expect asks the candidate, and nobody else.
func expect(client *http.Client, path string, c *upgrade.Candidate) error {
	resp, err := client.Post("http://candidate"+path, "", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	by := resp.Header.Get("X-Version")
	if by != fmt.Sprint("g", c.Generation()) || resp.Header.Get("X-Pid") != strconv.Itoa(c.PID()) {
		return fmt.Errorf("%s answers the smoke test of g%d", by, c.Generation())
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the candidate %s answers: %d", by, resp.StatusCode)
	}
	return nil
}

// refusals returns an error if a private connection that cannot be is not refused as it should.
func refusals(ctx context.Context, c *upgrade.Candidate) error {
	conn, err := c.DialListener(ctx, "tcp", "127.0.0.1:1")
	if err == nil {
		conn.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "there is no listener tcp 127.0.0.1:1") {
		return fmt.Errorf("dial to a listener that is not there: %v", err)
	}
	set, _, err := readSettings()
	if err != nil {
		return err
	}
	if conn, err = c.DialListener(ctx, "tcp", set.Addr); err != nil {
		return fmt.Errorf("dial by name: %w", err)
	}
	conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := c.Dial(ctx); !errors.Is(err, context.Canceled) {
		return fmt.Errorf("dial with a context that has ended: %w", err)
	}
	return nil
}
