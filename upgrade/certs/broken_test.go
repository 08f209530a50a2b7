package certs_test

import (
	"crypto/tls"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/upgrade/certs"
)

// The error names the broken file. A process that starts with a broken file is not ready and serves no certificate. A process
// with a good certificate goes on serving it. Both processes recover by themselves.
func TestBrokenFilesAreAState(t *testing.T) {
	one, two := issue(t, "one"), issue(t, "two")
	at := func(path string) func(files, []byte) {
		return func(f files, b []byte) { f.replace(map[string]string{"cert": f.cert, "key": f.key}[path], b) }
	}
	remove := func(path func(files) string) func(files, []byte) {
		return func(f files, _ []byte) { must(f.t, os.Remove(path(f))) }
	}
	certFile, keyFile := func(f files) string { return f.cert }, func(f files) string { return f.key }
	chain := append(append([]byte{}, two.cert...), one.cert...)
	for name, c := range map[string]struct {
		harm    func(files, []byte)
		content []byte
		path    func(files) string
		want    string
	}{
		"missing certificate": {remove(certFile), nil, certFile, "there is no such file"},
		"missing key":         {remove(keyFile), nil, keyFile, "there is no such file"},
		"empty certificate":   {at("cert"), nil, certFile, "it holds no certificate in PEM form"},
		"empty key":           {at("key"), nil, keyFile, "failed to find any PEM data in key input"},
		"key as certificate":  {at("cert"), one.key, certFile, "it holds no certificate in PEM form"},
		"certificate as key":  {at("key"), one.cert, keyFile, "found a certificate rather than a key"},
		"half a certificate":  {at("cert"), one.cert[:200], certFile, "not written to its end"},
		"half a chain":        {at("cert"), chain[:len(chain)-9], certFile, "not written to its end"},
		"half a key":          {at("key"), one.key[:99], keyFile, "failed to find any PEM data"},
		"no certificate":      {at("cert"), []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), certFile, "x509: "},
		"encrypted key": {at("key"), []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"), keyFile,
			"it is encrypted with a passphrase"},
		"much too large":    {at("cert"), make([]byte, 1<<20+1), certFile, "more than 1048576"},
		"key of another":    {at("key"), two.key, keyFile, "private key does not match public key"},
		"expired":           {files.putPair, expired(t), certFile, "it expired on"},
		"not valid yet":     {files.putPair, early(t), certFile, "it is not valid before"},
		"directory":         {files.makeDirectory, nil, certFile, "it is not a regular file"},
		"path below a file": {files.makeFile, nil, certFile, "not a directory"},
		"permission":        {files.forbid, nil, keyFile, "change its permissions"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "permission" && (os.Getuid() == 0 || runtime.GOOS == "windows") {
				t.Skip("everything may be read here")
			}
			f := newFiles(t, one)
			process := f.open(certs.Options{})
			c.harm(f, c.content)
			process.Look()
			if got := newClient(t, tls.VersionTLS13, one).sees(process); got != "one" {
				t.Errorf("%s is served", got)
			}
			mustBeReady(t, process, "")
			if s := process.Status(); !strings.HasPrefix(s.State, "stale: "+c.path(f)+": ") || !strings.Contains(s.Error, c.want) {
				t.Errorf("%+v", s)
			}
			fresh := f.open(certs.Options{})
			mustBeReady(t, fresh, c.path(f)+": ")
			mustBeReady(t, fresh, c.want)
			if s := fresh.Status(); !strings.HasPrefix(s.State, "not ready: ") || !strings.Contains(s.State, c.want) {
				t.Errorf("%+v", s)
			}
			f.restore(two)
			process.Look()
			mustBeReady(t, fresh, "")
			visitor := newClient(t, tls.VersionTLS13, one, two)
			if a, b := visitor.sees(process), visitor.sees(fresh); a != "two" || b != "two" {
				t.Errorf("with good files %s and %s are served", a, b)
			}
		})
	}
}

func expired(t *testing.T) []byte { return joined(issue(t, "old", valid(-48*time.Hour, -time.Hour))) }
func early(t *testing.T) []byte   { return joined(issue(t, "new", valid(time.Hour, 48*time.Hour))) }

// joined puts the certificate and the key into one file, which can be used for both.
func joined(id identity) []byte { return append(append([]byte{}, id.cert...), id.key...) }

func (f files) putPair(both []byte) { f.put(identity{both, both}) }

func (f files) makeDirectory([]byte) {
	must(f.t, errors.Join(os.Remove(f.cert), os.Mkdir(f.cert, 0o700)))
}

func (f files) makeFile([]byte) {
	dir := filepath.Dir(f.cert)
	must(f.t, errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)))
}

func (f files) forbid([]byte) { must(f.t, os.Chmod(f.key, 0)) }

// restore puts good files in the place of broken ones.
func (f files) restore(id identity) {
	dir := filepath.Dir(f.cert)
	must(f.t, errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)))
	f.put(id)
}

// If no certificate was ever served, handshakes fail with an error. It is ErrNoCertificate, and its cause is the error of the
// system.
func TestWithoutACertificateHandshakesFailWithTheReason(t *testing.T) {
	f := newFiles(t, issue(t, "one"))
	must(t, os.Remove(f.key))
	process := f.open(certs.Options{})
	err := process.Ready(t.Context())
	var failed *certs.Error
	if !errors.Is(err, certs.ErrNoCertificate) || !errors.Is(err, fs.ErrNotExist) || !errors.As(err, &failed) || failed.Path != f.key {
		t.Errorf("%#v", err)
	}
	if _, err := process.Certificate(&tls.ClientHelloInfo{}); err == nil || !strings.Contains(err.Error(), f.key+": there is no such file") {
		t.Errorf("a handshake: %v", err)
	}
	if _, err := newClient(t, tls.VersionTLS13).try(process.Config()); err == nil {
		t.Error("a handshake without a certificate")
	}
	f.putPair(expired(t))
	if err := process.Ready(t.Context()); err == nil || errors.Is(err, certs.ErrNoCertificate) {
		t.Errorf("served although it has expired: %v", err)
	}
}
