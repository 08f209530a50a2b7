package certs_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/certs"
)

// old is a time that tar may give to the files of all releases.
var old = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

// twins returns two identities, "one" and "two", whose files have the same sizes.
func twins(t testing.TB) (one, two identity) {
	t.Helper()
	one, two = issue(t, "one"), issue(t, "two")
	for len(two.cert) != len(one.cert) || len(two.key) != len(one.key) {
		two = issue(t, "two")
	}
	return one, two
}

// settled calls test with Certs that serve one. If the stamps of the files stay the same, the Certs do not read the files for
// the next 10 s. The times of the files are old. In the test time.Sleep waits for no time.
func settled(t *testing.T, test func(t *testing.T, f files, process *certs.Certs, two identity)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		one, two := twins(t)
		f := newFiles(t, one)
		f.date(old)
		process := f.open(certs.Options{})
		time.Sleep(2 * time.Second)
		process.Look()
		test(t, f, process, two)
	})
}

// serves fails unless a new connection gets the certificate with the name.
func serves(t *testing.T, process *certs.Certs, want string) {
	t.Helper()
	cert, err := process.Certificate(&tls.ClientHelloInfo{})
	must(t, err)
	if got := cert.Leaf.Subject.CommonName; got != want {
		t.Errorf("%s is served, want %s", got, want)
	}
}

// each returns a change of both files by the same change of each.
func each(change func(path string, content []byte) error) func(files, identity) {
	return func(f files, id identity) {
		f.t.Helper()
		must(f.t, errors.Join(change(f.cert, id.cert), change(f.key, id.key)))
	}
}

func write(path string, content []byte) error { return os.WriteFile(path, content, 0o600) }

func dated(change func(files, identity)) func(files, identity) {
	return func(f files, id identity) { change(f, id); f.date(old) }
}

// renewals are the ways in which a certificate and its key of the same sizes come to their paths.
var renewals = map[string]func(files, identity){
	"in place":        files.overwrite,
	"in place, dated": dated(files.overwrite),
	"renamed":         files.put,
	"renamed, dated":  dated(files.put),
	"renamed twice": func(f files, id identity) {
		f.put(issue(f.t, "other"))
		f.put(id)
		f.date(old)
	},
	"away, then new": dated(each(func(path string, content []byte) error {
		return errors.Join(os.Rename(path, path+".away"), write(path, content))
	})),
	"removed, then new": dated(each(func(path string, content []byte) error {
		return errors.Join(os.Remove(path), write(path, content))
	})),
	"truncated, then written": dated(each(func(path string, content []byte) error {
		return errors.Join(os.Truncate(path, 0), write(path, content))
	})),
	"hard link": each(func(path string, content []byte) error {
		return errors.Join(write(path+".n", content), os.Chtimes(path+".n", old, old), os.Link(path, path+".o"), os.Rename(path+".n", path))
	}),
	"a write through a hard link": dated(each(func(path string, content []byte) error {
		return errors.Join(os.Link(path, path+".o"), write(path+".o", content))
	})),
	"one after the other": func(f files, id identity) { f.put(id); must(f.t, os.Chtimes(f.cert, old, old)) },
}

// needCtime are the changes that only the ctime shows.
var needCtime = map[string]bool{
	"in place, dated": true, "truncated, then written": true, "a write through a hard link": true, "only the key, in place": true,
}

// skipWithoutCtime skips a change that cannot be seen at once on this system.
func skipWithoutCtime(t *testing.T, name string) {
	t.Helper()
	if needCtime[name] && runtime.GOOS == "windows" {
		t.Skip("files have no ctime here: the content is read 10 s later")
	}
}

// The first look after a renewal serves it, whatever size and time the files have.
func TestEachRenewalIsServedByTheNextLook(t *testing.T) {
	for name, renew := range renewals {
		t.Run(name, func(t *testing.T) {
			skipWithoutCtime(t, name)
			settled(t, func(t *testing.T, f files, process *certs.Certs, two identity) {
				serves(t, process, "one")
				renew(f, two)
				process.Look()
				serves(t, process, "two")
				if s := process.Status(); s.State != "ready" || s.Loads != 2 || s.Refusals != 0 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

// A link that moves from one release to another is followed, even if both have files of the same size and time, and whether the
// old release stays or not.
func TestReleasesOfTheSameTimeAreTold(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("links need a privilege here")
	}
	for _, stays := range []bool{true, false} {
		settled(t, func(t *testing.T, f files, _ *certs.Certs, two identity) {
			dir := t.TempDir()
			link := filepath.Join(dir, "current")
			release := func(name string, cert, key []byte) {
				at := files{t, filepath.Join(dir, name, "cert.pem"), filepath.Join(dir, name, "key.pem")}
				must(t, os.Mkdir(filepath.Join(dir, name), 0o700))
				dated(files.overwrite)(at, identity{cert, key})
				must(t, errors.Join(os.Symlink(name, link+"_tmp"), os.Rename(link+"_tmp", link)))
			}
			cert, err := os.ReadFile(f.cert)
			must(t, err)
			key, err := os.ReadFile(f.key)
			must(t, err)
			release("1", cert, key)
			process := files{t, filepath.Join(link, "cert.pem"), filepath.Join(link, "key.pem")}.open(certs.Options{})
			time.Sleep(2 * time.Second)
			process.Look()
			serves(t, process, "one")
			release("2", two.cert, two.key)
			if !stays {
				must(t, os.RemoveAll(filepath.Join(dir, "1")))
			}
			process.Look()
			serves(t, process, "two")
		})
	}
}

// Bad files that come with the size and the time of the good ones are refused at the next look, and good files are served at the
// look after that.
func TestBadFilesOfTheSameSizeAndTimeAreSeen(t *testing.T) {
	for name, spoil := range map[string]func(files, identity){
		"damaged": dated(func(f files, two identity) { f.replace(f.cert, []byte(strings.Repeat("x", len(two.cert)))) }),
		"only the certificate": func(f files, two identity) {
			f.replace(f.cert, two.cert)
			must(f.t, os.Chtimes(f.cert, old, old))
		},
		"only the key, in place": func(f files, two identity) { must(f.t, write(f.key, two.key)); f.date(old) },
		"removed":                func(f files, _ identity) { must(f.t, os.Remove(f.key)) },
		"empty":                  func(f files, _ identity) { must(f.t, os.Truncate(f.key, 0)) },
		"100 MB":                 func(f files, _ identity) { must(f.t, os.Truncate(f.cert, 100<<20)) },
	} {
		t.Run(name, func(t *testing.T) {
			skipWithoutCtime(t, name)
			settled(t, func(t *testing.T, f files, process *certs.Certs, two identity) {
				spoil(f, two)
				for range 5 {
					process.Look()
					time.Sleep(time.Second)
				}
				serves(t, process, "one")
				if s := process.Status(); !strings.HasPrefix(s.State, "stale: ") || s.Refusals != 1 || s.Loads != 1 {
					t.Errorf("%+v", s)
				}
				dated(files.put)(f, two)
				process.Look()
				serves(t, process, "two")
			})
		})
	}
}

// Reload returns what is wrong with the files, even if a certificate is served nevertheless.
func TestReloadReturnsWhatIsWrong(t *testing.T) {
	one, two := twins(t)
	f := newFiles(t, one)
	process := f.open(certs.Options{})
	must(t, process.Reload())
	f.put(two)
	must(t, process.Reload())
	serves(t, process, "two")
	must(t, os.Remove(f.key))
	var failed *certs.Error
	err := process.Reload()
	if !errors.As(err, &failed) || failed.Path != f.key || !errors.Is(err, fs.ErrNotExist) || errors.Is(err, certs.ErrNoCertificate) {
		t.Errorf("without a key: %v", err)
	}
	mustBeReady(t, process, "")
	f.replace(f.key, one.key)
	mustContain(t, process.Reload(), f.key+": private key does not match")
	f.put(issue(t, "old", valid(-48*time.Hour, -time.Hour)))
	mustContain(t, process.Reload(), f.cert+": it expired on")
	serves(t, process, "two")
	fresh := f.open(certs.Options{})
	mustContain(t, fresh.Reload(), "it expired on")
	serves(t, fresh, "old")
	must(t, os.Remove(f.cert))
	none := f.open(certs.Options{})
	if err := none.Reload(); !errors.Is(err, certs.ErrNoCertificate) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a certificate: %v", err)
	}
	f.put(one)
	for _, p := range []*certs.Certs{process, fresh, none} {
		must(t, p.Close())
		must(t, p.Reload())
		serves(t, p, "one")
	}
	if s := process.Status(); s.Loads != 3 || s.Refusals != 3 {
		t.Errorf("%+v", s)
	}
}

// A certificate that becomes valid is served without another read of its files.
func TestFilesAreNotReadAgainToBecomeValid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFiles(t, issue(t, "one", valid(-time.Hour, 3*time.Second)))
		process := f.open(certs.Options{})
		f.put(issue(t, "two", valid(4*time.Second, time.Hour)))
		for second, want := range []string{"one", "one", "one", "two", "two", "two"} {
			process.Look()
			serves(t, process, want)
			if ready := process.Ready(context.Background()) == nil; ready != (second != 3) {
				t.Errorf("after %d s Ready is %v", second, ready)
			}
			time.Sleep(time.Second + time.Nanosecond)
		}
	})
}

// By the clock of the system, a renewal of the same size and time is served after the time of one poll. The time is printed. The
// test waits much longer, because the machine may be slow.
func TestARenewalIsServedSoon(t *testing.T) {
	one, two := twins(t)
	f := newFiles(t, one)
	f.date(old)
	process := f.open(certs.Options{Poll: time.Second})
	dated(files.put)(f, two)
	began := time.Now()
	testutil.Until(t, time.Minute, "the renewal", func() bool { return process.Status().Loads == 2 })
	t.Logf("served after %v", time.Since(began))
	serves(t, process, "two")
}
