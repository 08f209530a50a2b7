//go:build linux

package loss

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/midair-go/midair/examples/grpcserver/echopb"
)

// tally counts what the clients of one protocol met. A request is a request, a call or a message.
type tally struct {
	ok, lost atomic.Int64
	told     atomic.Int64 // connections and streams that ended in the way of their protocol
	cut      atomic.Int64 // that did not

	mu    sync.Mutex
	first error
}

func (t *tally) request(err error) {
	if err == nil {
		t.ok.Add(1)
		return
	}
	t.lost.Add(1)
	t.note(err)
}

func (t *tally) end(clean bool, err error) {
	if clean {
		t.told.Add(1)
		return
	}
	t.cut.Add(1)
	t.note(err)
}

func (t *tally) note(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.first == nil {
		t.first = err
	}
}

// protocol is a kind of client. run asks the address until ctx ends, and lets what it has begun come to its end.
type protocol struct {
	name, listener string
	run            func(ctx context.Context, addr string, t *tally)
}

var protocols = []protocol{
	{"HTTP/1.1 POST, keep-alive", web, func(ctx context.Context, addr string, t *tally) { posts(ctx, "http", addr, 1, 16, 1, t) }},
	{"HTTP/2 over TLS, 20 × 20 streams", sec, func(ctx context.Context, addr string, t *tally) { posts(ctx, "https", addr, 2, 20, 20, t) }},
	{"h2c, 20 × 20 streams", web, func(ctx context.Context, addr string, t *tally) { posts(ctx, "http", addr, 2, 20, 20, t) }},
	{"gRPC unary", rpc, calls},
	{"gRPC bidirectional streams", rpc, chats},
	{"WebSocket", web, sockets},
	{"raw TCP", raw, rawLines},
}

// requestLimit is when an answer counts as lost.
const requestLimit = 30 * time.Second

// pause is what a client thinks between two requests.
func pause(n int) { time.Sleep(time.Duration(n%7) * time.Millisecond) }

// posts keeps connections, each with streams that post one after the other, and never repeats a request.
func posts(ctx context.Context, scheme, addr string, version, conns, streams int, t *tally) {
	p := new(http.Protocols)
	p.SetHTTP1(version == 1)
	p.SetHTTP2(version == 2 && scheme == "https")
	p.SetUnencryptedHTTP2(version == 2 && scheme == "http")
	tr := &http.Transport{Protocols: p, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	var running sync.WaitGroup
	for range conns {
		running.Go(func() {
			for ctx.Err() == nil {
				if err := connection(ctx, tr, scheme, addr, streams, t); err != nil {
					t.request(err)
				}
			}
		})
	}
	running.Wait()
}

// connection posts over one connection until it takes no more requests.
func connection(ctx context.Context, tr *http.Transport, scheme, addr string, streams int, t *tally) error {
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestLimit)
	defer cancel()
	cc, err := tr.NewClientConn(limit, scheme, addr)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer cc.Close()
	var running sync.WaitGroup
	for range streams {
		running.Go(func() {
			for n := 0; ctx.Err() == nil && cc.Reserve() == nil; n++ {
				err := post(cc, scheme+"://"+addr, n)
				if notSent(err) {
					return
				}
				t.request(err)
				pause(n)
			}
		})
	}
	running.Wait()
	return nil
}

// notSent tells whether a request has not left the client: its connection was told to end after it was reserved.
func notSent(err error) bool { return err != nil && err.Error() == "http2: client conn not usable" }

func post(cc *http.ClientConn, base string, n int) error {
	ctx, cancel := context.WithTimeout(context.Background(), requestLimit)
	defer cancel()
	path := "/work"
	if n%50 == 49 {
		path += "?d=30ms"
	}
	body := fmt.Sprintf("%0100d", n)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+path, io.NopCloser(strings.NewReader(body)))
	if err != nil {
		return err
	}
	req.ContentLength = int64(len(body)) // a body that cannot be sent again
	resp, err := cc.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || string(got) != body) {
		err = fmt.Errorf("status %d, %d bytes", resp.StatusCode, len(got))
	}
	return err
}

func dialRPC(addr string) (*grpc.ClientConn, error) {
	return grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())
}

// each runs one function several times at once, until all have returned.
func each(n int, fn func()) {
	var running sync.WaitGroup
	for range n {
		running.Go(fn)
	}
	running.Wait()
}

func calls(ctx context.Context, addr string, t *tally) {
	conn, err := dialRPC(addr)
	if err != nil {
		t.request(err)
		return
	}
	defer conn.Close()
	client := echopb.NewEchoClient(conn)
	each(16, func() {
		for n := 0; ctx.Err() == nil; n++ {
			limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestLimit)
			_, err := client.Say(limit, &echopb.SayRequest{Text: "hello"})
			cancel()
			t.request(err)
			pause(n)
		}
	})
}

func chats(ctx context.Context, addr string, t *tally) {
	conn, err := dialRPC(addr)
	if err != nil {
		t.request(err)
		return
	}
	defer conn.Close()
	client := echopb.NewEchoClient(conn)
	each(16, func() {
		for ctx.Err() == nil {
			chat(ctx, client, t)
		}
	})
}

// chat is one stream. It ends early if the server says so, with a status of its own; anything else is an error of the
// transport.
func chat(ctx context.Context, client echopb.EchoClient, t *tally) {
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestLimit)
	defer cancel()
	stream, err := client.Chat(limit)
	if err != nil {
		t.request(err)
		return
	}
	for n := 0; n < 1000 && ctx.Err() == nil; n++ {
		err := stream.Send(&echopb.SayRequest{Text: "hello"})
		if err == nil || errors.Is(err, io.EOF) {
			_, err = stream.Recv()
		}
		if err != nil {
			t.end(byServer(err), err)
			return
		}
		t.request(nil)
		pause(n)
	}
	_ = stream.CloseSend()
	_, err = stream.Recv()
	t.end(errors.Is(err, io.EOF), err)
}

// byServer tells a status that the server has sent from one that the client has made up for a broken transport.
func byServer(err error) bool {
	s, ok := status.FromError(err)
	return errors.Is(err, io.EOF) || ok && s.Code() == codes.Unavailable && s.Message() == farewell
}

// farewell is what a stream ends with that was told to.
const farewell = "the server is being replaced"

// Chat echoes until the client or the drain ends it.
func (e *echoes) Chat(stream grpc.BidiStreamingServer[echopb.SayRequest, echopb.SayReply]) error {
	in := make(chan *echopb.SayRequest)
	failed := make(chan error, 1)
	go func() { // ends with the stream
		for {
			m, err := stream.Recv()
			if err != nil {
				failed <- err
				return
			}
			select {
			case in <- m:
			case <-stream.Context().Done():
				return
			}
		}
	}()
	done := e.done(stream.Context())
	for {
		select {
		case m := <-in:
			if err := stream.Send(&echopb.SayReply{Text: m.Text}); err != nil {
				return err
			}
		case err := <-failed:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		case <-done:
			return status.Error(codes.Unavailable, farewell)
		case <-stream.Context().Done(): // the reader may have met it first
			return stream.Context().Err()
		}
	}
}

func sockets(ctx context.Context, addr string, t *tally) {
	each(16, func() {
		for ctx.Err() == nil {
			socket(ctx, "ws://"+addr+"/ws", t)
		}
	})
}

// socket is one WebSocket. The server may end it by a close with status 1012 or 1001.
func socket(ctx context.Context, url string, t *tally) {
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestLimit)
	defer cancel()
	c, resp, err := websocket.Dial(limit, url, nil)
	if resp != nil && resp.StatusCode == http.StatusServiceUnavailable { // told to come again
		t.end(true, nil)
		return
	}
	if err != nil {
		t.request(fmt.Errorf("connect: %w", err))
		return
	}
	defer c.CloseNow()
	msg := bytes.Repeat([]byte("x"), 100)
	for n := 0; n < 1000 && ctx.Err() == nil; n++ {
		err := c.Write(limit, websocket.MessageText, msg)
		if code := websocket.CloseStatus(err); err == nil || code == -1 {
			var back []byte
			if _, back, err = c.Read(limit); err == nil && !bytes.Equal(back, msg) {
				err = errors.New("another message came back")
			}
		}
		if err != nil {
			code := websocket.CloseStatus(err)
			t.end(code == websocket.StatusServiceRestart || code == websocket.StatusGoingAway, err)
			return
		}
		t.request(nil)
		pause(n)
	}
	err = c.Close(websocket.StatusNormalClosure, "")
	code := websocket.CloseStatus(err)
	t.end(err == nil || code == websocket.StatusServiceRestart || code == websocket.StatusGoingAway, err)
}

func rawLines(ctx context.Context, addr string, t *tally) {
	each(16, func() {
		for ctx.Err() == nil {
			rawConn(ctx, addr, t)
		}
	})
}

// rawConn is one connection. It hangs up when the server says bye, and has then got every line back.
func rawConn(ctx context.Context, addr string, t *tally) {
	c, err := net.DialTimeout("tcp", addr, requestLimit)
	if err != nil {
		t.request(fmt.Errorf("connect: %w", err))
		return
	}
	defer c.Close()
	in := bufio.NewReader(c)
	bye := false
	for n := 0; n < 1000 && ctx.Err() == nil && !bye; n++ {
		_ = c.SetDeadline(time.Now().Add(requestLimit))
		line := fmt.Sprintf("line %d\n", n)
		if _, err := io.WriteString(c, line); err != nil {
			t.request(err)
			t.end(false, err)
			return
		}
		back, err := in.ReadString('\n')
		if bye = back == "bye\n"; bye {
			back, err = in.ReadString('\n')
		}
		if err == nil && back != line {
			err = fmt.Errorf("%q came back for %q", back, line)
		}
		t.request(err)
		if err != nil {
			t.end(false, err)
			return
		}
		pause(n)
	}
	t.end(true, nil)
}
