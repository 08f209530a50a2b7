//go:build linux

package loss

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"

	"github.com/midair-go/midair/drain"
	"github.com/midair-go/midair/drain/grpcdrain"
	"github.com/midair-go/midair/examples/grpcserver/echopb"
	"github.com/midair-go/midair/upgrade"
)

const dirEnv = "MIDAIR_LOSS_DIR"

// The listeners of both services.
const (
	web  = "web"  // HTTP/1.1, h2c, WebSocket
	sec  = "tls"  // HTTP/2 over TLS
	rpc  = "grpc" // gRPC
	raw  = "tcp"  // lines that are sent back
	soak = 20 * time.Millisecond
)

// grace is how long what was begun may take.
const grace = 20 * time.Second

// listenAll opens what the service listens on. The test has chosen the ports: tableflip does not hand two of ":0" on.
func listenAll(dir string, listen func(network, addr string) (net.Listener, error)) (map[string]net.Listener, error) {
	var addrs map[string]string
	b, err := os.ReadFile(filepath.Join(dir, "addrs"))
	if err == nil {
		err = json.Unmarshal(b, &addrs)
	}
	lns := map[string]net.Listener{}
	for name, addr := range addrs {
		if err == nil {
			lns[name], err = listen("tcp", addr)
		}
	}
	return lns, err
}

// newHTTP returns an ordinary server: an echo that is slow now and then, and a WebSocket that echoes.
func newHTTP() *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /work", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if d, err := time.ParseDuration(r.FormValue("d")); err == nil {
			time.Sleep(d)
		}
		_, _ = w.Write(body)
	})
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		for {
			kind, msg, err := c.Read(r.Context())
			if err != nil || c.Write(r.Context(), kind, msg) != nil {
				return
			}
		}
	})
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	return &http.Server{Handler: mux, Protocols: p, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
}

func selfSigned() (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	about := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, about, about, &key.PublicKey, key)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}}}, err
}

// echoes is the gRPC service. A stream ends when done says so, with a status.
type echoes struct {
	echopb.UnimplementedEchoServer
	done func(context.Context) <-chan struct{}
}

func (e *echoes) Say(_ context.Context, m *echopb.SayRequest) (*echopb.SayReply, error) {
	return &echopb.SayReply{Text: m.Text}, nil
}

// lines sends every line back. When it is told to end it says bye, and goes on until the client hangs up.
func lines(nc net.Conn, told <-chan struct{}) {
	in := make(chan string)
	go func() { // ends with the connection
		defer close(in)
		for s := bufio.NewScanner(nc); s.Scan(); {
			in <- s.Text()
		}
	}()
	for {
		select {
		case line, ok := <-in:
			if !ok {
				return
			}
			_, _ = io.WriteString(nc, line+"\n")
		case <-told:
			told = nil
			_, _ = io.WriteString(nc, "bye\n")
		}
	}
}

// midairMain is the service on this library.
func midairMain() error {
	dir := os.Getenv(dirEnv)
	o := upgrade.Options{PIDFile: filepath.Join(dir, "pid"), Soak: soak}
	if _, err := os.Stat(filepath.Join(dir, stepwise)); err == nil {
		o.Bake = steps
	}
	up, err := upgrade.New(o)
	if err != nil {
		return err
	}
	defer up.Close()
	lns, err := listenAll(dir, up.Listen)
	if err != nil {
		return err
	}
	hs := newHTTP()
	if hs.TLSConfig, err = selfSigned(); err != nil {
		return err
	}
	opts := drain.Options{Grace: grace, Move: up.Move, Rebalance: up.Rebalance(), Hurry: up.Hurry()}
	srv := drain.NewServer(hs, opts)
	calls := new(grpcdrain.Observer)
	gs := grpc.NewServer(grpc.StatsHandler(calls))
	rpcs := grpcdrain.NewServer(gs, opts)
	rpcs.Observe(calls)
	echopb.RegisterEchoServer(gs, &echoes{done: func(ctx context.Context) <-chan struct{} { return drain.FromContext(ctx).Begun() }})
	return up.Run(context.Background(), func(ctx context.Context) error {
		return all(
			func() error { return srv.Serve(ctx, lns[web]) },
			func() error { return srv.ServeTLS(ctx, lns[sec], "", "") },
			func() error { return rpcs.Serve(ctx, lns[rpc]) },
			func() error {
				return srv.ServeTCP(ctx, lns[raw], func(ctx context.Context, nc net.Conn) { lines(nc, drain.FromContext(ctx).Begun()) })
			},
		)
	})
}

// stepwise is a file that makes upgrades progressive.
const stepwise = "stepwise"

// steps gives the candidate a growing share, and looks at nothing.
func steps(ctx context.Context, c *upgrade.Candidate) error {
	for _, w := range []float64{0.05, 0.25, 0.5, 1} {
		if err := c.SetWeight(w); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil
}

// all runs functions side by side until all have returned.
func all(fns ...func() error) error {
	results := make(chan error, len(fns))
	for _, fn := range fns {
		go func() { results <- fn() }()
	}
	var errs []error
	for range fns {
		errs = append(errs, <-results)
	}
	return errors.Join(errs...)
}
