package wstest

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	coder "github.com/coder/websocket"
	gorilla "github.com/gorilla/websocket"

	"github.com/midair-go/midair/drain"
)

// coderEcho and gorillaEcho echo messages until the client or the drain ends the WebSocket. Then they send to the channel end
// how it ended.
func coderEcho(end chan error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c, err := coder.Accept(w, r, &coder.AcceptOptions{CompressionMode: coder.CompressionContextTakeover})
		if err != nil {
			return
		}
		defer c.CloseNow()
		for {
			kind, text, err := c.Read(context.Background())
			if err == nil {
				err = c.Write(context.Background(), kind, text)
			}
			if err != nil {
				end <- err
				return
			}
		}
	}
}

func gorillaEcho(end chan error) http.HandlerFunc {
	up := gorilla.Upgrader{EnableCompression: true}
	return func(w http.ResponseWriter, r *http.Request) {
		c, err := up.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer c.Close()
		for {
			kind, text, err := c.ReadMessage()
			if err == nil {
				err = c.WriteMessage(kind, text)
			}
			if err != nil {
				end <- err
				return
			}
		}
	}
}

// A peer is a client that sends a message, and then waits for the end.
type peer interface {
	echo(t *testing.T, text string)
	end(t *testing.T) (status int, text string)
}

type coderPeer struct{ *coder.Conn }

func (p coderPeer) echo(t *testing.T, text string) {
	t.Helper()
	if err := p.Write(t.Context(), coder.MessageText, []byte(text)); err != nil {
		t.Fatal(err)
	}
	if _, got, err := p.Read(t.Context()); err != nil || string(got) != text {
		t.Fatalf("%q, %v", got, err)
	}
}

func (p coderPeer) end(t *testing.T) (int, string) {
	_, _, err := p.Read(t.Context())
	var closed coder.CloseError
	if !errors.As(err, &closed) {
		t.Fatalf("it ended with %v", err)
	}
	return int(closed.Code), closed.Reason
}

type gorillaPeer struct{ *gorilla.Conn }

func (p gorillaPeer) echo(t *testing.T, text string) {
	t.Helper()
	if err := p.WriteMessage(gorilla.TextMessage, []byte(text)); err != nil {
		t.Fatal(err)
	}
	if _, got, err := p.ReadMessage(); err != nil || string(got) != text {
		t.Fatalf("%q, %v", got, err)
	}
}

func (p gorillaPeer) end(t *testing.T) (int, string) {
	_, _, err := p.ReadMessage()
	var closed *gorilla.CloseError
	if !errors.As(err, &closed) {
		t.Fatalf("it ended with %v", err)
	}
	p.Close()
	return closed.Code, closed.Text
}

func dialCoder(t *testing.T, url string) peer {
	c, _, err := coder.Dial(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.CloseNow() })
	return coderPeer{c}
}

func dialGorilla(t *testing.T, url string) peer {
	d := gorilla.Dialer{EnableCompression: true}
	c, _, err := d.DialContext(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return gorillaPeer{c}
}

type upgraded struct{ error }

func (upgraded) Handover() bool { return true }

// In a drain, servers and clients of both libraries end a WebSocket cleanly with status 1012. The handler of the server gets
// this as the close of the client. A request for a new WebSocket is refused.
func TestLibrariesEndWithServiceRestart(t *testing.T) {
	servers := map[string]func(chan error) http.HandlerFunc{"coder": coderEcho, "gorilla": gorillaEcho}
	clients := map[string]func(*testing.T, string) peer{"coder": dialCoder, "gorilla": dialGorilla}
	for server, handler := range servers {
		for client, dial := range clients {
			t.Run(client+" to "+server, func(t *testing.T) {
				ended := make(chan error, 1)
				ln, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				srv := drain.NewServer(&http.Server{Handler: handler(ended)}, drain.Options{})
				ctx, stop := context.WithCancelCause(t.Context())
				defer stop(nil)
				done := make(chan error, 1)
				go func() { done <- srv.Serve(ctx, ln) }()
				p := dial(t, "ws://"+ln.Addr().String())
				for _, text := range []string{"", "hello", strings.Repeat("long ", 5_000)} {
					p.echo(t, text)
				}
				since := time.Now()
				stop(upgraded{errors.New("upgrade")})
				if status, text := p.end(t); status != 1012 || text != "service restart" {
					t.Errorf("closed with %d %q", status, text)
				}
				if err := <-ended; coder.CloseStatus(err) != 1012 && !gorilla.IsCloseError(err, 1012) {
					t.Errorf("the handler learned %v", err)
				}
				if err := <-done; err != nil {
					t.Errorf("Serve: %v", err)
				}
				t.Logf("drained in %v", time.Since(since))
			})
		}
	}
}
