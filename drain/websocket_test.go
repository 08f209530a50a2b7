package drain_test

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/drain"
	"github.com/midair-go/midair/drain/internal/netconn"
)

const (
	askWebSocket = "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
)

// A WebSocket is closed with status 1012, with TLS and without, however its library answers the request (F12). The answer of
// the library to the close of the client does not reach the client, because the client has already got a close.
func TestWebSocketsAreClosedWithServiceRestart(t *testing.T) {
	for name, head := range map[string]func(http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error){"late": lateHead, "early": earlyHead} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " TLS ", secure), func(t *testing.T) {
				srv := &http.Server{Handler: wsEcho(head), TLSConfig: certificate(t)}
				s := prepare(t, srv, drain.Options{Grace: time.Hour})
				dial := func() *client { return s.dialTLS("http/1.1") }
				if secure {
					s.startTLS()
				} else {
					srv.TLSConfig = nil
					s = serve(t, srv, drain.Options{Grace: time.Hour})
					dial = s.dial
				}
				c := socket{dial()}.upgrade()
				c.say(1, "hello")
				if op, text := c.hear(); op != 1 || text != "hello" {
					t.Fatalf("%d %q", op, text)
				}
				if e := s.Entries(); len(e) != 1 || e[0].Protocol != "websocket" || e[0].Name != "GET /ws" {
					t.Errorf("entries %+v", e)
				}
				s.handOver()
				c.restarted()
				s.clean()
			})
		}
	}
}

// A WebSocket is closed also if the listener gives *tls.Conn, so that the server has no wrapper below the TLS.
func TestWebSocketsOfAListenerOfTLSAreClosed(t *testing.T) {
	ln := tlsListener(t)
	s := serveOn(t, ln, &http.Server{Handler: wsEcho(lateHead)}, drain.Options{Grace: time.Hour})
	c := socket{s.dialTLS("http/1.1")}.upgrade()
	s.handOver()
	c.restarted()
	s.clean()
}

// A WebSocket that a proxy passes on is closed too.
func TestWebSocketsOfAProxyAreClosed(t *testing.T) {
	behind := serve(t, &http.Server{Handler: wsEcho(lateHead)}, drain.Options{KeepWebSockets: true})
	to, err := url.Parse("http://" + behind.addr)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}
	s := serve(t, &http.Server{Handler: proxy}, drain.Options{Grace: time.Hour})
	c := socket{s.dial()}.upgrade()
	c.say(1, "through")
	if _, text := c.hear(); text != "through" {
		t.Errorf("got %q", text)
	}
	s.handOver()
	c.restarted()
	s.clean()
	behind.stop()
	behind.clean()
}

// The close is written only after the end of a message of many frames, wherever the library cuts its writes. Messages that the
// library writes after the close are refused.
func TestWebSocketCloseStandsBetweenMessages(t *testing.T) {
	message := "\x01\x03abc" + "\x89\x02hi" + "\x00\x02de" + "\x80\x7e\x00\x80" + strings.Repeat("f", 128) // a PING within
	for cut := 1; cut < len(message); cut++ {
		step, done := make(chan struct{}), make(chan error, 1)
		s := serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			nc, _, err := lateHead(w)
			if err != nil {
				return
			}
			defer nc.Close()
			io.WriteString(nc, message[:cut])
			step <- struct{}{}
			<-step
			io.WriteString(nc, message[cut:])
			_, err = io.WriteString(nc, "\x81\x04late")
			if _, echoed := io.WriteString(nc, "\x88\x02\x03\xf4"); echoed != nil { // the library answers the client's close
				t.Errorf("the answer to a close: %v", echoed)
			}
			done <- err
			io.Copy(io.Discard, nc)
		})}, drain.Options{Grace: time.Hour})
		c := socket{s.dial()}.upgrade()
		<-step
		s.handOver()
		until(t, "the close was asked for", func() bool { return drain.Asked(s.Server) == 1 })
		step <- struct{}{}
		got := make([]byte, len(message))
		if _, err := io.ReadFull(c.r, got); err != nil || string(got) != message {
			t.Fatalf("cut at %d: %q, %v", cut, got, err)
		}
		if op, text := c.hear(); op != 8 || !strings.HasPrefix(text, "\x03\xf4") {
			t.Fatalf("cut at %d: %d %q", cut, op, text)
		}
		if err := <-done; err == nil {
			t.Fatalf("cut at %d: a message after the close was taken", cut)
		}
		c.Close()
		s.clean()
	}
}

// A request for a WebSocket in the drain is refused with a status that says when to come back.
func TestWebSocketsOfADrainAreRefused(t *testing.T) {
	s, c := inDrain(t, wsEcho(lateHead))
	c.send(askWebSocket)
	if a := c.answer(); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || !a.close {
		t.Errorf("answer %+v", a)
	}
	c.closed()
	s.clean()
}

// A request for an upgrade to another protocol is answered in the drain, also if EqualFold takes the name of the protocol as
// equal to websocket.
func TestUpgradesToOtherProtocolsAreNotRefused(t *testing.T) {
	for _, other := range []string{"h2c", "web\u017focket", "websoc\u212aet"} {
		s, c := inDrain(t, echo)
		c.send("GET /other HTTP/1.1\r\nHost: x\r\nUpgrade: " + other + "\r\n\r\n")
		wantBody(t, c.answer(), "/other", true)
		c.closed()
		s.clean()
	}
}

// If the request for a WebSocket comes before the drain and is answered in the drain, the WebSocket is closed after the answer.
func TestWebSocketsThatCrossTheDrainAreClosed(t *testing.T) {
	for name, head := range map[string]func(http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error){"late": lateHead, "early": earlyHead} {
		t.Run(name, func(t *testing.T) {
			entered, on := make(chan struct{}), make(chan struct{})
			s := serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				close(entered)
				<-on
				wsEcho(head)(w, r)
			})}, drain.Options{Grace: time.Hour})
			c := socket{s.dial()}
			c.send(askWebSocket)
			<-entered
			s.handOver()
			s.until("it drains", func() bool { return s.Status().Phase == drain.Draining })
			close(on)
			if res, err := http.ReadResponse(c.r, nil); err != nil || res.StatusCode != http.StatusSwitchingProtocols {
				t.Fatalf("%+v, %v", res, err)
			}
			c.say(1, "x") // after an early answer, the close comes with the next message at the latest
			op, text := c.hear()
			if op == 1 {
				op, text = c.hear()
			}
			if op != 8 || !strings.HasPrefix(text, "\x03\xf4") {
				t.Fatalf("%d %q", op, text)
			}
			c.Close()
			s.clean()
		})
	}
}

// With KeepWebSockets handlers end them as they like.
func TestWebSocketsMayBeKept(t *testing.T) {
	s := serve(t, &http.Server{Handler: wsEcho(lateHead)}, drain.Options{Grace: time.Hour, KeepWebSockets: true})
	c := socket{s.dial()}.upgrade()
	s.handOver()
	s.until("it drains", func() bool { return s.Status().Phase == drain.Draining })
	c.say(1, "on")
	if op, text := c.hear(); op != 1 || text != "on" {
		t.Errorf("%d %q", op, text)
	}
	c.say(8, "\x03\xe8")
	if op, text := c.hear(); op != 8 || text != "\x03\xe8" {
		t.Errorf("%d %q", op, text)
	}
	c.closed()
	s.clean()
}

// Many WebSockets are closed one after the other, in half of Grace at most. A client has five seconds to answer.
func TestWebSocketsAreClosedOverTime(t *testing.T) {
	for n, want := range map[int]time.Duration{11: 100 * time.Millisecond, 2001: 14500 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			b := newBubble(wsEcho(lateHead), drain.Options{})
			first, last := time.Time{}, time.Time{}
			told := make(chan time.Time, n)
			for range n {
				c := newClientUnbound(b.ln.dial())
				go io.WriteString(c, askWebSocket)
				if _, err := http.ReadResponse(c.r, nil); err != nil {
					t.Fatal(err)
				}
				go func() {
					_, text, _ := readMessage(c.r)
					told <- time.Now()
					io.WriteString(c, "\x88\x82\x00\x00\x00\x00"+text[:2])
					io.Copy(io.Discard, c.r)
					c.Close()
				}()
			}
			b.end(upgraded{})
			for range n {
				at := <-told
				if first.IsZero() {
					first = at
				}
				last = at
			}
			if took := last.Sub(first); took < want-want/10 || took > want+want/10 {
				t.Errorf("%d were closed over %v, want %v", n, took, want)
			}
			if err := <-b.done; err != nil {
				t.Error(err)
			}
		})
	}
}

// If a client does not answer the close within five seconds, the server ends the connection.
func TestWebSocketsThatDoNotAnswerEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			nc, _, err := lateHead(w)
			if err != nil {
				return
			}
			defer nc.Close()
			for err == nil || isTimeout(err) { // the library reads again after a timeout, as a library that sends PINGs does
				nc.SetDeadline(time.Now().Add(time.Second))
				_, err = nc.Read(make([]byte, 1))
			}
		}), drain.Options{})
		c := newClientUnbound(b.ln.dial())
		go io.WriteString(c, askWebSocket)
		if _, err := http.ReadResponse(c.r, nil); err != nil {
			t.Fatal(err)
		}
		since := time.Now()
		b.end(upgraded{})
		if op, _, err := readMessage(c.r); op != 8 || err != nil {
			t.Errorf("%d, %v", op, err)
		}
		wantTime(t, "closed", ended(t, c), 5*time.Second)
		if err := <-b.done; err != nil {
			t.Error(err)
		}
		wantTime(t, "drained", time.Since(since), 5*time.Second)
	})
}

// If the client does not answer the close, every method by which a library reads returns an end.
func TestWebSocketsThatDoNotAnswerEndEveryRead(t *testing.T) {
	buf := func() []byte { return make([]byte, 10) }
	for name, way := range map[string]struct {
		network string
		read    func(nc net.Conn) error
	}{
		"Read":         {"tcp", func(nc net.Conn) error { _, err := nc.Read(buf()); return err }},
		"WriteTo":      {"tcp", func(nc net.Conn) error { _, err := nc.(io.WriterTo).WriteTo(io.Discard); return cmp.Or(err, io.EOF) }},
		"ReadFrom":     {"unix", func(nc net.Conn) error { _, _, err := nc.(netconn.Unix).ReadFrom(buf()); return err }},
		"ReadFromUnix": {"unix", func(nc net.Conn) error { _, _, err := nc.(netconn.Unix).ReadFromUnix(buf()); return err }},
		"ReadMsgUnix":  {"unix", func(nc net.Conn) error { _, _, _, _, err := nc.(netconn.Unix).ReadMsgUnix(buf(), nil); return err }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ln := make(chan error, 1), listenOn(t, way.network)
			s := serveOn(t, ln, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if nc, _, err := lateHead(w); err == nil {
					defer nc.Close()
					got <- way.read(nc)
				}
			})}, drain.Options{Grace: time.Second})
			c := socket{dialTo(t, ln.Addr())}.upgrade()
			s.handOver()
			if op, _ := c.hear(); op != 8 {
				t.Errorf("got %d, want a close", op)
			}
			if err := <-got; err != io.EOF {
				t.Errorf("the read ended with %v", err)
			}
			c.ends()
			s.clean()
		})
	}
}

// The close also waits for the end of a message that WriteMsgUnix writes. WriteMsgUnix writes no ancillary data.
func TestWebSocketsSendNothingBesideTheirBytes(t *testing.T) {
	ln, done := listenOn(t, "unix"), make(chan struct{})
	s := serveOn(t, ln, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		nc, _, err := lateHead(w)
		if err != nil {
			return
		}
		defer nc.Close()
		to := nc.(netconn.Unix)
		if n, _, err := to.WriteMsgUnix([]byte("\x81\x02hi"), []byte("beside"), nil); n != 0 || !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("WriteMsgUnix = %d, %v", n, err)
		}
		if n, _, err := to.WriteMsgUnix([]byte("\x01\x02hi"), nil, nil); n != 4 || err != nil {
			t.Errorf("WriteMsgUnix = %d, %v", n, err)
		}
		done <- struct{}{}
		<-done
		to.WriteMsgUnix([]byte("\x80\x01!"), nil, nil)
		io.Copy(io.Discard, nc)
	})}, drain.Options{Grace: time.Hour})
	c := socket{dialTo(t, ln.Addr())}.upgrade()
	<-done
	s.handOver()
	s.until("the close was asked for", func() bool { return drain.Asked(s.Server) == 1 })
	close(done)
	for _, want := range []string{"hi", "!"} {
		if _, text := c.hear(); text != want {
			t.Errorf("got %q, want %q", text, want)
		}
	}
	c.restarted()
	s.clean()
}
