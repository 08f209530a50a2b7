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

	"github.com/midair-go/midair/internal/follow"
	"github.com/midair-go/midair/internal/logqueue"
)

// Options of Open. The zero value works.
type Options struct {
	// Poll is the time between two looks at the files. If Poll is negative, only Open, Ready and Reload look at the files. Then
	// a renewed certificate is served only after a call of Ready or Reload, or after an upgrade. Default: 1 s.
	Poll time.Duration
	// Config holds the other settings for TLS: versions, client certificates and so on. Open copies this config, and the method
	// Config returns copies with the certificate and the tickets. If the config has a GetCertificate, this function is called
	// first. If it returns neither a certificate nor an error, the certificate of the files is served. The config must not have
	// Certificates, GetConfigForClient, WrapSession or UnwrapSession. Session ticket keys that were set in the config are not
	// used. Default: an empty tls.Config.
	Config *tls.Config
	// Logger gets a line for each certificate that is loaded, and for each refusal. Another goroutine calls the handler of the
	// Logger, so nothing waits for the log. Default: slog.Default().
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

// conflict returns an error if the config has a field that must not be set. Such a field would silently replace the tickets, or
// the certificate that was read from the files.
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

// Certs hold a certificate with its key, and the keys of the session tickets. The certificate and its key follow the changes of
// two files.
type Certs struct {
	certFile, keyFile string
	opts              Options
	now               atomic.Pointer[state]
	tickets           ring

	mu       sync.Mutex // held during a look at the files, and never by a handshake
	files    follow.Set // the certificate and the key
	found    *pair      // the pair in the files when they were last read; nil: they were broken
	broken   *Error     // why there is no pair in the files
	loads    uint64
	refusals uint64

	closed sync.Once
	stop   chan struct{}
	done   chan struct{}
}

// state is what Certs serve and report. pair is the served certificate; nil if no certificate is served. err is what is wrong
// with the files; nil if nothing is wrong.
type state struct {
	pair *pair
	err  *Error
}

// Open reads a certificate and its key, and follows changes of the two files until Close. Both files are in PEM format. The
// first file also contains the intermediate certificates, if there are any. If a file is missing or broken, Open returns no
// error. In this case Ready returns what is wrong, and the certificate is served as soon as the files are good. An error of
// Open means that an argument is invalid.
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
	c.files = follow.Set{{Path: c.certFile, MaxSize: maxSize}, {Path: c.keyFile, MaxSize: maxSize}}
	c.now.Store(&state{})
	c.look(false)
	if opts.Poll < 0 {
		close(c.done)
		return c, nil
	}
	go c.follow()
	return c, nil
}

// absolute returns the absolute path, because the program may change its directory later.
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
			c.look(false)
		}
	}
}

// Close ends the regular looks at the files, and waits for the end of the last look. Configs go on working with the present
// certificate and the tickets. Close returns nil, and may be called again.
func (c *Certs) Close() error {
	c.closed.Do(func() { close(c.stop) })
	<-c.done
	logqueue.Flush(c.opts.Logger)
	return nil
}

// Config returns a config for servers. It can be used for http.Server.TLSConfig with ServeTLS("", ""), for tls.NewListener, and
// for credentials.NewTLS of gRPC. The server itself has to set NextProtos. Each call returns a new config. A server may clone
// the config, and may change the fields that Config does not set. All configs and clones follow the files and share the
// tickets.
func (c *Certs) Config() *tls.Config {
	cfg := c.opts.Config.Clone()
	cfg.GetCertificate = c.certificate
	// A function GetConfigForClient is not set. Handshakes would then use the config that the function returns, without the
	// fields that the server has set in its copy of the config, such as the protocols for HTTP/2.
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

// Ready looks at the files. It returns nil if the served certificate is valid now. So it also returns nil if the files are
// broken, and the last good certificate is still served and valid. Otherwise Ready returns an [*Error] that names the file and
// the reason. If no certificate is served at all, errors.Is reports [ErrNoCertificate] for the error. If ctx has already ended,
// Ready does not look, and returns the error of ctx.
func (c *Certs) Ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("certs: %s: %w", c.certFile, err)
	}
	c.look(false)
	if bad := c.problem(c.now.Load()); bad != nil {
		return bad
	}
	return nil
}

// Reload reads the files now, even if they seem to be unchanged, and serves their certificate if it is good. It returns nil if
// the served certificate is the one in the files, and is valid now. Otherwise Reload returns an [*Error] that names the file and
// the reason. Unlike Ready, Reload returns an error if an earlier certificate is still served because the files are broken. It
// also returns an error if the files change during the call: then call it again, or let the next look read them. Reload works
// after Close too.
func (c *Certs) Reload() error {
	if bad := c.look(true); bad != nil {
		return bad
	}
	return nil
}

// problem returns why no certificate is served, or why the served certificate is not valid now. If the served certificate is
// valid, it returns nil.
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
	// CertFile and KeyFile are the absolute paths of the two files.
	CertFile string `json:"cert_file"`
	KeyFile  string `json:"key_file"`
	// State is "ready", "stale: REASON" or "not ready: REASON". Stale means that an earlier certificate is still served and
	// valid; the reason says why the files are not served. Not ready means that Ready returns an error with the same reason.
	State string `json:"state"`
	// Names are the host names and addresses of the certificate that is served.
	Names []string `json:"names,omitempty"`
	// NotAfter is when the served certificate expires.
	NotAfter time.Time `json:"not_after,omitzero"`
	// Loaded is when the served certificate was read.
	Loaded time.Time `json:"loaded,omitzero"`
	// Loads is the number of certificates that were loaded. Refusals is the number of times that files were refused. Several
	// refusals in a row for the same reason count as one.
	Loads    uint64 `json:"loads"`
	Refusals uint64 `json:"refusals"`
	// Error is what is wrong with the files; empty if nothing is wrong.
	Error string `json:"error,omitempty"`
	// TicketKeys is the number of ticket keys, including the key of the next day.
	TicketKeys int `json:"ticket_keys"`
}

// Status returns the present state. It does not look at the files, but may wait for a look that is going on.
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
