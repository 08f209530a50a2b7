//go:build linux

package loss

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"golang.org/x/net/http2"
)

// A wire passes HTTP/2 connections on as they are, and counts the streams that their client opens. With TLS it ends the
// client's, and has one of its own with the service.
type wire struct {
	net.Listener
	dial    func() (net.Conn, error)
	running sync.WaitGroup
	opened  atomic.Int64
}

func startWire(scheme, to string) (*wire, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &wire{Listener: ln, dial: func() (net.Conn, error) { return net.Dial("tcp", to) }}
	if scheme == "https" {
		config, err := selfSigned()
		if err != nil {
			ln.Close()
			return nil, err
		}
		config.NextProtos = []string{"h2"}
		w.Listener = tls.NewListener(ln, config)
		w.dial = func() (net.Conn, error) {
			return tls.Dial("tcp", to, &tls.Config{InsecureSkipVerify: true, NextProtos: config.NextProtos})
		}
	}
	w.running.Go(func() {
		for {
			c, err := w.Accept()
			if err != nil {
				return
			}
			w.running.Go(func() { w.pass(c) })
		}
	})
	return w, nil
}

// end waits for the end of all connections, and says how many streams there were.
func (w *wire) end() int {
	w.Close()
	w.running.Wait()
	return int(w.opened.Load())
}

func (w *wire) pass(client net.Conn) {
	defer client.Close()
	service, err := w.dial()
	if err != nil {
		return
	}
	defer service.Close()
	var ways sync.WaitGroup
	ways.Go(func() { w.count(io.TeeReader(client, service)); closeWrite(service) })
	ways.Go(func() { _, _ = io.Copy(client, service); closeWrite(client) })
	ways.Wait()
}

func closeWrite(c net.Conn) { _ = c.(interface{ CloseWrite() error }).CloseWrite() }

// count reads until the end.
func (w *wire) count(r io.Reader) {
	in := bufio.NewReader(r)
	_, _ = in.Discard(len(http2.ClientPreface)) // an error comes again
	for frames := http2.NewFramer(nil, in); ; {
		f, err := frames.ReadFrame()
		if err != nil {
			break
		}
		if f.Header().Type == http2.FrameHeaders {
			w.opened.Add(1)
		}
	}
	_, _ = io.Copy(io.Discard, in)
}
