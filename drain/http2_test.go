package drain_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/drain"
)

// both returns the protocols of a server that serves HTTP/2 with and without TLS.
func both() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	return p
}

// overBoth runs test with TLS and without TLS. The function that test gets as the last argument makes a connection.
func overBoth(t *testing.T, srv func() *http.Server, opts drain.Options, test func(*testing.T, *service, func() *client)) {
	t.Run("TLS", func(t *testing.T) {
		h := srv()
		h.TLSConfig = certificate(t)
		s := prepare(t, h, opts)
		s.startTLS()
		test(t, s, func() *client { return s.dialTLS("h2") })
	})
	t.Run("cleartext", func(t *testing.T) {
		h := srv()
		h.Protocols = both()
		s := serve(t, h, opts)
		test(t, s, s.dial)
	})
}

const everyStream = 1<<31 - 1

// The client of an HTTP/2 connection gets two GOAWAYs (F8). Streams that it opens before it has read the first are answered,
// whether or not there was a stream before.
func TestHTTP2StreamsThatCrossTheGoAwayAreAnswered(t *testing.T) {
	overBoth(t, func() *http.Server { return &http.Server{Handler: echo} }, drain.Options{}, func(t *testing.T, s *service, dial func() *client) {
		used, unused := h2(dial()), h2(dial())
		used.open(1, "/before")
		if got := used.body(t, 1); got != "/before" {
			t.Errorf("got %q", got)
		}
		s.until("both idle", func() bool { return s.Status().Idle == 2 })
		s.handOver()
		for stream, c := range map[uint32]h2client{3: used, 1: unused} {
			if f := c.await(goAway); f.last() != everyStream {
				t.Errorf("the first GOAWAY is of stream %d", f.last())
			}
			question := c.await(ping)
			c.open(stream, "/crossing")
			if got := c.body(t, stream); got != "/crossing" {
				t.Errorf("got %q", got)
			}
			c.pong(question)
			if f := c.await(goAway); f.last() != stream {
				t.Errorf("the last GOAWAY is of stream %d, want %d", f.last(), stream)
			}
			c.ends()
		}
		s.clean()
		if got := s.Status().HTTP2; got != "two steps" {
			t.Errorf("status: %q", got)
		}
	})
}

// A stream that is open when the GOAWAYs are sent is finished, and after that the connection is closed.
func TestHTTP2StreamsOutliveBothGoAways(t *testing.T) {
	g := newGate()
	overBoth(t, func() *http.Server { return &http.Server{Handler: g} }, drain.Options{}, func(t *testing.T, s *service, dial func() *client) {
		g.open = make(chan struct{})
		c := h2(dial())
		c.open(1, "/slow")
		<-g.entered
		s.handOver()
		c.await(goAway)
		c.pong(c.await(ping))
		close(g.open)
		if got := c.body(t, 1); got != "/slow" {
			t.Errorf("got %q", got)
		}
		if f := c.await(goAway); f.last() != 1 {
			t.Errorf("the last GOAWAY is of stream %d", f.last())
		}
		c.ends()
		s.clean()
	})
}

// A connection whose handshake ends after the drain has listed the connections gets the GOAWAYs too, and does not hold up the
// drain (F9, golang/go#81153). A client that sends nothing after the handshake does not hold up the drain either.
func TestHTTP2ConnectionsThatComeLateEnd(t *testing.T) {
	for name, says := range map[string]string{"greets": greeting + frame{kind: settings}.String(), "silent": ""} {
		t.Run(name, func(t *testing.T) {
			shaking, on := make(chan struct{}), make(chan struct{})
			conf := certificate(t)
			cert := conf.Certificates[0]
			conf.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
				close(shaking)
				<-on
				return &cert, nil
			}
			conf.Certificates = nil
			s := prepare(t, &http.Server{Handler: echo, TLSConfig: conf}, drain.Options{})
			s.startTLS()
			ended := make(chan error, 1)
			go func() {
				nc, err := tls.Dial("tcp", s.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
				if err != nil {
					ended <- err
					return
				}
				defer nc.Close()
				io.WriteString(nc, says)
				_, err = io.Copy(io.Discard, nc)
				ended <- err
			}()
			<-shaking
			s.handOver()
			since := time.Now()
			close(on)
			s.clean()
			took := time.Since(since)
			t.Logf("drained in %v", took)
			if took > 4*time.Second { // 2 s is the promise; IdleGrace would be 5 s, the hang of net/http 30 s
				t.Errorf("the drain took %v", took)
			}
			if err := <-ended; err != nil {
				t.Errorf("the client: %v", err)
			}
		})
	}
}

// If the client of an HTTP/2 connection without a stream answers the PING, the connection ends after 0.3 seconds. If the client
// does not answer, the connection ends after 0.8 seconds if there never was a stream, and otherwise after five seconds.
func TestHTTP2ConnectionsThatDoNotAnswerAreGivenTime(t *testing.T) {
	for name, c := range map[string]struct {
		stream, pong bool
		want         time.Duration
	}{
		"answers":               {stream: true, pong: true, want: 300 * time.Millisecond},
		"never used, is mute":   {want: 800 * time.Millisecond},
		"was used, and is mute": {stream: true, want: 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := bubbleOf(&http.Server{Handler: echo, Protocols: both()}, drain.Options{})
				b.run(b.Serve)
				cl := newClientUnbound(b.ln.dial())
				cl.t = t
				conn := h2client{cl}
				go io.WriteString(conn, greeting+frame{kind: settings}.String())
				conn.await(settings)
				if c.stream {
					conn.open(1, "/made")
					conn.body(t, 1)
				}
				synctest.Wait()
				time.Sleep(time.Second)
				since := time.Now()
				b.end(upgraded{})
				conn.await(goAway)
				if f := conn.await(ping); c.pong {
					conn.pong(f)
				}
				conn.await(goAway)
				conn.ends()
				wantTime(t, "the end came", time.Since(since), c.want)
				if err := <-b.done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A recorder is a connection that records all bytes written to it. It has no other use.
type recorder struct {
	net.Conn
	bytes.Buffer
}

func (r *recorder) Write(p []byte) (int, error) { return r.Buffer.Write(p) }
func (r *recorder) Read(p []byte) (int, error)  { return r.Buffer.Read(p) }

// The first GOAWAY is written between two frames, and never into a block of headers, wherever net/http cuts its writes.
func TestHTTP2GoAwayStandsBetweenFrames(t *testing.T) {
	parts := []frame{
		{kind: settings, payload: "123456"},
		{headers, endHeaders, 1, "abc"},
		{headers, 0, 3, "a block in"}, {continuation, 0, 3, "three"}, {continuation, endHeaders, 3, "parts"},
		{data, endStream, 1, strings.Repeat("x", 300)}, {kind: ping, payload: "12345678"},
	}
	var all string
	legal := map[int]bool{}
	for _, f := range parts {
		all += f.String()
		if f.kind != headers && f.kind != continuation || f.flags&endHeaders != 0 {
			legal[len(all)] = true
		}
	}
	for first := range len(all) + 1 {
		for _, second := range []int{first, min(first+1, len(all)), (first + len(all)) / 2, len(all)} {
			out := new(recorder)
			to, announce := drain.Framed(out)
			io.WriteString(to, all[:first])
			announce()
			io.WriteString(to, all[first:second])
			io.WriteString(to, all[second:])
			got := out.String()
			at := strings.Index(got, drain.FirstGoAway)
			if at < 0 || !legal[at] || at < first {
				t.Fatalf("cut at %d and %d: it stands at %d", first, second, at)
			}
			if got[:at]+got[at+len(drain.FirstGoAway):] != all {
				t.Fatalf("cut at %d and %d: the frames of net/http have changed", first, second)
			}
		}
	}
}

// Over a real connection too, a drain writes no frame into a block of headers of many frames.
func TestHTTP2LongHeadersSurviveTheGoAway(t *testing.T) {
	long := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Long", strings.Repeat("long ", 20_000))
		echo(w, r)
	})
	overBoth(t, func() *http.Server { return &http.Server{Handler: long} }, drain.Options{}, func(t *testing.T, s *service, dial func() *client) {
		c := h2(dial())
		for stream := range uint32(50) {
			c.open(2*stream+1, "/long")
		}
		c.await(headers)
		s.handOver()
		bodies, told, in := 0, false, false
		for bodies < 50 || !told {
			f, err := readFrame(c.r)
			if err != nil {
				t.Fatalf("after %d answers: %v", bodies, err)
			}
			if in && f.kind != continuation {
				t.Fatalf("a frame of kind %d within a block of headers", f.kind)
			}
			in = (f.kind == headers || f.kind == continuation) && f.flags&endHeaders == 0
			if f.kind == data && f.flags&endStream != 0 {
				bodies++
			}
			told = told || f.kind == goAway
		}
		c.Close()
		s.clean()
	})
}

// A handler finds the same data about its connection as without drain: TLS, both contexts of the user, the server, the
// addresses.
func TestHTTP2KeepsWhatHandlersKnow(t *testing.T) {
	type key string
	var local atomic.Value
	srv := func() *http.Server {
		h := &http.Server{
			BaseContext: func(net.Listener) context.Context {
				return context.WithValue(context.Background(), key("base"), "base")
			},
			ConnContext: func(ctx context.Context, nc net.Conn) context.Context {
				local.Store(nc.RemoteAddr().String())
				return context.WithValue(ctx, key("conn"), fmt.Sprintf("%T", nc))
			},
		}
		h.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx := r.Context()
			fmt.Fprint(w, r.Proto, r.TLS != nil && r.TLS.NegotiatedProtocol == "h2", ctx.Value(key("base")), ctx.Value(key("conn")),
				ctx.Value(http.ServerContextKey) == h, r.RemoteAddr == local.Load())
		})
		return h
	}
	overBoth(t, srv, drain.Options{}, func(t *testing.T, s *service, dial func() *client) {
		c := h2(dial())
		c.open(1, "/")
		want := "HTTP/2.0" + "false" + "base" + "*net.TCPConn" + "true true"
		if t.Name() == "TestHTTP2KeepsWhatHandlersKnow/TLS" {
			want = "HTTP/2.0" + "true" + "base" + "*tls.Conn" + "true true"
		}
		got := strings.ReplaceAll(c.body(t, 1), " ", "")
		if got != strings.ReplaceAll(want, " ", "") {
			t.Errorf("the handler sees %q, want %q", got, want)
		}
		c.Close()
		s.stop()
		s.clean()
	})
}

// If the user has set TLSNextProto, the function for "h2" stays. Then the end is announced in one step, and the Status says so.
func TestHTTP2OfTheUserIsLeftAlone(t *testing.T) {
	called := make(chan struct{})
	conf := certificate(t)
	conf.NextProtos = []string{"h2"}
	s := prepare(t, &http.Server{Handler: echo, TLSConfig: conf, TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){
		"h2": func(_ *http.Server, c *tls.Conn, _ http.Handler) { close(called); c.Close() },
	}}, drain.Options{})
	s.startTLS()
	c := s.dialTLS("h2")
	<-called
	c.closed()
	if got := s.Status().HTTP2; got != "one step" {
		t.Errorf("status: %q", got)
	}
	s.stop()
	s.clean()
}

// A stream that is still open after the five seconds for the first step is finished too: net/http sends its GOAWAY while the
// stream is open.
func TestHTTP2StreamsOutliveTheTimeToAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bubbleOf(&http.Server{Protocols: both(), Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(8 * time.Second)
			io.WriteString(w, "long")
		})}, drain.Options{})
		b.run(b.Serve)
		cl := newClientUnbound(b.ln.dial())
		cl.t = t
		c := h2client{cl}
		go io.WriteString(c, greeting+frame{kind: settings}.String())
		c.await(settings)
		c.open(1, "/long")
		since := time.Now()
		b.end(upgraded{})
		c.await(goAway)
		c.pong(c.await(ping))
		if f := c.await(goAway); f.last() != 1 {
			t.Errorf("the last GOAWAY is of stream %d", f.last())
		}
		wantTime(t, "it was told", time.Since(since), 5*time.Second)
		if got := c.body(t, 1); got != "long" {
			t.Errorf("got %q", got)
		}
		c.ends()
		if err := <-b.done; err != nil {
			t.Error(err)
		}
	})
}
