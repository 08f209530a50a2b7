package certs_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/upgrade/certs"
)

// A renewed certificate is served after at most a second, or after Options.Poll. If Poll is negative, it is never served.
func TestARenewedCertificateIsServedWithinPoll(t *testing.T) {
	for _, c := range []struct {
		poll, before, after time.Duration
		want                string
	}{
		{0, time.Second / 2, time.Second / 2, "two"},
		{10 * time.Second, 9 * time.Second, time.Second, "two"},
		{-1, time.Minute, 100 * time.Hour, "one"},
	} {
		synctest.Test(t, func(t *testing.T) {
			one, two := issue(t, "one"), issue(t, "two")
			f := newFiles(t, one)
			process, err := certs.Open(f.cert, f.key, certs.Options{Poll: c.poll, Logger: new(journal).logger()})
			must(t, err)
			defer process.Close()
			visitor := newClient(t, tls.VersionTLS13, one, two)
			f.put(two)
			for _, step := range []struct {
				wait time.Duration
				want string
			}{{c.before, "one"}, {c.after, c.want}} {
				time.Sleep(step.wait)
				synctest.Wait()
				if got := visitor.sees(process); got != step.want {
					t.Errorf("poll %v: %s is served after %v, want %s", c.poll, got, step.wait, step.want)
				}
			}
			mustBeReady(t, process, "")
			if got := visitor.sees(process); got != "two" {
				t.Errorf("poll %v: %s is served after Ready has looked", c.poll, got)
			}
		})
	}
}

// A certificate and a key that do not fit together are never served, whichever file is replaced first. Until the files fit, the
// last good certificate is served.
func TestAPairThatDoesNotFitIsNeverServed(t *testing.T) {
	one, two := issue(t, "one"), issue(t, "two")
	for _, certFirst := range []bool{true, false} {
		var j journal
		f := newFiles(t, one)
		process := f.open(certs.Options{Logger: j.logger()})
		visitor := newClient(t, tls.VersionTLS13, one, two)
		if certFirst {
			f.replace(f.cert, two.cert)
		} else {
			f.replace(f.key, two.key)
		}
		for range 3 {
			process.Look()
		}
		if got := visitor.sees(process); got != "one" {
			t.Errorf("%s is served", got)
		}
		mustBeReady(t, process, "")
		s := process.Status()
		if !strings.HasPrefix(s.State, "stale: "+f.key+": private key does not match") || s.Loads != 1 || s.Refusals != 1 {
			t.Errorf("%+v", s)
		}
		mustBeReady(t, f.open(certs.Options{}), f.key+": private key does not match public key (for the certificate in "+f.cert)
		f.put(two)
		process.Look()
		if got := visitor.sees(process); got != "two" {
			t.Errorf("%s is served when they fit", got)
		}
		if s := process.Status(); s.State != "ready" || s.Error != "" || s.Loads != 2 || s.Names[0] != host {
			t.Errorf("%+v", s)
		}
		if j.count("files refused, the last good certificate stays") != 1 || j.count("certs: loaded") != 2 {
			t.Errorf("the log:\n%s", &j.b)
		}
	}
}

// A certificate that is valid now is preferred to an expired certificate, and an expired certificate to none. The choice may
// change as time passes, without a change of the files.
func TestTheCertificateThatIsValidNowIsServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		one, two := issue(t, "one", valid(-time.Hour, 10*time.Hour)), issue(t, "two", valid(5*time.Hour, 20*time.Hour))
		f := newFiles(t, one)
		process := f.open(certs.Options{Poll: time.Hour, Logger: j.logger()})
		visitor := newClient(t, tls.VersionTLS13, one, two)
		visitor.cfg.InsecureSkipVerify = true
		f.put(two)
		f.date(time.Now().Add(-time.Hour)) // because the clock of the test is not the clock of the file system
		for _, step := range []struct {
			hours           int
			name, ready, st string
		}{
			{4, "one", "", "stale: " + f.cert + ": it is not valid before"},
			{6, "two", "", "ready"},
			{19, "two", "", "ready"},
			{21, "two", "it expired on", "not ready: " + f.cert + ": it expired on"},
		} {
			time.Sleep(time.Until(time.Date(2000, 1, 1, step.hours, 0, 0, 1, time.UTC)))
			synctest.Wait()
			if got := visitor.sees(process); got != step.name {
				t.Errorf("at %d: %s is served", step.hours, got)
			}
			mustBeReady(t, process, step.ready)
			if s := process.Status(); !strings.HasPrefix(s.State, step.st) {
				t.Errorf("at %d: %+v", step.hours, s)
			}
		}
		three := issue(t, "three", valid(-time.Hour, -time.Minute))
		f.put(three)
		time.Sleep(2 * time.Hour)
		if got := visitor.sees(process); got != "three" || j.count("served although it is not valid now") != 2 {
			t.Errorf("when both have expired: %s is served, the log:\n%s", got, &j.b)
		}
		process.Close()
	})
}

// If a symbolic link is changed, as in a volume of Kubernetes, both files change at once.
func TestALinkThatIsMovedIsFollowed(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("links need a privilege here")
	}
	one, two := issue(t, "one"), issue(t, "two")
	dir := t.TempDir()
	volume := func(name string, id identity) {
		t.Helper()
		must(t, os.Mkdir(filepath.Join(dir, name), 0o700))
		must(t, os.WriteFile(filepath.Join(dir, name, "tls.crt"), id.cert, 0o600))
		must(t, os.WriteFile(filepath.Join(dir, name, "tls.key"), id.key, 0o600))
		link := filepath.Join(dir, "..data")
		must(t, errors.Join(os.Symlink(name, link+"_tmp"), os.Rename(link+"_tmp", link)))
	}
	volume("..1", one)
	f := files{t, filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")}
	must(t, errors.Join(os.Symlink("..data/tls.crt", f.cert), os.Symlink("..data/tls.key", f.key)))
	process := f.open(certs.Options{})
	visitor := newClient(t, tls.VersionTLS13, one, two)
	volume("..2", two)
	process.Look()
	if got := visitor.sees(process); got != "two" || process.Status().Refusals != 0 {
		t.Errorf("%s is served: %+v", got, process.Status())
	}
	must(t, os.RemoveAll(filepath.Join(dir, "..2")))
	process.Look()
	if s := process.Status(); !strings.Contains(s.Error, "there is no such file") || visitor.sees(process) != "two" {
		t.Errorf("without the volume: %+v", s)
	}
}

// overwrite changes both files in place.
func (f files) overwrite(id identity) {
	f.t.Helper()
	must(f.t, errors.Join(os.WriteFile(f.cert, id.cert, 0o600), os.WriteFile(f.key, id.key, 0o600)))
}

// date sets the time of the last change of both files.
func (f files) date(at time.Time) {
	f.t.Helper()
	must(f.t, errors.Join(os.Chtimes(f.cert, at, at), os.Chtimes(f.key, at, at)))
}

// If the files come back unchanged after an error, they are good again, and the certificate does not count as a new one.
func TestTheSameFilesAgainAreNoChange(t *testing.T) {
	var j journal
	one := issue(t, "one")
	f := newFiles(t, one)
	f.date(time.Now().Add(-time.Hour))
	process := f.open(certs.Options{Logger: j.logger()})
	must(t, os.Rename(f.key, f.key+".away"))
	process.Look()
	if s := process.Status(); s.Error == "" {
		t.Errorf("without a key: %+v", s)
	}
	must(t, os.Rename(f.key+".away", f.key))
	process.Look()
	if s := process.Status(); s.Error != "" {
		t.Errorf("with the key again: %+v", s)
	}
	f.put(one)
	process.Look()
	if s := process.Status(); s.State != "ready" || s.Loads != 1 || j.count("the files are good again, nothing changed") != 1 {
		t.Errorf("%+v, the log:\n%s", s, &j.b)
	}
}

// While the files are replaced in every way, every handshake succeeds and gets one of the two certificates.
func TestHandshakesDuringReloads(t *testing.T) {
	one, two := issue(t, "one"), issue(t, "two")
	f := newFiles(t, one)
	process := f.open(certs.Options{Poll: time.Millisecond})
	done := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() { // ends when done is closed
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			id := []identity{one, two}[i%2]
			if i%3 == 0 {
				f.put(id)
				continue
			}
			if err := errors.Join(os.WriteFile(f.key, id.key, 0o600), os.WriteFile(f.cert, id.cert, 0o600)); err != nil {
				t.Error(err)
			}
		}
	})
	seen := map[string]int{}
	visitor := newClient(t, tls.VersionTLS13, one, two)
	for i := 0; i < 200 || len(seen) < 2 && i < 100_000; i++ {
		seen[visitor.sees(process)]++
		if err := process.Ready(context.Background()); err != nil {
			t.Error(err)
		}
	}
	close(done)
	all.Wait()
	if len(seen) != 2 {
		t.Errorf("seen: %v", seen)
	}
}

// Relative paths begin at the directory that the program was in when it called Open.
func TestTheProgramMayChangeItsDirectory(t *testing.T) {
	one, two := issue(t, "one"), issue(t, "two")
	f := newFiles(t, one)
	t.Chdir(filepath.Dir(f.cert))
	process := files{t, filepath.Base(f.cert), filepath.Base(f.key)}.open(certs.Options{})
	t.Chdir(t.TempDir())
	f.put(two)
	process.Look()
	if got := newClient(t, tls.VersionTLS13, one, two).sees(process); got != "two" {
		t.Errorf("%s is served", got)
	}
}

// gate is a log that lets one look at a time ask whether a line is wanted, and wants none.
type gate chan struct{}

func (g gate) Enabled(context.Context, slog.Level) bool {
	<-g
	return false
}

func (gate) Handle(context.Context, slog.Record) error { return nil }
func (g gate) WithAttrs([]slog.Attr) slog.Handler      { return g }
func (g gate) WithGroup(string) slog.Handler           { return g }

// Close waits for a look that is under way. It may be called again, and the present certificate is still served.
func TestCloseWaitsForLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := issue(t, "one"), issue(t, "two")
		f := newFiles(t, one)
		g := make(gate, 1)
		g <- struct{}{} // lets Open log its line
		process := f.open(certs.Options{Poll: time.Second, Logger: gateLogger(g)})
		f.put(two)
		time.Sleep(time.Second)
		closed := make(chan error, 2)
		go func() { closed <- process.Close() }()
		synctest.Wait()
		if len(closed) != 0 {
			t.Error("Close has returned during a look")
		}
		g <- struct{}{}
		must(t, <-closed)
		must(t, process.Close())
		f.put(one)
		time.Sleep(time.Minute)
		if got := newClient(t, tls.VersionTLS13, one, two).sees(process); got != "two" {
			t.Errorf("%s is served after Close", got)
		}
	})
}

// The names in Status are the names for which the certificate is valid.
func TestStatusNamesTheCertificate(t *testing.T) {
	f := newFiles(t, issue(t, "one", func(c *x509.Certificate) { c.IPAddresses = append(c.IPAddresses, []byte{127, 0, 0, 1}) }))
	s := f.open(certs.Options{}).Status()
	if strings.Join(s.Names, " ") != host+" 127.0.0.1" || s.CertFile != f.cert || s.KeyFile != f.key || time.Until(s.NotAfter) < 99*day {
		t.Errorf("%+v", s)
	}
	f.put(issue(t, "one", func(c *x509.Certificate) { c.DNSNames = nil }))
	if s := f.open(certs.Options{}).Status(); strings.Join(s.Names, " ") != "one" {
		t.Errorf("%+v", s)
	}
}
