package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// newCertificate writes a self-signed certificate and its key.
func newCertificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{{127, 0, 0, 1}}}
	cert, err := x509.CreateCertificate(rand.Reader, about, about, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, b []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("cert.pem", "CERTIFICATE", cert), write("key.pem", "PRIVATE KEY", secret)
}

// http2Client returns one that speaks nothing but HTTP/2.
func http2Client(t *testing.T) *http.Client {
	p := new(http.Protocols)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: p, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

// HTTP/2 works on the same port as HTTP/1.1, with and without TLS.
func TestHTTP2(t *testing.T) {
	cert, key := newCertificate(t)
	for scheme, args := range map[string][]string{"http": nil, "https": {"-tls-cert", cert, "-tls-key", key}} {
		s := startSite(t, args...)
		req, err := http.NewRequest("POST", scheme+"://"+s.addr+"/echo", strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		r, err := send(http2Client(t), req)
		if err != nil || r.proto != "HTTP/2.0" || r.body != "hello" || r.version() != "v1" {
			t.Errorf("%s: %+v, %v", scheme, r, err)
		}
	}
}

// served is the certificate that a new client sees.
func (s *site) served() string {
	s.t.Helper()
	conn, err := tls.Dial("tcp", s.addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	return string(conn.ConnectionState().PeerCertificates[0].Raw)
}

// A renewed certificate is served without an upgrade.
func TestNewCertificate(t *testing.T) {
	cert, key := newCertificate(t)
	s := startSite(t, "-tls-cert", cert, "-tls-key", key)
	old, pid := s.served(), s.mainPID()
	renew(t, cert, key)
	testutil.Until(t, patience, "the new certificate is served", func() bool { return s.served() != old })
	if s.mainPID() != pid {
		t.Error("another process serves it")
	}
}

func renew(t *testing.T, cert, key string) {
	t.Helper()
	newCert, newKey := newCertificate(t)
	if err := errors.Join(os.Rename(newCert, cert), os.Rename(newKey, key)); err != nil {
		t.Fatal(err)
	}
}

// An upgrade takes up a certificate that was renewed just before. One that cannot read its key is taken back, and the last
// good certificate goes on.
func TestUpgradeTakesUpNewCertificate(t *testing.T) {
	cert, key := newCertificate(t)
	s := startSite(t, "-tls-cert", cert, "-tls-key", key)
	old := s.served()
	renew(t, cert, key)
	s.post("/upgrade?force=1", 200)
	renewed := s.served()
	if renewed == old {
		t.Error("the old certificate is used after the upgrade")
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if a := s.post("/upgrade?force=1", 500); a.Phase != "check" || !strings.Contains(a.Reason, key+": there is no such file") {
		t.Errorf("an upgrade without a key: %+v", a)
	}
	if s.served() != renewed {
		t.Error("another certificate is served after a failed upgrade")
	}
}

// A TLS client resumes its session with every process that comes: after an upgrade and a second one, with a candidate and
// with the old process after the abort, and after a rollback.
func TestTLSClientsResumeAcrossUpgrades(t *testing.T) {
	cert, key := newCertificate(t)
	s := startSite(t, "-tls-cert", cert, "-tls-key", key, "-soak", "1h")
	clients := []tlsClient{newTLSClient(tls.VersionTLS12, false), newTLSClient(tls.VersionTLS13, false), newTLSClient(tls.VersionTLS13, true)}
	visit := func(step, version string, generation int, resumed bool) {
		t.Helper()
		for i, c := range clients {
			if r, did := c.get(t, s.addr); did != resumed || r.version() != version || r.generation() != generation {
				t.Errorf("%s, client %d: resumed %v by %s, generation %d; want %v by %s, %d",
					step, i, did, r.version(), r.generation(), resumed, version, generation)
			}
		}
	}
	commit := func() {
		t.Helper()
		outcome := s.later(context.Background(), "/upgrade?force=1")
		s.untilPhase("soak")
		s.post("/commit", 200)
		s.decoded(<-outcome, 200)
	}
	visit("at first", "v1", 1, false)
	visit("again", "v1", 1, true)

	s.release()
	outcome := s.later(context.Background(), "/upgrade")
	s.untilPhase("soak")
	for i, c := range clients { // both processes accept
		testutil.Until(t, patience, "the candidate answers", func() bool {
			r, did := c.get(t, s.addr)
			if !did {
				t.Errorf("client %d: not resumed by %s while both accept", i, r.version())
			}
			return r.version() == "v2"
		})
	}
	s.post("/abort", 200)
	s.decoded(<-outcome, 500)
	visit("after an abort", "v1", 1, true)

	commit()
	visit("after an upgrade", "v2", 2, true)
	renew(t, cert, key)
	commit()
	visit("after a second one with a new certificate", "v2", 3, true)
	s.post("/rollback", 200)
	visit("after the rollback", "v1", 4, true)
}

// tlsClient remembers its sessions and makes a new connection for each request.
type tlsClient struct {
	cfg   *tls.Config
	proto *http.Protocols
}

func newTLSClient(version uint16, http2 bool) tlsClient {
	p := new(http.Protocols)
	p.SetHTTP1(!http2)
	p.SetHTTP2(http2)
	return tlsClient{&tls.Config{
		InsecureSkipVerify: true, MinVersion: version, MaxVersion: version,
		ClientSessionCache: tls.NewLRUClientSessionCache(0),
	}, p}
}

// get returns an answer, and whether the session was resumed for it.
func (c tlsClient) get(t *testing.T, addr string) (r reply, resumed bool) {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: c.cfg.Clone(), Protocols: c.proto}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr, Timeout: patience}).Get("https://" + addr + "/version")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return reply{status: resp.StatusCode, header: resp.Header, proto: resp.Proto}, resp.TLS.DidResume
}
