//go:build linux

package testservice

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/midair-go/midair/upgrade"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// Socket is a socket of the program "listens".
type Socket struct {
	Name, Network, Addr string // a network "pinned" is tcp by ListenPinned
}

// Sockets returns the sockets of the program "listens" in the directory dir: every kind that can be handed on, and several
// of the same address.
func Sockets(dir string) []Socket {
	return []Socket{
		{"first", "tcp", "127.0.0.1:0"},
		{"second", "tcp", "127.0.0.1:0"},
		{"third", "tcp", "127.0.0.1:0"},
		{"any", "tcp", ":0"},
		{"four", "tcp4", "127.0.0.1:0"},
		{"six", "tcp6", "[::1]:0"},
		{"path", "unix", filepath.Join(dir, "sock")},
		{"abstract", "unix", "@midair-test-" + filepath.Base(dir)},
		{"pinned", "pinned", "127.0.0.1:0"},
		{"udp", "udp", "127.0.0.1:0"},
		{"udp too", "udp", "127.0.0.1:0"},
		{"datagram", "unixgram", filepath.Join(dir, "gram")},
	}
}

// listensMain answers on every socket with the names of the socket and of the generation.
func listensMain() error {
	dir := os.Getenv(plan.DirEnv)
	opts := upgrade.Options{Soak: soakOf(dir), PIDFile: filepath.Join(dir, "pid")}
	if exists(filepath.Join(dir, "half")) {
		opts.Bake = halfUntil(filepath.Join(dir, "go"))
	}
	up, err := upgrade.New(opts)
	if err != nil {
		return err
	}
	defer up.Close()
	l := listens{up: up, addrs: map[string]string{}}
	for _, s := range Sockets(dir) {
		if err := l.open(s.Name, s.Network, s.Addr); err != nil {
			return err
		}
	}
	b, _ := json.Marshal(l.addrs)
	if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("addrs", up.Status().Generation)), b, 0o600); err != nil {
		return err
	}
	return up.Run(context.Background(), l.serve)
}

func soakOf(dir string) time.Duration {
	b, _ := os.ReadFile(filepath.Join(dir, "soak"))
	d, err := time.ParseDuration(string(b))
	if err != nil {
		return -1
	}
	return d
}

// halfUntil gives a candidate half of the connections until a file is there.
func halfUntil(path string) func(context.Context, *upgrade.Candidate) error {
	return func(ctx context.Context, c *upgrade.Candidate) error {
		if err := c.SetWeight(0.5); err != nil {
			return err
		}
		for !exists(path) && ctx.Err() == nil {
			<-time.After(10 * time.Millisecond)
		}
		return ctx.Err()
	}
}

type listens struct {
	up    *upgrade.Upgrader
	addrs map[string]string
	run   []func()
	close []func() error
}

func (l *listens) open(name, network, addr string) error {
	if network == "udp" || network == "unixgram" {
		pc, err := l.up.ListenPacket(network, addr)
		if err != nil {
			return err
		}
		l.addrs[name] = pc.LocalAddr().String()
		l.close = append(l.close, pc.Close)
		l.run = append(l.run, func() { l.echo(name, pc) })
		return nil
	}
	listen := l.up.Listen
	if network == "pinned" {
		listen, network = l.up.ListenPinned, "tcp"
	}
	ln, err := listen(network, addr)
	if err != nil {
		return err
	}
	l.addrs[name] = ln.Addr().String()
	l.close = append(l.close, ln.Close)
	l.run = append(l.run, func() { l.accept(name, ln) })
	return nil
}

func (l *listens) answer(name string) []byte {
	return fmt.Appendf(nil, "%s %d\n", name, l.up.Status().Generation)
}

func (l *listens) accept(name string, ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		mustBeNets(c)
		c.Write(l.answer(name))
		c.Close()
	}
}

func (l *listens) echo(name string, pc net.PacketConn) {
	b := make([]byte, 64)
	for {
		_, from, err := pc.ReadFrom(b)
		if err != nil {
			return
		}
		pc.WriteTo(l.answer(name), from)
	}
}

func (l *listens) serve(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, fn := range l.run {
		wg.Go(fn)
	}
	<-ctx.Done()
	for _, fn := range l.close {
		fn()
	}
	wg.Wait()
	return nil
}
