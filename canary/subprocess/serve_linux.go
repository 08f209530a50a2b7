package subprocess

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/hashicorp/go-hclog"
	plugin "github.com/hashicorp/go-plugin"
	"golang.org/x/net/http/httpguts"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// Serve serves h to the host that has started this process. Serve blocks until the host stops the process, and returns nil, or
// until the host has ended, and returns ErrHostEnded. Then main should return soon: a host that stops the process kills it after
// two seconds. If no host has started this process, Serve returns ErrNoHost at once.
//
// Call Serve once, early in main, before goroutines that write to the standard output or start programs. By the standard output,
// the process tells the host where it can be reached. Then Serve redirects the standard output to the standard error, and removes
// the environment variables that the host has set for Serve. From its call on, Serve ignores SIGHUP, SIGINT and SIGTERM. If the
// connection to the host cannot be made, the library go-plugin ends the process with the status 1, and a text on the standard
// error.
func Serve(h http.Handler) error {
	dir := os.Getenv(dirEnv)
	if dir == "" || os.Getenv(handshake.MagicCookieKey) != handshake.MagicCookieValue {
		return ErrNoHost
	}
	os.Unsetenv(dirEnv) // programs that this process starts have no host
	killedBeforeHost()
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM) // nobody reads the channel
	key, err := os.OpenFile(filepath.Join(dir, processKey), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("subprocess: %w", err)
	}
	defer key.Close()
	if err := claim(key); err != nil {
		return fmt.Errorf("subprocess: %w", err)
	}
	ln, err := net.Listen("unix", filepath.Join(dir, socketName))
	if err != nil {
		return fmt.Errorf("subprocess: %w", err)
	}
	srv := newServer(h)
	ended := make(chan error, 3)
	go func() { ended <- fmt.Errorf("subprocess: %w", srv.Serve(ownUser{ln})) }() // ends with Shutdown
	go func() {                                                                   // ends with the host
		_, _ = io.Copy(io.Discard, os.Stdin)
		ended <- ErrHostEnded
	}()
	go func() { ended <- serveControl() }() // ends when the host stops this process
	if err := <-ended; err != nil {
		return errors.Join(err, srv.Close())
	}
	return srv.Shutdown(context.Background()) // the host has waited for its requests
}

// newServer makes the server for the requests of the host.
func newServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: fromHost(h), DisableGeneralOptionsHandler: true, MaxHeaderBytes: 1 << 30, // both are for the server of the host
	}
}

// serveControl serves the host's go-plugin until the host stops this process.
func serveControl() error {
	c := &control{TransportCredentials: insecure.NewCredentials(), stdout: os.Stdout, stderr: os.Stderr}
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: handshake, VersionedPlugins: plugins, Logger: hclog.NewNullLogger(),
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server { return grpc.NewServer(append(opts, grpc.Creds(c))...) },
	})
	if !c.met.Load() {
		return errors.New("subprocess: go-plugin has ended before the host has connected: can this process make sockets in the host's directory?")
	}
	return nil
}

// control checks the user of the host. At the first connection of the host, go-plugin has read the variables for plugins, and has
// put pipes in place of the standard output and the standard error, from which the host would read. control removes the
// variables, and puts the files back.
type control struct {
	credentials.TransportCredentials
	stdout, stderr *os.File
	once           sync.Once
	met            atomic.Bool // the host has connected
}

func (c *control) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	unix, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, nil, fmt.Errorf("subprocess: a connection of the host is a %T", conn)
	}
	if err := checkPeer(unix); err != nil {
		return nil, nil, err
	}
	c.once.Do(c.restore)
	return c.TransportCredentials.ServerHandshake(conn)
}

func (c *control) restore() {
	_ = onto(c.stderr, c.stdout)
	os.Stdout, os.Stderr = c.stdout, c.stderr
	os.Unsetenv(handshake.MagicCookieKey)
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, pluginEnv) {
			os.Unsetenv(name)
		}
	}
	c.met.Store(true)
}

// Clone returns c, whose state is that of the process.
func (c *control) Clone() credentials.TransportCredentials { return c }

// ownUser accepts connections of this user only.
type ownUser struct{ net.Listener }

func (l ownUser) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if checkPeer(c.(*net.UnixConn)) == nil {
			return c, nil
		}
		c.Close()
	}
}

// fromHost makes requests what they were in the host.
func fromHost(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from := r.Header.Get(fromHeader)
		if from == "" { // the host asks whether this process serves
			w.WriteHeader(http.StatusNoContent)
			return
		}
		proto, rest, _ := strings.Cut(from, " ")
		scheme, addr, _ := strings.Cut(rest, " ")
		r.RemoteAddr = addr
		if scheme == "https" {
			r.TLS = &tls.ConnectionState{HandshakeComplete: true, ServerName: hostname(r.Host)}
		}
		if uri, ok := r.Header[uriHeader]; ok {
			r.RequestURI = uri[0]
			delete(r.Header, uriHeader)
		}
		delete(r.Header, fromHeader)
		major, minor, ok := http.ParseHTTPVersion(proto)
		switch {
		case ok && major == 1 && minor == 0: // the server of this process looks at the version, too
			own := *r
			own.Proto, own.ProtoMinor, own.Close = proto, 0, !httpguts.HeaderValuesContainsToken(r.Header["Connection"], "keep-alive")
			defer func(r *http.Request) { r.MultipartForm = own.MultipartForm }(r) // whose files the server removes
			r = &own
		case ok && major > 1:
			r.Proto, r.ProtoMajor, r.ProtoMinor, r.TransferEncoding = proto, major, minor, nil
		}
		if announces(r.Method) {
			w.WriteHeader(http.StatusProcessing)
		}
		h.ServeHTTP(w, r)
	})
}

func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return host
}
