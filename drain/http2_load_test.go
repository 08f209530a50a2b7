package drain_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/midair-go/midair/drain"
)

// Many clients open streams and never retry, while servers take turns on one socket. No stream is lost.
func TestHTTP2LosesNoStreamUnderLoad(t *testing.T) {
	times := 30
	if testing.Short() {
		times = 8
	}
	for name, conf := range map[string]*tls.Config{"cleartext": nil, "TLS": certificate(t)} {
		t.Run(name, func(t *testing.T) {
			dial := func(addr string) (net.Conn, error) { return net.Dial("tcp", addr) }
			if conf != nil {
				dial = func(addr string) (net.Conn, error) {
					return tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
				}
			}
			lost, answered := h2Load(t, times, drainedHTTP2(t, conf), dial)
			t.Logf("%d drains: %d streams answered, %d lost", times, answered, lost)
			if lost > 0 || answered == 0 {
				t.Errorf("%d streams of %d lost", lost, answered)
			}
		})
	}
}

func drainedHTTP2(t testing.TB, conf *tls.Config) func(net.Listener) generation {
	return func(ln net.Listener) generation {
		s := drain.NewServer(&http.Server{Handler: echo, Protocols: both(), TLSConfig: conf.Clone(), ErrorLog: discardLog}, drain.Options{})
		ctx, end := context.WithCancelCause(context.Background())
		done := make(chan error, 1)
		go func() {
			if conf != nil {
				done <- s.ServeTLS(ctx, ln, "", "")
				return
			}
			done <- s.Serve(ctx, ln)
		}()
		return generation{func() {
			end(upgraded{})
			if err := <-done; err != nil {
				t.Errorf("Serve = %v", err)
			}
		}}
	}
}

// h2Load keeps 4 connections with 20 streams each busy, and never opens a lost stream again.
func h2Load(t testing.TB, times int, start func(net.Listener) generation, dial func(string) (net.Conn, error)) (lost, answered int64) {
	base, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	old := start(duplicate(t, base))
	var good, bad atomic.Int64
	ctx, end := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				opened, answered, err := crowd(ctx, func() (net.Conn, error) { return dial(base.Addr().String()) }, &good)
				if err != nil || opened != answered {
					bad.Add(int64(opened - answered + 1))
					t.Logf("%d streams of %d answered, %v", answered, opened, err)
				}
			}
		})
	}
	for range times {
		seen := good.Load() + bad.Load()
		until(t, "the clients work", func() bool { return good.Load()+bad.Load() > seen+200 })
		next := start(duplicate(t, base))
		old.stop()
		old = next
	}
	end()
	wg.Wait()
	old.stop()
	return bad.Load(), good.Load()
}

// crowd keeps 20 streams open on one connection until a GOAWAY comes, and returns how many streams it has opened and how many
// were answered.
func crowd(ctx context.Context, dial func() (net.Conn, error), good *atomic.Int64) (opened, answered int, err error) {
	nc, err := dial()
	if err != nil {
		return 0, 0, err
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(patience))
	r := bufio.NewReader(nc)
	if _, err = io.WriteString(nc, greeting+frame{kind: settings}.String()); err != nil {
		return 0, 0, err
	}
	told := false
	for !told || answered < opened {
		for !told && ctx.Err() == nil && opened-answered < 20 {
			opened++
			if _, err = io.WriteString(nc, get(uint32(2*opened-1), "/load").String()); err != nil {
				return opened, answered, err
			}
		}
		if ctx.Err() != nil && answered == opened {
			return opened, answered, nil
		}
		f, err := readFrame(r)
		switch {
		case err != nil:
			return opened, answered, err
		case f.kind == goAway:
			told = true
		case f.kind == ping && f.flags&ack == 0:
			f.flags = ack
			io.WriteString(nc, f.String())
		case f.kind == data:
			io.WriteString(nc, frame{kind: windowUpdate, payload: "\x00\x00\x00\x05"}.String())
			answered += int(f.flags & endStream)
			good.Add(int64(f.flags & endStream))
		}
	}
	return opened, answered, nil
}
