//go:build linux

package testservice

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// service is a generation of the service.
type service struct {
	parts    Parts
	up       *upgrade.Upgrader
	set      plan.Settings
	dir      string
	upgraded bool
	bad      misbehaviour
	trouble  *trouble
	value    value
	blob     *blob
	lock     *lock
	end      context.CancelCauseFunc // of serve's context
}

// run serves until the service stops or a later generation has taken over.
func (s *service) run() error {
	s.value.refuse, s.value.meets = s.bad.restore, s.trouble
	s.up.Keep("value", &s.value)
	s.blob = keepBlob(s.up, s.set, s.dir, !s.upgraded)
	s.up.Check("good", s.check)
	if s.set.Broadcasts {
		stop := make(chan struct{})
		defer close(stop)
		if err := broadcasts(s.up, s.dir, stop); err != nil {
			return err
		}
	}
	s.lock = holdLock(s.up, s.set.Lock, s.dir, s.bad.acquire, s.trouble)
	ln, err := s.listen()
	if err != nil {
		return err
	}
	admin, err := s.listenAdmin()
	if err != nil {
		return err
	}
	for n := range s.set.Many {
		if err := s.greet(strconv.Itoa(n)); err != nil {
			return err
		}
	}
	if err := s.openPorts(); err != nil {
		return err
	}
	s.beforeListen(string(s.set.Names), filepath.Join(s.dir, "names"))
	names, err := openNames(s.up, s.set.Names, s.dir)
	if err != nil {
		return err
	}
	if err := drop(s.set, plan.DropListening); err != nil {
		return err
	}
	if !s.upgraded { // the later generations have the same address
		if err := os.WriteFile(filepath.Join(s.dir, "addr"), []byte(ln.Addr().String()), 0o600); err != nil {
			return err
		}
	}
	if err := setNoFile(s.set.NoFile); err != nil {
		return err
	}
	j, err := testutil.OpenJournal(filepath.Join(s.dir, "journal")) // open until the end: handlers run on while Run panics
	if err != nil {
		return err
	}
	if s.set.Ignores {
		return s.up.Run(context.Background(), func(context.Context) error {
			go http.Serve(admin, s.admin()) // ends with the process
			return http.Serve(ln, j.Handler(s.handler()))
		})
	}
	srv := s.newServer(j)
	adm := s.parts.NewServer(&http.Server{Handler: s.admin()}, ServerOptions{Grace: grace})
	if s.bad.end != nil {
		defer s.bad.end(s.set.Addr)
	}
	return s.up.Run(context.Background(), s.serving(func(ctx context.Context) error {
		done := make(chan error, 1)
		go func() { done <- adm.Serve(ctx, admin) }() // ends with ctx
		named := names.serve(ctx)
		return errors.Join(srv.Serve(ctx, ln), <-done, <-named)
	}))
}

func (s *service) check(ctx context.Context) error {
	startHelper(plan.HelperOfCheck)
	s.trouble.meet(plan.InCheck)
	if s.bad.check == nil {
		return nil
	}
	return s.bad.check(ctx, s)
}

// listen opens the main listener.
func (s *service) listen() (net.Listener, error) {
	open := s.up.Listen
	if s.bad.pinned {
		open = s.up.ListenPinned
	}
	if s.set.Systemd {
		return open("systemd", "web")
	}
	s.beforeListen(s.set.Network, s.set.Addr)
	ln, err := open(cmp.Or(s.set.Network, "tcp"), s.set.Addr)
	if err != nil || s.bad.listen == nil {
		return ln, err
	}
	return s.bad.listen(s, ln)
}

func (s *service) listenAdmin() (net.Listener, error) {
	if s.set.Systemd {
		return s.up.ListenPinned("systemd", "admin")
	}
	return s.up.ListenPinned("unix", filepath.Join(s.dir, "admin.sock"))
}

// beforeListen is not for the admin socket, which tests ask all the time.
func (s *service) beforeListen(network, path string) {
	if strings.HasPrefix(network, "unix") && s.bad.open != nil {
		s.bad.open(path)
	}
}

// openPorts listens on many ports, and on as many unix sockets with long paths.
func (s *service) openPorts() error {
	var addrs []string
	for n := range s.set.Ports {
		ln, err := s.greetOn("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		path := plan.LongPath(s.dir, n)
		if _, err := s.greetOn("unix", path); err != nil {
			return err
		}
		addrs = append(addrs, ln.Addr().String(), path)
	}
	if len(addrs) == 0 {
		return nil
	}
	return os.WriteFile(filepath.Join(s.dir, "ports"), []byte(strings.Join(addrs, "\n")), 0o600)
}

// greet accepts on a socket in the service's directory, and closes each connection.
func (s *service) greet(name string) error {
	_, err := s.greetOn("unix", filepath.Join(s.dir, name))
	return err
}

func (s *service) greetOn(network, addr string) (net.Listener, error) {
	ln, err := s.up.Listen(network, addr)
	if err != nil {
		return nil, err
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
	return ln, nil
}

// newServer returns the server of the main listener.
func (s *service) newServer(j *testutil.Journal) Server {
	opts := ServerOptions{Grace: grace, IdleGrace: s.set.IdleGrace, Move: s.up.Move, Rebalance: s.up.Rebalance(), Hurry: s.up.Hurry()}
	if s.set.NoMove {
		opts.Move = nil
	}
	hs := &http.Server{Handler: j.Handler(s.handler()), ConnContext: func(ctx context.Context, c net.Conn) context.Context {
		mustBeNets(c)
		return context.WithValue(ctx, connKey{}, c)
	}}
	if !s.set.NoNotes {
		hs.ConnState = noteAccepted(s.dir)
	}
	hs.ReadTimeout, hs.ReadHeaderTimeout, hs.IdleTimeout = s.set.ReadTimeout, s.set.HeaderTimeout, s.set.IdleTimeout
	if s.set.H2C {
		hs.Protocols = new(http.Protocols)
		hs.Protocols.SetHTTP1(true)
		hs.Protocols.SetUnencryptedHTTP2(true)
	}
	return s.parts.NewServer(hs, opts)
}

// connKey is the key of the connection in the context of a request.
type connKey struct{}

// mustBeNets does what many programs do: they take for granted which type package net has.
func mustBeNets(c net.Conn) {
	if c.LocalAddr().Network() == "unix" {
		_ = c.(*net.UnixConn)
		return
	}
	_ = c.(*net.TCPConn)
}

// noteAccepted writes down from where connections come, before the first byte is read.
func noteAccepted(dir string) func(net.Conn, http.ConnState) {
	path := plan.AcceptedBy(dir, os.Getpid())
	made := os.MkdirAll(filepath.Dir(path), 0o700)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err := errors.Join(made, err); err != nil {
		fmt.Fprintln(os.Stderr, "accepted:", err) // the test misses what would be there
	}
	return func(c net.Conn, state http.ConnState) {
		if state == http.StateNew {
			fmt.Fprintln(f, c.RemoteAddr())
		}
	}
}

var errBroken = errors.New("the server is broken")

// serving makes serve fail as the settings say, or on a request to the admin socket.
func (s *service) serving(serve func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		s.trouble.meet(plan.InServe)
		if s.bad.serve != nil {
			if err := s.bad.serve(ctx, s); err != nil {
				return err
			}
		}
		if s.set.Bake == plan.BakeHearsNews || s.set.Bake == plan.BakeRejectNews {
			go publishNews(ctx, s.up) // ends with ctx
		}
		if s.set.BadBuildCrashes {
			go crashIfBad(ctx, s.up) // ends with ctx
		}
		ctx, s.end = context.WithCancelCause(ctx)
		defer s.end(nil)
		err := serve(ctx)
		if cause := context.Cause(ctx); errors.Is(cause, errBroken) {
			err = errors.Join(err, cause)
		}
		if !s.set.Quiet {
			fmt.Fprintln(os.Stderr, plan.SaysServeReturned)
		}
		return err
	}
}

// crashIfBad ends the build "bad" a moment after the commit, when the old process knows of the commit.
func crashIfBad(ctx context.Context, up *upgrade.Upgrader) {
	if build, err := plan.BuildOf(os.Getpid()); err != nil || build != "bad" {
		return
	}
	var since time.Time
	for since.IsZero() || time.Since(since) < 50*time.Millisecond {
		if since.IsZero() && up.Status().State == "serving" {
			since = time.Now()
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return
		}
	}
	fmt.Fprintln(os.Stderr, "this build is bad: generation", up.Status().Generation)
	os.Exit(3)
}
