package certs_test

import (
	"crypto/tls"
	"testing"
	"time"

	"github.com/midair-go/midair/upgrade/certs"
)

// A handshake only loads two atomic values, and allocates nothing.
func TestHandshakesLookUpWithoutAllocating(t *testing.T) {
	process := newFiles(t, issue(t, "one")).open(certs.Options{})
	hello := &tls.ClientHelloInfo{ServerName: host}
	for name, fn := range map[string]func(){
		"certificate": func() { process.Certificate(hello) },
		"ticket keys": func() { process.Tickets() },
	} {
		if n := testing.AllocsPerRun(100, fn); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkCertificate(b *testing.B) {
	process := newFiles(b, issue(b, "one")).open(certs.Options{})
	hello := &tls.ClientHelloInfo{ServerName: host}
	b.ReportAllocs()
	for b.Loop() {
		if cert, err := process.Certificate(hello); cert == nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTicketKeys(b *testing.B) {
	process := newFiles(b, issue(b, "one")).open(certs.Options{})
	b.ReportAllocs()
	for b.Loop() {
		process.Tickets()
	}
}

// BenchmarkLook measures a look at unchanged files: this is the cost of polling.
func BenchmarkLook(b *testing.B) {
	process := newFiles(b, issue(b, "one")).open(certs.Options{})
	<-time.After(2 * time.Second) // until then each look reads the files
	process.Look()
	b.ReportAllocs()
	for b.Loop() {
		process.Look()
	}
}

// BenchmarkHandshake compares connections that resume a session, connections that do not, and connections with the tickets of
// crypto/tls.
func BenchmarkHandshake(b *testing.B) {
	id := issue(b, "one")
	process := newFiles(b, id).open(certs.Options{})
	pair, err := tls.X509KeyPair(id.cert, id.key)
	must(b, err)
	plain := &tls.Config{Certificates: []tls.Certificate{pair}}
	for name, server := range map[string]*tls.Config{"certs": process.Config(), "crypto-tls": plain} {
		for kind, cache := range map[string]tls.ClientSessionCache{"full": nil, "resumed": tls.NewLRUClientSessionCache(0)} {
			b.Run(name+"/"+kind, func(b *testing.B) {
				c := newClient(b, tls.VersionTLS13, id)
				c.cfg.ClientSessionCache = cache
				b.ReportAllocs()
				for b.Loop() {
					if _, err := c.try(server); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
