package redisstore_test

import (
	"bytes"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// A proxy is a network between clients and a server. It loses what a test tells it to lose.
type proxy struct {
	addr   string
	target atomic.Value // string: where connections go

	cutEvery atomic.Int64 // the connection is cut after each so many scripts, when the server has answered and before the client knows
	scripts  atomic.Int64
	cuts     atomic.Int64
	onCut    atomic.Pointer[func()] // is called once, when the next connection is cut
	silent   atomic.Bool            // nothing passes, and connections stay open

	mu    sync.Mutex
	conns map[net.Conn]bool
	all   sync.WaitGroup
}

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: ln.Addr().String(), conns: map[net.Conn]bool{}}
	p.target.Store(target)
	p.all.Go(func() { p.accept(ln) })
	t.Cleanup(func() {
		ln.Close()
		p.closeAll()
		p.all.Wait()
	})
	return p
}

// accept ends with the listener.
func (p *proxy) accept(ln net.Listener) {
	for {
		client, err := ln.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target.Load().(string))
		if err != nil {
			client.Close()
			continue
		}
		p.mu.Lock()
		p.conns[client], p.conns[server] = true, true
		p.mu.Unlock()
		var cut atomic.Bool
		p.all.Go(func() { p.pass(client, server, func(b []byte) bool { return p.request(b, &cut) }) })
		p.all.Go(func() { p.pass(server, client, func([]byte) bool { return !cut.Load() }) })
	}
}

// request notes a script, and whether its answer is to be lost.
func (p *proxy) request(b []byte, cut *atomic.Bool) bool {
	if n := p.cutEvery.Load(); n > 0 && bytes.Contains(b, []byte("eval")) && p.scripts.Add(1)%n == 0 {
		cut.Store(true)
	}
	return true
}

// pass copies until one side ends or allow refuses a chunk, and ends both sides then.
func (p *proxy) pass(from, to net.Conn, allow func([]byte) bool) {
	defer p.drop(from)
	defer p.drop(to)
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		switch {
		case err != nil:
			return
		case p.silent.Load():
			_, _ = io.Copy(io.Discard, from) // until the client gives up
			return
		case !allow(b[:n]):
			p.cuts.Add(1)
			if fn := p.onCut.Swap(nil); fn != nil {
				p.cutEvery.Store(0)
				(*fn)()
			}
			return
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

// overtake cuts the connection after the next script, and calls fn before.
func (p *proxy) overtake(fn func()) {
	p.onCut.Store(&fn)
	p.cutEvery.Store(1)
}

func (p *proxy) drop(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	c.Close()
}

func (p *proxy) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}
