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
	"io/fs"
	"os"
	"strings"
	"time"
)

// settle is the time after a change of a file in which each look reads the content of the file. Later a look trusts the size
// and the time of the file. The reason: if a file changes twice within one tick of the file system's clock, both changes give
// the file the same time.
const settle = 2 * time.Second

// maxSize is the greatest size of a file, in bytes.
const maxSize = 1 << 20

// pair is a certificate with the matching key. A pair never changes.
type pair struct {
	file   string // the path of the certificate
	cert   *tls.Certificate
	sum    [sha256.Size]byte // a checksum of both files
	loaded time.Time
}

// stamp is the file information of the two files. If a later stamp is different, the files have changed.
type stamp [2]os.FileInfo

func (s stamp) same(other stamp) bool {
	for i, a := range s {
		b := other[i]
		if a == nil || b == nil || !os.SameFile(a, b) || a.Size() != b.Size() || !a.ModTime().Equal(b.ModTime()) {
			return false
		}
	}
	return true
}

func (s stamp) settled() bool {
	return time.Since(s[0].ModTime()) > settle && time.Since(s[1].ModTime()) > settle
}

func (c *Certs) stamp() (s stamp, bad *Error) {
	for i, path := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(path)
		switch {
		case err != nil:
			return s, unreadable(path, err)
		case !info.Mode().IsRegular(): // a read from a pipe, for example, would wait
			return s, &Error{Path: path, Reason: "it is not a regular file"}
		case info.Size() > maxSize:
			return s, &Error{Path: path, Reason: fmt.Sprintf("it has %d bytes, more than %d", info.Size(), maxSize)}
		}
		s[i] = info
	}
	return s, nil
}

func unreadable(path string, err error) *Error {
	reason := strings.TrimPrefix(err.Error(), "open "+path+": ")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		reason = "there is no such file"
	case errors.Is(err, fs.ErrPermission):
		reason = "it may not be read by this process: change its permissions"
	}
	return &Error{Path: path, Reason: reason, Err: err}
}

// look reads the files if they may have changed, and begins to serve a good pair. It also reads them if the last look has found
// an error, or if the served certificate is not valid now: a certificate that is not valid yet becomes valid without a change
// of its file.
func (c *Certs) look() {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, bad := c.stamp()
	if bad == nil && s.same(c.seen) && s.settled() && c.now.Load().pair.outside(time.Now()) == nil {
		return
	}
	c.seen = stamp{}
	var p *pair
	if bad == nil {
		p, bad = c.read(s)
	}
	c.conclude(p, s, bad)
}

// conclude handles the result of a look: a pair, an error, or neither if the files were changing.
func (c *Certs) conclude(p *pair, s stamp, bad *Error) {
	c.writing = p == nil && bad == nil
	if bad != nil {
		c.refuse(bad)
	} else if p != nil {
		c.offer(p, s)
	}
}

// read reads the two files, and returns their pair. If the files change meanwhile, read returns nil for both results, and the
// next look reads the files again. In two cases such a change is an error: if no pair is served, and if the files have changed
// during the last look as well (c.writing).
func (c *Certs) read(before stamp) (*pair, *Error) {
	cert, err := os.ReadFile(c.certFile)
	if err != nil {
		return nil, unreadable(c.certFile, err)
	}
	key, err := os.ReadFile(c.keyFile)
	if err != nil {
		return nil, unreadable(c.keyFile, err)
	}
	after, bad := c.stamp()
	if bad != nil {
		return nil, bad
	}
	if after.same(before) {
		return parse(c.certFile, c.keyFile, cert, key)
	}
	if c.now.Load().pair != nil && !c.writing {
		return nil, nil
	}
	return nil, &Error{Path: c.certFile, Reason: "it or its key changes while it is read: somebody is writing it"}
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
func (c *Certs) offer(p *pair, s stamp) {
	now, at := c.now.Load(), time.Now()
	bad := p.outside(at)
	if bad != nil && now.pair != nil && now.pair.sum != p.sum && now.pair.outside(at) == nil {
		c.refuse(bad)
		return
	}
	if bad == nil {
		c.seen = s
	}
	if now.pair != nil && now.pair.sum == p.sum {
		p = now.pair
	}
	c.now.Store(&state{pair: p})
	if p != now.pair {
		c.loads++
		c.opts.Logger.Info("certs: loaded", "path", p.file, "names", p.names(), "not_after", p.cert.Leaf.NotAfter.UTC())
	} else if bad == nil && now.err != nil {
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
