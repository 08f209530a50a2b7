package certs_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/certs"
	"google.golang.org/grpc/credentials"
)

// Clients resume after an upgrade, after the next one, after an abort and after a rollback.
func TestClientsResumeAcrossProcesses(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			id := issue(t, "one")
			f := newFiles(t, id)
			c := newClient(t, version, id)
			first := f.open(certs.Options{})
			if c.visit(first) || !c.visit(first) {
				t.Fatal("resumption does not work at all")
			}
			early := c.holder(first)
			second := f.succeed(first)
			if !c.visit(second) {
				t.Error("no resumption after an upgrade")
			}
			if !c.visit(first) {
				t.Error("no resumption in the old process with a ticket of the candidate, as after an abort")
			}
			third := f.succeed(second)
			if !c.visit(third) || !early.visit(third) {
				t.Error("no resumption after two upgrades")
			}
			back := f.succeed(third)
			if !c.visit(back) || !early.visit(back) {
				t.Error("no resumption after a rollback")
			}
			if c.visit(f.open(certs.Options{})) {
				t.Error("resumption by a process that was told nothing")
			}
		})
	}
}

// What a candidate has issued before it was told anything is accepted by the old process after the abort.
func TestTicketsOfAnAbortedCandidateAreAccepted(t *testing.T) {
	id := issue(t, "one")
	f := newFiles(t, id)
	for name, version := range versions {
		old, candidate := f.open(certs.Options{}), f.open(certs.Options{})
		mine, its := newClient(t, version, id).holder(old), newClient(t, version, id).holder(candidate)
		if its.visit(old) {
			t.Errorf("%s: the old process knows the ticket already", name)
		}
		testutil.HandOver(t, candidate, old)
		if !its.visit(old) || !mine.visit(old) {
			t.Errorf("%s: no resumption after the abort", name)
		}
	}
}

// Servers of net/http can use the config unchanged: their own copies of it resume sessions across processes, with HTTP/1.1 and
// HTTP/2.
func TestServersOfNetHTTPResumeAcrossProcesses(t *testing.T) {
	id := issue(t, "one")
	f := newFiles(t, id)
	for name, version := range versions {
		for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
			t.Run(name+" "+proto, func(t *testing.T) {
				c := newClient(t, version, id)
				first := f.open(certs.Options{})
				second := f.succeed(first)
				var got []bool
				for _, process := range []*certs.Certs{first, first, second, first, f.succeed(second)} {
					got = append(got, c.get(serve(t, process), proto))
				}
				if got[0] || !got[1] || !got[2] || !got[3] || !got[4] {
					t.Errorf("resumed: %v, want all but the first", got)
				}
			})
		}
	}
}

// serve runs an HTTP server on a real listener and returns its address.
func serve(t *testing.T, process *certs.Certs) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	srv := &http.Server{TLSConfig: process.Config(), Handler: http.NotFoundHandler()}
	done := make(chan error, 1)
	go func() { done <- srv.ServeTLS(ln, "", "") }() // ends when srv is closed
	t.Cleanup(func() {
		srv.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}

// get sends an HTTP server a request over a new connection, and reports whether the session was resumed.
func (c client) get(addr, proto string) bool {
	c.t.Helper()
	p := new(http.Protocols)
	p.SetHTTP1(proto == "HTTP/1.1")
	p.SetHTTP2(proto == "HTTP/2.0")
	cfg := c.cfg.Clone()
	cfg.NextProtos = nil
	tr := &http.Transport{TLSClientConfig: cfg, Protocols: p}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Get("https://" + addr)
	must(c.t, err)
	resp.Body.Close()
	if resp.Proto != proto {
		c.t.Errorf("the server speaks %s, want %s", resp.Proto, proto)
	}
	return resp.TLS.DidResume
}

// Servers of gRPC can use the config unchanged, and speak HTTP/2 with it.
func TestServersOfGRPCResumeAcrossProcesses(t *testing.T) {
	id := issue(t, "one")
	f := newFiles(t, id)
	c := newClient(t, tls.VersionTLS13, id)
	first := f.open(certs.Options{})
	for i, process := range []*certs.Certs{first, f.succeed(first)} {
		near, far := newPipe()
		failed := make(chan error, 1)
		go func() { // ends with the connection
			conn, _, err := credentials.NewTLS(process.Config()).ServerHandshake(far)
			if err == nil {
				_, err = conn.Write([]byte("x"))
			}
			failed <- err
		}()
		conn := tls.Client(near, c.cfg)
		_, err := conn.Read(make([]byte, 1))
		must(t, errors.Join(err, <-failed))
		if s := conn.ConnectionState(); s.DidResume != (i > 0) || s.NegotiatedProtocol != "h2" {
			t.Errorf("process %d: resumed %v, protocol %q", i+1, s.DidResume, s.NegotiatedProtocol)
		}
		near.Close()
		far.Close()
	}
}

// A new certificate does not end sessions, because sessions do not depend on it. A client without a session gets the new
// certificate.
func TestClientsResumeWhenTheCertificateChanges(t *testing.T) {
	one, two := issue(t, "one"), issue(t, "two")
	for name, version := range versions {
		f := newFiles(t, one)
		c := newClient(t, version, one, two)
		first := f.open(certs.Options{})
		c.visit(first)
		f.put(two)
		first.Look()
		if !c.visit(first) {
			t.Errorf("%s: no resumption with a new certificate", name)
		}
		if !c.visit(f.succeed(first)) {
			t.Errorf("%s: no resumption after an upgrade with a new certificate", name)
		}
		if got := c.sees(first); got != "two" {
			t.Errorf("%s: the certificate is %s", name, got)
		}
	}
}

// A client of crypto/tls resumes a session as long as the certificate of the session is valid.
func TestClientsResumeUntilTheirCertificateExpires(t *testing.T) {
	for name, version := range versions {
		synctest.Test(t, func(t *testing.T) {
			one, two := issue(t, "one", valid(-time.Hour, 48*time.Hour)), issue(t, "two")
			f := newFiles(t, one)
			process := f.open(certs.Options{})
			c := newClient(t, version, one, two)
			held := c.holder(process)
			f.put(two)
			process.Look()
			time.Sleep(47 * time.Hour)
			if !held.visit(process) {
				t.Errorf("%s: no resumption while it is valid", name)
			}
			time.Sleep(2 * time.Hour)
			if held.visit(process) {
				t.Errorf("%s: resumption although it has expired", name)
			}
		})
	}
}

// The other settings in the user's config have their effect. Here these are client certificates, which a resumed session keeps.
func TestTheConfigOfTheUserHolds(t *testing.T) {
	id, me := issue(t, "one"), issue(t, "me")
	f := newFiles(t, id)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(me.cert)
	base := &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, NextProtos: []string{"h2"}}
	first := f.open(certs.Options{Config: base})
	second := f.open(certs.Options{Config: base})
	testutil.HandOver(t, first, second)
	c := newClient(t, tls.VersionTLS13, id)
	if _, err := c.try(first.Config()); err == nil {
		t.Error("served without a client certificate")
	}
	pair, err := tls.X509KeyPair(me.cert, me.key)
	must(t, err)
	c.cfg.Certificates = []tls.Certificate{pair}
	for i, process := range []*certs.Certs{first, second} {
		s, err := c.try(process.Config())
		if err != nil || s.DidResume != (i > 0) || s.NegotiatedProtocol != "h2" {
			t.Errorf("process %d: resumed %v, protocol %q, %v", i+1, s.DidResume, s.NegotiatedProtocol, err)
		}
	}
	base.ClientAuth = tls.NoClientCert
	if s, err := newClient(t, tls.VersionTLS13, id).try(first.Config()); err == nil {
		t.Errorf("a later change of the user's config has an effect: %+v", s)
	}
}

// Tickets can be turned off.
func TestNoTicketsWhereTheyAreTurnedOff(t *testing.T) {
	id := issue(t, "one")
	process := newFiles(t, id).open(certs.Options{Config: &tls.Config{SessionTicketsDisabled: true}})
	for name, version := range versions {
		c := newClient(t, version, id)
		for range 2 {
			if c.visit(process) {
				t.Errorf("%s: resumed", name)
			}
		}
	}
}

// GetCertificate of the user is called first. If it returns an error, the handshake fails with this error.
func TestGetCertificateOfTheUserComesFirst(t *testing.T) {
	id, other := issue(t, "one"), issue(t, "other", func(c *x509.Certificate) { c.DNSNames = []string{"other.example"} })
	pair, err := tls.X509KeyPair(other.cert, other.key)
	must(t, err)
	base := &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		switch hello.ServerName {
		case "other.example":
			return &pair, nil
		case "bad.example":
			return nil, errors.New("unknown host")
		}
		return nil, nil
	}}
	process := newFiles(t, id).open(certs.Options{Config: base})
	for name, want := range map[string]string{host: "one", "other.example": "other", "bad.example": ""} {
		c := newClient(t, tls.VersionTLS13, id, other)
		c.cfg.ServerName = name
		s, err := c.try(process.Config())
		if want == "" {
			mustContain(t, err, "unknown host")
		} else if err != nil || s.PeerCertificates[0].Subject.CommonName != want {
			t.Errorf("%s: %v, want the certificate %q", name, err, want)
		}
	}
}

// GetConfigForClient can be set in the result of Config. Clones of the config have the certificate and the tickets.
func TestClonesOfTheConfigHaveCertificateAndTickets(t *testing.T) {
	id := issue(t, "one")
	f := newFiles(t, id)
	first := f.open(certs.Options{})
	c := newClient(t, tls.VersionTLS13, id)
	for i, process := range []*certs.Certs{first, f.succeed(first)} {
		cfg := process.Config()
		special := cfg.Clone()
		special.NextProtos = []string{"h2"}
		cfg.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return special, nil }
		s, err := c.try(cfg)
		if err != nil || s.DidResume != (i > 0) || s.NegotiatedProtocol != "h2" {
			t.Errorf("process %d: resumed %v, protocol %q, %v", i+1, s.DidResume, s.NegotiatedProtocol, err)
		}
	}
}

// A field of the config that would silently replace the certificate or the tickets is refused. The error tells what to do
// instead.
func TestOptionsThatConflictAreRefused(t *testing.T) {
	f := newFiles(t, issue(t, "one"))
	for want, base := range map[string]*tls.Config{
		"result of Config":    {GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, nil }},
		"from its GetCert":    {Certificates: make([]tls.Certificate, 1)},
		"UnwrapSession":       {UnwrapSession: new(tls.Config).DecryptTicket},
		"tickets are made he": {WrapSession: new(tls.Config).EncryptTicket},
	} {
		c, err := certs.Open(f.cert, f.key, certs.Options{Config: base})
		if c != nil {
			t.Errorf("accepted without %q", want)
		}
		mustContain(t, err, want)
	}
	for _, paths := range [][2]string{{"", f.key}, {f.cert, ""}} {
		_, err := certs.Open(paths[0], paths[1], certs.Options{})
		mustContain(t, err, "needs the paths of two files")
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.open(certs.Options{}).Ready(done); !errors.Is(err, context.Canceled) {
		t.Errorf("Ready with a context that is over: %v", err)
	}
}
