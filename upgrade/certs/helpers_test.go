package certs_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/logqueue"
	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/certs"
)

const host = "shop.example"

var versions = map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// identity is a self-signed certificate with its key, in PEM.
type identity struct{ cert, key []byte }

// issue makes an identity for host, valid from an hour ago for 100 days. The functions in change may change the certificate.
func issue(t testing.TB, name string, change ...func(*x509.Certificate)) identity {
	t.Helper()
	about := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(100 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	for _, f := range change {
		f(about)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	cert, err := x509.CreateCertificate(rand.Reader, about, about, &key.PublicKey, key)
	must(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	block := func(kind string, b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}) }
	return identity{block("CERTIFICATE", cert), block("PRIVATE KEY", secret)}
}

func valid(from, to time.Duration) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = time.Now().Add(from), time.Now().Add(to) }
}

// files has the paths of a certificate and its key.
type files struct {
	t         testing.TB
	cert, key string
}

func newFiles(t testing.TB, id identity) files {
	t.Helper()
	dir := t.TempDir()
	f := files{t, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	f.put(id)
	return f
}

// put replaces both files, one after the other.
func (f files) put(id identity) {
	f.t.Helper()
	f.replace(f.cert, id.cert)
	f.replace(f.key, id.key)
}

func (f files) replace(path string, content []byte) {
	f.t.Helper()
	must(f.t, errors.Join(os.WriteFile(path+".new", content, 0o600), os.Rename(path+".new", path)))
}

// open returns new Certs, in place of a new process. They do not poll, unless opts set Poll.
func (f files) open(opts certs.Options) *certs.Certs {
	f.t.Helper()
	if opts.Poll == 0 {
		opts.Poll = -1
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	c, err := certs.Open(f.cert, f.key, opts)
	must(f.t, err)
	f.t.Cleanup(func() { c.Close() })
	return c
}

// succeed returns new Certs with the keys that the Certs from hand over.
func (f files) succeed(from *certs.Certs) *certs.Certs {
	f.t.Helper()
	c := f.open(certs.Options{})
	testutil.HandOver(f.t, from, c)
	return c
}

// client makes new connections, and verifies the certificates that it gets.
type client struct {
	t   testing.TB
	cfg *tls.Config
}

func newClient(t testing.TB, version uint16, trusted ...identity) client {
	roots := x509.NewCertPool()
	for _, id := range trusted {
		roots.AppendCertsFromPEM(id.cert)
	}
	return client{t, &tls.Config{
		ServerName: host, RootCAs: roots, MinVersion: version, MaxVersion: version,
		ClientSessionCache: tls.NewLRUClientSessionCache(0), NextProtos: []string{"h2"},
	}}
}

// try connects to a server, and returns the state of the connection after the handshake.
func (c client) try(server *tls.Config) (tls.ConnectionState, error) {
	near, far := newPipe()
	failed := make(chan error, 1)
	go func() { // ends when the connection ends
		conn := tls.Server(far, server)
		_, err := conn.Write([]byte("x")) // comes after the tickets
		failed <- errors.Join(err, conn.Close(), far.Close())
	}()
	conn := tls.Client(near, c.cfg)
	_, err := io.ReadAll(conn)
	near.Close()
	return conn.ConnectionState(), errors.Join(err, ignoreClosed(<-failed))
}

func ignoreClosed(err error) error {
	if errors.Is(err, io.ErrClosedPipe) {
		return nil
	}
	return err
}

// visit connects to a process and reports whether the session was resumed.
func (c client) visit(server *certs.Certs) bool {
	c.t.Helper()
	s, err := c.try(server.Config())
	must(c.t, err)
	return s.DidResume
}

// sees returns the name of the certificate that a client without a session gets.
func (c client) sees(server *certs.Certs) string {
	c.t.Helper()
	c.cfg = c.cfg.Clone()
	c.cfg.ClientSessionCache = nil
	s, err := c.try(server.Config())
	must(c.t, err)
	return s.PeerCertificates[0].Subject.CommonName
}

// frozen is a session cache that keeps the first session for ever.
type frozen struct {
	mu sync.Mutex
	s  *tls.ClientSessionState
}

func (f *frozen) Get(string) (*tls.ClientSessionState, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.s, f.s != nil
}

func (f *frozen) Put(_ string, s *tls.ClientSessionState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.s == nil {
		f.s = s
	}
}

// holder returns a client that always sends the ticket of its first visit.
func (c client) holder(server *certs.Certs) client {
	c.t.Helper()
	c.cfg = c.cfg.Clone()
	c.cfg.ClientSessionCache = &frozen{}
	if c.visit(server) {
		c.t.Fatal("resumed without a ticket")
	}
	return c
}

// journal collects the lines of a log.
type journal struct {
	log *slog.Logger

	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(b)
}

// logger returns a logger whose lines are in the journal as soon as they are logged.
func (j *journal) logger() *slog.Logger {
	j.log = logqueue.Wrap(slog.New(slog.NewTextHandler(j, nil)))
	return j.log
}

func (j *journal) count(text string) int {
	logqueue.Flush(j.log)
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.b.String(), text)
}

// mustBeReady calls Ready. If want is empty, Ready must return nil; otherwise its error must contain want.
func mustBeReady(t testing.TB, c *certs.Certs, want string) {
	t.Helper()
	err := c.Ready(context.Background())
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("Ready returns %v, want %q", err, want)
	}
}

func mustContain(t testing.TB, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("the error is %v, want %q in it", err, want)
	}
}

func gateLogger(g gate) *slog.Logger { return slog.New(g) }
