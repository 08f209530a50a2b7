package request_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"net/textproto"
	"net/url"
	"testing"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/internal/request"
)

// front starts a server with the whole stack around a reverse proxy to a backend. The Writer of each answer goes to seen.
func front(t *testing.T, h2 bool, backend http.HandlerFunc) (addr string, ask func(ctx context.Context) *http.Response, seen chan *request.Writer) {
	t.Helper()
	s := newStack(t)
	back, err := url.Parse(start(t, false, backend).URL)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(back) }, Transport: transport, FlushInterval: -1,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	seen = make(chan *request.Writer, 1)
	observer := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer func() { seen <- request.WriterOf(w) }()
			next.ServeHTTP(w, r)
		})
	}
	server := start(t, h2, chain(proxy, s.sm.Middleware, observer, s.router(canary.Options{})))
	return server.Listener.Addr().String(), func(ctx context.Context) *http.Response {
		r, _ := http.NewRequestWithContext(ctx, "GET", server.URL, nil)
		res, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { res.Body.Close() })
		return res
	}, seen
}

func wantCookie(t *testing.T, h http.Header) {
	t.Helper()
	if len(h["Set-Cookie"]) != 1 || h.Get("Cache-Control") != "private" {
		t.Errorf("header of the answer: %v", h)
	}
}

// A proxy behind the stack streams: the client has the first part of the body before the backend makes the second, and then
// the trailers. The cookie is in the header.
func TestAProxiedStreamArrivesInParts(t *testing.T) {
	for version, h2 := range versions {
		t.Run(version, func(t *testing.T) {
			more := make(chan struct{})
			_, ask, seen := front(t, h2, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Trailer", "Sum")
				io.WriteString(w, "one")
				w.(http.Flusher).Flush()
				<-more
				io.WriteString(w, "two")
				w.Header().Set("Sum", "6")
				w.Header().Set(http.TrailerPrefix+"Late", "1")
			})
			res := ask(limited(t))
			wantCookie(t, res.Header)
			first := make([]byte, 3)
			if _, err := io.ReadFull(res.Body, first); string(first) != "one" || err != nil {
				t.Fatalf("%q, %v", first, err)
			}
			close(more)
			rest, err := io.ReadAll(res.Body)
			if string(rest) != "two" || err != nil || res.Trailer.Get("Sum") != "6" || res.Trailer.Get("Late") != "1" {
				t.Errorf("%q, %v, trailers %v", rest, err, res.Trailer)
			}
			if wr := <-seen; wr.Status() != 200 || wr.Bytes() != 6 {
				t.Errorf("status %d, %d bytes", wr.Status(), wr.Bytes())
			}
		})
	}
}

// Hints of the backend come without the cookie, and the answer after them has it.
func TestProxiedHintsCarryNoCookie(t *testing.T) {
	for version, h2 := range versions {
		t.Run(version, func(t *testing.T) {
			_, ask, seen := front(t, h2, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Link", "</style.css>")
				w.WriteHeader(http.StatusEarlyHints)
				w.WriteHeader(http.StatusNotFound)
			})
			hints := 0
			res := ask(httptrace.WithClientTrace(limited(t), &httptrace.ClientTrace{
				Got1xxResponse: func(status int, h textproto.MIMEHeader) error {
					hints++
					if status != 103 || h.Get("Set-Cookie") != "" || h.Get("Vary") != "" || h.Get("Link") == "" {
						t.Errorf("%d with %v", status, h)
					}
					return nil
				},
			}))
			wantCookie(t, res.Header)
			if wr := <-seen; hints != 1 || res.StatusCode != 404 || wr.Status() != 404 {
				t.Errorf("%d hints, then %s, status %d", hints, res.Status, wr.Status())
			}
		})
	}
}

// A connection that the backend upgrades is a tunnel through the stack, and the 101 has the cookie.
func TestAProxiedUpgradeIsATunnel(t *testing.T) {
	addr, _, seen := front(t, false, func(w http.ResponseWriter, _ *http.Request) {
		nc, buffers, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer nc.Close()
		io.WriteString(nc, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n")
		io.Copy(nc, buffers)
	})
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	fmt.Fprintf(nc, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n")
	in := bufio.NewReader(nc)
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantCookie(t, res.Header)
	for range 3 {
		io.WriteString(nc, "ping\n")
		if text, err := in.ReadString('\n'); text != "ping\n" || err != nil {
			t.Fatalf("%q, %v", text, err)
		}
	}
	nc.(*net.TCPConn).CloseWrite()
	io.ReadAll(in)
	if wr := <-seen; res.StatusCode != 101 || wr.Status() != 101 {
		t.Errorf("%s, status %d", res.Status, wr.Status())
	}
}

// If the client goes away, the backend hears of it, and the handlers end.
func TestAProxiedClientMayGoAway(t *testing.T) {
	for version, h2 := range versions {
		t.Run(version, func(t *testing.T) {
			gone := make(chan struct{})
			_, ask, seen := front(t, h2, func(w http.ResponseWriter, r *http.Request) {
				io.WriteString(w, "one")
				w.(http.Flusher).Flush()
				<-r.Context().Done()
				close(gone)
			})
			ctx, leave := context.WithCancel(limited(t))
			res := ask(ctx)
			wantCookie(t, res.Header)
			if _, err := io.ReadFull(res.Body, make([]byte, 3)); err != nil {
				t.Fatal(err)
			}
			leave()
			<-gone
			if wr := <-seen; wr.Status() != 200 || wr.Bytes() != 3 {
				t.Errorf("status %d, %d bytes", wr.Status(), wr.Bytes())
			}
		})
	}
}
