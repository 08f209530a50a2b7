package wstest

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	coder "github.com/coder/websocket"
	gorilla "github.com/gorilla/websocket"

	"github.com/midair-go/midair/drain"
)

// running serves until stop is called.
func running(t *testing.T, h http.Handler, opts drain.Options) (addr string, stop context.CancelCauseFunc, done chan error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancelCause(context.Background())
	done = make(chan error, 1)
	srv := drain.NewServer(&http.Server{Handler: h}, opts)
	go func() { done <- srv.Serve(ctx, ln) }()
	return ln.Addr().String(), stop, done
}

// A WebSocket passes through httputil.ReverseProxy, with a library at both ends. Without a drain, all messages pass. In the
// drain of a proxy with KeepWebSockets, the WebSocket goes on. In the drain of a proxy without KeepWebSockets, and in the drain
// of the server behind the proxy, the WebSocket is closed with 1012.
func TestProxiedWebSockets(t *testing.T) {
	servers := map[string]func(chan error) http.HandlerFunc{"coder": coderEcho, "gorilla": gorillaEcho}
	clients := map[string]func(*testing.T, string) peer{"coder": dialCoder, "gorilla": dialGorilla}
	for server, handler := range servers {
		for client, dial := range clients {
			for _, drains := range []string{"nothing", "a proxy that keeps them", "the proxy", "the server"} {
				t.Run(client+" to "+server+", "+drains+" drains", func(t *testing.T) {
					proxied(t, handler, dial, drains)
				})
			}
		}
	}
}

func proxied(t *testing.T, handler func(chan error) http.HandlerFunc, dial func(*testing.T, string) peer, drains string) {
	ended := make(chan error, 1)
	server, stopServer, serverDone := running(t, handler(ended), drain.Options{})
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: server}) }}
	front, stopProxy, proxyDone := running(t, proxy, drain.Options{KeepWebSockets: drains == "a proxy that keeps them"})
	p := dial(t, "ws://"+front)
	talk := func() {
		for _, text := range []string{"", "hello", strings.Repeat("long ", 5_000)} {
			p.echo(t, text)
		}
	}
	talk()
	handover := upgraded{errors.New("upgrade")}
	switch drains {
	case "a proxy that keeps them":
		stopProxy(handover)
		talk()
		stopServer(handover)
	case "the proxy":
		stopProxy(handover)
	case "the server":
		stopServer(handover)
	default:
		talk()
		stopServer(handover)
	}
	if status, text := p.end(t); status != 1012 || text != "service restart" {
		t.Errorf("closed with %d %q", status, text)
	}
	if err := <-ended; coder.CloseStatus(err) != 1012 && !gorilla.IsCloseError(err, 1012) {
		t.Errorf("the handler learned %v", err)
	}
	stopProxy(handover)
	stopServer(handover)
	for _, done := range []chan error{proxyDone, serverDone} {
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
}
