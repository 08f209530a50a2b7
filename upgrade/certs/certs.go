package certs

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/midair-go/midair/internal/logqueue"
)

// Options of Open. The zero value works.
type Options struct {
	// Poll is how often the files are looked at. Negative: only by Open and Ready, so that a renewed certificate needs
	// an upgrade. Default: 1 s.
	Poll time.Duration
	// Config is what Config adds certificate and tickets to: versions, client certificates and so on. It is copied. Its
	// GetCertificate is asked first, and the files are served where it returns nil and no error. It must not have
	// Certificates, GetConfigForClient, WrapSession or UnwrapSession. Session ticket keys that were set in it are not
	// used. Default: that of crypto/tls.
	Config *tls.Config
	// Logger gets a line for each certificate that is taken and one for each refusal. Its handler is called in another
	// goroutine: nothing waits for a log. Default: slog.Default().
	Logger *slog.Logger
}

// withDefaults returns the options with their defaults, or an error that names the invalid field.
func (o Options) withDefaults() (Options, error) {
	o.Poll = cmp.Or(o.Poll, time.Second)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	o.Logger = logqueue.Wrap(o.Logger)
	if o.Config == nil {
		o.Config = &tls.Config{}
	}
	o.Config = o.Config.Clone()
	return o, o.conflict()
}

// conflict finds a field of the config that would silently take the place of the files, or of the tickets.
func (o Options) conflict() error {
	switch {
	case o.Config.GetConfigForClient != nil:
		return errors.New("certs: Options.Config has GetConfigForClient, and what that returns would have neither the " +
			"certificate nor the tickets: set it in the result of Config, and let it return clones of that")
	case len(o.Config.Certificates) > 0:
		return errors.New("certs: Options.Config has Certificates: return them from its GetCertificate")
	case o.Config.WrapSession != nil || o.Config.UnwrapSession != nil:
		return errors.New("certs: Options.Config has WrapSession or UnwrapSession: tickets are made here")
	}
	return nil
}

// Certs are a certificate with its key, which follow two files, and the keys of the session tickets.
type Certs struct {
	certFile, keyFile string
	opts              Options
	now               atomic.Pointer[state]
	tickets           ring

	mu       sync.Mutex // held during a look, never by a handshake
	seen     stamp      // of the pair that is served; zero if the files have to be read again
	writing  bool       // the files changed while they were read the last time
	loads    uint64
	refusals uint64

	closed sync.Once
	stop   chan struct{}
	done   chan struct{}
}

// state is the served certificate, and what is wrong with the files. Either may be nil.
type state struct {
	pair *pair
	err  *Error
}

// Open reads a certificate and its key and follows the files until Close. Both are PEM, the certificate with the intermediate
// certificates that the issuer wants to be sent along. Missing or broken files are not an error but a state: Ready says what is
// wrong, and the files are served as soon as they are good. The error is about invalid arguments.
func Open(certFile, keyFile string, opts Options) (*Certs, error) {
	if certFile == "" || keyFile == "" {
		return nil, errors.New("certs: Open needs the paths of two files, a certificate and its key")
	}
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Certs{
		certFile: absolute(certFile), keyFile: absolute(keyFile), opts: opts,
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	c.now.Store(&state{})
	c.look()
	if opts.Poll < 0 {
		close(c.done)
		return c, nil
	}
	go c.follow()
	return c, nil
}

// absolute makes a path independent of the directory of the program.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// follow looks at the files until Close.
func (c *Certs) follow() {
	defer close(c.done)
	tick := time.NewTicker(c.opts.Poll)
	defer tick.Stop()
	for {
		select {
		case <-c.stop:
			return
		case <-tick.C:
			c.look()
		}
	}
}

// Close stops following the files and waits until the last look has ended. Configs go on working with the present state. Close
// may be called again and returns nil.
func (c *Certs) Close() error {
	c.closed.Do(func() { close(c.stop) })
	<-c.done
	logqueue.Flush(c.opts.Logger)
	return nil
}

// Config returns a config for servers: for http.Server.TLSConfig, then served by ServeTLS without file names, for
// tls.NewListener, and for credentials.NewTLS of gRPC. Protocols are left to the server. A server may copy the config or change
// other fields: each call returns a new config, and all configs follow the files and share the tickets, as do their clones.
func (c *Certs) Config() *tls.Config {
	cfg := c.opts.Config.Clone()
	cfg.GetCertificate = c.certificate
	// Not GetConfigForClient: it would replace what the server has set in its copy, as the protocols for HTTP/2.
	cfg.WrapSession = c.tickets.wrap
	cfg.UnwrapSession = c.tickets.unwrap
	return cfg
}

func (c *Certs) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if first := c.opts.Config.GetCertificate; first != nil {
		if cert, err := first(hello); cert != nil || err != nil {
			return cert, err
		}
	}
	now := c.now.Load()
	if now.pair == nil {
		return nil, now.err
	}
	return now.pair.cert, nil
}

// Ready looks at the files and returns nil if there is a certificate to serve that is valid now: possibly the last good
// certificate while the files are broken. Otherwise Ready returns an [*Error] that names the file and tells what to do; the
// error is [ErrNoCertificate] if nothing is served at all, and not if the certificate has expired or is not valid yet.
func (c *Certs) Ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("certs: %s: %w", c.certFile, err)
	}
	c.look()
	if bad := c.problem(c.now.Load()); bad != nil {
		return bad
	}
	return nil
}

// problem is why the served certificate should not be served; nil if the certificate is good.
func (c *Certs) problem(s *state) *Error {
	if s.pair != nil {
		return s.pair.outside(time.Now())
	}
	bad := *s.err
	bad.none = true
	return &bad
}

// Status is what Certs report to an operator.
type Status struct {
	// CertFile and KeyFile are the files.
	CertFile string `json:"cert_file"`
	KeyFile  string `json:"key_file"`
	// State is "ready"; "stale: …" with the reason why the files are not what is served; or "not ready: …".
	State string `json:"state"`
	// Names are the host names and addresses of the certificate that is served.
	Names []string `json:"names,omitempty"`
	// NotAfter is when it expires.
	NotAfter time.Time `json:"not_after,omitzero"`
	// Loaded is when it was read.
	Loaded time.Time `json:"loaded,omitzero"`
	// Loads and Refusals count the pairs that were taken and not taken.
	Loads    uint64 `json:"loads"`
	Refusals uint64 `json:"refusals"`
	// Error is what is wrong with the files; empty if nothing is.
	Error string `json:"error,omitempty"`
	// TicketKeys is how many keys there are for tickets, that of the next day included.
	TicketKeys int `json:"ticket_keys"`
}

// Status returns the present state, without a look at the files.
func (c *Certs) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now.Load()
	s := Status{
		CertFile: c.certFile, KeyFile: c.keyFile, State: "ready",
		Loads: c.loads, Refusals: c.refusals, TicketKeys: len(c.tickets.all()),
	}
	if now.err != nil {
		s.Error, s.State = now.err.Error(), "stale: "+now.err.text()
	}
	if bad := c.problem(now); bad != nil {
		s.State = "not ready: " + bad.text()
	}
	if now.pair != nil {
		s.Names, s.NotAfter, s.Loaded = now.pair.names(), now.pair.cert.Leaf.NotAfter, now.pair.loaded
	}
	return s
}
