package sqlstore

import (
	"bytes"
	"net"
	"sync"
	"testing"
)

// A proxy is between a store and its server.
type proxy struct {
	addr   string
	target string
	ln     net.Listener
	work   sync.WaitGroup

	mu     sync.Mutex
	marker []byte // cuts a connection whose client has sent this, before the answer
	more   int    // how many connections are still to be cut
	cuts   int    // how many connections were cut
	onCut  func() // called before a connection is cut
	thaw   chan struct{}
	conns  map[net.Conn]bool
}

func startProxy(t testing.TB, target string) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	x := &proxy{addr: ln.Addr().String(), target: target, ln: ln, conns: map[net.Conn]bool{}}
	x.work.Go(x.accept)
	t.Cleanup(func() {
		x.Thaw()
		ln.Close()
		x.cutAll()
		x.work.Wait()
	})
	return x
}

func (x *proxy) accept() {
	for {
		client, err := x.ln.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", x.target)
		if err != nil {
			client.Close()
			continue
		}
		x.mu.Lock()
		x.conns[client], x.conns[server] = true, true
		x.mu.Unlock()
		p := &pipe{x: x, client: client, server: server}
		x.work.Go(func() { p.copy(server, client, p.request) })
		x.work.Go(func() { p.copy(client, server, p.answer) })
	}
}

// A pipe is a connection through the proxy.
type pipe struct {
	x              *proxy
	client, server net.Conn
	marked         bool // under the lock of the proxy
}

// copy forwards until one side closes, or pass returns false.
func (p *pipe) copy(to, from net.Conn, pass func([]byte) bool) {
	defer p.client.Close()
	defer p.server.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		p.x.wait()
		if n > 0 && !pass(buf[:n]) {
			return
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// request looks for the marker.
func (p *pipe) request(data []byte) bool {
	p.x.mu.Lock()
	defer p.x.mu.Unlock()
	if p.x.more > 0 && bytes.Contains(data, p.x.marker) {
		p.x.more--
		p.marked = true
	}
	return true
}

// answer is false if the request was marked: the server has executed it, and nobody learns that.
func (p *pipe) answer([]byte) bool {
	p.x.mu.Lock()
	marked, onCut := p.marked, p.x.onCut
	if marked {
		p.x.cuts++
	}
	p.x.mu.Unlock()
	if marked && onCut != nil {
		onCut()
	}
	return !marked
}

// Cut drops the answers to the next requests with the marker, and the connections of these requests.
func (x *proxy) Cut(marker string, times int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.marker, x.more = []byte(marker), times
}

// Cuts is how many connections were cut.
func (x *proxy) Cuts() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.cuts
}

// Freeze stops forwarding: connections stay open, and nothing arrives.
func (x *proxy) Freeze() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.thaw = make(chan struct{})
}

// Thaw goes on where Freeze stopped.
func (x *proxy) Thaw() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.thaw != nil {
		close(x.thaw)
		x.thaw = nil
	}
}

func (x *proxy) wait() {
	x.mu.Lock()
	thaw := x.thaw
	x.mu.Unlock()
	if thaw != nil {
		<-thaw
	}
}

// cutAll closes all connections.
func (x *proxy) cutAll() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for c := range x.conns {
		c.Close()
	}
}
