//go:build linux

package loss

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// startRelay passes connections on to an address, and holds every byte back for half of a round trip. It returns its own
// address. The end of one side and a reset are passed on too.
func startRelay(t *testing.T, to string, rtt time.Duration) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			running.Go(func() { relay(c.(*net.TCPConn), to, rtt/2) })
		}
	})
	t.Cleanup(func() { ln.Close(); running.Wait() })
	return ln.Addr().String()
}

func relay(client *net.TCPConn, to string, delay time.Duration) {
	defer client.Close()
	c, err := net.Dial("tcp", to)
	if err != nil {
		_ = client.SetLinger(0)
		return
	}
	service := c.(*net.TCPConn)
	defer service.Close()
	var ways sync.WaitGroup
	ways.Go(func() { oneWay(service, client, delay) })
	ways.Go(func() { oneWay(client, service, delay) })
	ways.Wait()
}

// parcel is what was read at once, and when it is due.
type parcel struct {
	due time.Time
	b   []byte
	err error
}

func oneWay(dst, src *net.TCPConn, delay time.Duration) {
	way := make(chan parcel, 4096)
	go func() { // ends when src does
		defer close(way)
		buf := make([]byte, 64<<10)
		for {
			n, err := src.Read(buf)
			way <- parcel{time.Now().Add(delay), append([]byte(nil), buf[:n]...), err}
			if err != nil {
				return
			}
		}
	}()
	for p := range way {
		time.Sleep(time.Until(p.due))
		if len(p.b) > 0 {
			_, _ = dst.Write(p.b) // what cannot be delivered is lost, as on a network
		}
		switch p.err {
		case nil:
		case io.EOF:
			_ = dst.CloseWrite()
		default:
			_ = dst.SetLinger(0)
			dst.Close()
		}
	}
}
