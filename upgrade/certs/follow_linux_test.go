package certs_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/upgrade/certs"
)

// inMemory returns the files of an identity on a file system in memory.
func inMemory(t *testing.T, id identity) files {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "certs")
	if err != nil {
		t.Skip("NOT RUN: no tmpfs: ", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	f := files{t, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	f.put(id)
	return f
}

// mapped maps a file into memory, and makes its pages writable. Later writes to these pages change neither a time nor a size.
func mapped(t *testing.T, path string) []byte {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer file.Close()
	info, err := file.Stat()
	must(t, err)
	b, err := syscall.Mmap(int(file.Fd()), 0, int(info.Size()), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	must(t, err)
	t.Cleanup(func() { _ = syscall.Munmap(b) })
	for i, old := range b {
		b[i] = old + 1
		b[i] = old
	}
	return b
}

// A renewal that keeps every field of the stamp is served 10 s after the last read of the files, or at once by Reload.
func TestARenewalThatKeepsTheStampIsServed(t *testing.T) {
	for _, reload := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			one, two := twins(t)
			f := inMemory(t, one)
			cert, key := mapped(t, f.cert), mapped(t, f.key)
			process := f.open(certs.Options{})
			time.Sleep(2 * time.Second)
			process.Look()
			copy(cert, two.cert)
			copy(key, two.key)
			if reload {
				must(t, process.Reload())
				serves(t, process, "two")
				return
			}
			for range 9 {
				time.Sleep(time.Second)
				process.Look()
				serves(t, process, "one")
			}
			time.Sleep(time.Second)
			process.Look()
			serves(t, process, "two")
		})
	}
}

// A renewal on a tmpfs is served by the next look.
func TestEachRenewalOnATmpfsIsServed(t *testing.T) {
	for name, renew := range renewals {
		synctest.Test(t, func(t *testing.T) {
			one, two := twins(t)
			f := inMemory(t, one)
			f.date(old)
			process := f.open(certs.Options{})
			time.Sleep(2 * time.Second)
			process.Look()
			renew(f, two)
			process.Look()
			if s := process.Status(); s.Loads != 2 || s.State != "ready" {
				t.Errorf("%s: %+v", name, s)
			}
		})
	}
}

// A directory that is mounted over the files is a change, and so is the end of the mount.
func TestABindMountIsSeen(t *testing.T) {
	settled(t, func(t *testing.T, f files, process *certs.Certs, two identity) {
		other := newFiles(t, two)
		other.date(old)
		dir := filepath.Dir(f.cert)
		if err := syscall.Mount(filepath.Dir(other.cert), dir, "", syscall.MS_BIND, ""); err != nil {
			t.Skip("NOT RUN: nothing can be mounted, which needs root: ", err)
		}
		defer func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) }()
		process.Look()
		serves(t, process, "two")
		time.Sleep(2 * time.Second)
		process.Look()
		must(t, syscall.Unmount(dir, 0))
		process.Look()
		serves(t, process, "one")
	})
}

// A pipe in the place of a file is refused, and never waited for.
func TestAPipeIsRefused(t *testing.T) {
	settled(t, func(t *testing.T, f files, process *certs.Certs, two identity) {
		must(t, errors.Join(os.Remove(f.key), syscall.Mkfifo(f.key, 0o600)))
		process.Look()
		mustContain(t, process.Reload(), f.key+": it is not a regular file")
		serves(t, process, "one")
		f.put(two)
		process.Look()
		serves(t, process, "two")
	})
}

// If the files change during a look, the look ends without a result. If they change during the next look as well, an error is
// reported. Without a served certificate it is reported at once. The files in /proc are always found changing.
func TestFilesThatAreBeingWrittenAreLeftAlone(t *testing.T) {
	const writing = "somebody is writing it"
	one, two := issue(t, "one"), issue(t, "two")
	f := newFiles(t, one)
	var j journal
	process := f.open(certs.Options{Logger: j.logger()})
	must(t, errors.Join(os.Remove(f.key), os.Symlink("/proc/version", f.key)))
	process.Look()
	if s := process.Status(); s.State != "ready" || s.Loads != 1 {
		t.Errorf("the first time: %+v", s)
	}
	for range 2 {
		process.Look()
		if s := process.Status(); !strings.HasPrefix(s.State, "stale: "+f.key) || !strings.Contains(s.State, writing) || s.Refusals != 1 {
			t.Errorf("then: %+v", s)
		}
	}
	if s := f.open(certs.Options{}).Status(); !strings.HasPrefix(s.State, "not ready: "+f.key) || !strings.Contains(s.State, writing) {
		t.Errorf("without a served certificate: %+v", s)
	}
	f.put(two)
	process.Look()
	if s := process.Status(); s.State != "ready" || s.Loads != 2 {
		t.Errorf("afterwards: %+v", s)
	}
	must(t, errors.Join(os.Remove(f.cert), os.Symlink("/proc/version", f.cert)))
	mustContain(t, process.Reload(), f.cert+": it changes while it is read: "+writing)
	if s := process.Status(); s.State != "ready" || j.count(writing) != 1 {
		t.Errorf("Reload, the first time: %+v", s)
	}
}
