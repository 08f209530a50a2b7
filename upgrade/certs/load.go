package certs

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/midair-go/midair/internal/follow"
)

// maxSize is the greatest size of a file, in bytes.
const maxSize = 1 << 20

// pair is a certificate with the matching key. A pair never changes.
type pair struct {
	file   string // the path of the certificate
	cert   *tls.Certificate
	sum    [sha256.Size]byte // a checksum of both files
	loaded time.Time
}

// look reads the files if they may have changed, and begins to serve a good pair. With always, it reads the files in any case.
// The choice between the served pair and the pair in the files is made again at each look: a certificate that is not valid yet
// becomes valid without a change of its file. look returns what is wrong with the files, or nil.
func (c *Certs) look(always bool) *Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	contents, fresh, err := c.files.Look(always)
	switch failed := (*follow.Error)(nil); {
	case errors.As(err, &failed):
		bad := &Error{Path: failed.Path, Reason: failed.Reason, Err: failed.Err}
		if errors.Is(err, follow.ErrWriting) && c.now.Load().pair != nil {
			return bad // it is too early to log this error: most probably the next look finds files at rest
		}
		c.found, c.broken = nil, bad
	case fresh:
		c.found, c.broken = parse(c.certFile, c.keyFile, contents[0], contents[1])
	}
	if c.broken != nil {
		c.refuse(c.broken)
	} else {
		c.offer(c.found)
	}
	return c.wrong()
}

// wrong returns what is wrong with the files, or nil.
func (c *Certs) wrong() *Error {
	now := c.now.Load()
	if now.err != nil && now.pair == nil {
		return c.problem(now)
	}
	return now.err
}

// parse makes a pair from the contents of the files. The error names the file that is broken.
func parse(certFile, keyFile string, certPEM, keyPEM []byte) (*pair, *Error) {
	if err := checkChain(certPEM); err != nil {
		return nil, &Error{Path: certFile, Reason: err.Error()}
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		reason := strings.TrimPrefix(err.Error(), "tls: ")
		if bytes.Contains(keyPEM, []byte("ENCRYPTED")) {
			reason = "it is encrypted with a passphrase: store it without one"
		}
		return nil, &Error{Path: keyFile, Reason: reason + " (for the certificate in " + certFile + ")", Err: err}
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%d\n%s%s", len(certPEM), certPEM, keyPEM))
	return &pair{file: certFile, cert: &cert, sum: sum, loaded: time.Now()}, nil
}

// checkChain returns an error if the content has no certificate, or if a PEM block cannot be read, for example because the end
// of the file is missing. crypto/tls would silently leave out such a block.
func checkChain(content []byte) error {
	blocks, leaf := 0, []byte(nil)
	for rest := content; ; blocks++ {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		if b.Type == "CERTIFICATE" && leaf == nil {
			leaf = b.Bytes
		}
	}
	if bytes.Count(content, []byte("-----BEGIN ")) != blocks {
		return errors.New("it is damaged, or not written to its end: one of its PEM blocks cannot be read")
	}
	if leaf == nil {
		return errors.New("it holds no certificate in PEM form")
	}
	_, err := x509.ParseCertificate(leaf)
	return err
}

// outside returns why the certificate is not valid at the given time. If the certificate is valid, outside returns nil.
func (p *pair) outside(at time.Time) *Error {
	const day = "2006-01-02 15:04:05 MST"
	leaf := p.cert.Leaf
	switch {
	case at.After(leaf.NotAfter):
		return &Error{Path: p.file, Reason: "it expired on " + leaf.NotAfter.UTC().Format(day) + ": renew it"}
	case at.Before(leaf.NotBefore):
		return &Error{Path: p.file, Reason: "it is not valid before " + leaf.NotBefore.UTC().Format(day) + ": is the clock right?"}
	}
	return nil
}

// names returns the host names and addresses of the certificate. If there are none, it returns the common name. If there is no
// common name, it returns the whole subject.
func (p *pair) names() []string {
	leaf := p.cert.Leaf
	names := append([]string(nil), leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		names = []string{cmp.Or(leaf.Subject.CommonName, leaf.Subject.String())}
	}
	return names
}

// offer begins to serve a pair, with one exception: if the new pair is not valid now, and the present pair is valid, offer
// refuses the new pair.
func (c *Certs) offer(p *pair) {
	now, at := c.now.Load(), time.Now()
	bad := p.outside(at)
	if now.pair != nil && now.pair.sum == p.sum {
		p = now.pair
	}
	switch {
	case p == now.pair && bad == nil && now.err == nil:
		return
	case bad != nil && now.pair != nil && now.pair.outside(at) == nil:
		c.refuse(bad)
		return
	}
	c.now.Store(&state{pair: p})
	if p != now.pair {
		c.loads++
		c.opts.Logger.Info("certs: loaded", "path", p.file, "names", p.names(), "not_after", p.cert.Leaf.NotAfter.UTC())
	} else if bad == nil {
		c.opts.Logger.Info("certs: the files are good again, nothing changed", "path", p.file)
	}
	if bad != nil {
		c.complain(now.err, bad, "certs: served although it is not valid now")
	}
}

// refuse handles files that cannot be served. The present pair, if there is one, stays in use. Several refusals in a row for
// the same reason are logged and counted only once.
func (c *Certs) refuse(bad *Error) {
	message := "certs: no certificate yet, handshakes fail"
	if c.now.Load().pair != nil {
		message = "certs: files refused, the last good certificate stays"
	}
	if c.complain(c.now.Load().err, bad, message) {
		c.refusals++
	}
}

// complain notes what is wrong with the files. before is the error noted until now. If bad is a different error, complain logs
// bad and returns true.
func (c *Certs) complain(before, bad *Error, message string) bool {
	c.now.Store(&state{pair: c.now.Load().pair, err: bad})
	if before != nil && before.Error() == bad.Error() {
		return false
	}
	c.opts.Logger.Warn(message, "path", bad.Path, "reason", bad.Reason)
	return true
}
