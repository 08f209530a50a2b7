//go:build linux

package pidfile

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// withMount mounts a disk of 128 KiB on a directory and runs fn there. Other processes do not see the mount.
func withMount(t *testing.T, dir string, fn func() error) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: only root may mount a small disk")
	}
	unable := errors.New("a small disk cannot be mounted")
	err := inThread(func() error {
		err := unix.Unshare(unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = unix.Mount("midair", dir, "tmpfs", 0, "size=128k")
		}
		if err != nil {
			return fmt.Errorf("%w: %w", unable, err)
		}
		return fn()
	})
	if errors.Is(err, unable) {
		t.Skip("NOT RUN: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
}

// fillUp writes to a file until the disk is full.
func fillUp(dir string) error {
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		return err
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, unix.ENOSPC) {
		return err
	}
	return nil
}

// If Reserve has reserved room, WriteLast writes the outcome even to a full disk. Without Reserve, WriteLast fails and leaves
// no file. It succeeds when there is room again.
func TestFullDiskDoesNotLoseTheOutcome(t *testing.T) {
	text := bytes.Repeat([]byte("a reason "), 1500)
	dir := t.TempDir()
	withMount(t, dir, func() error {
		p := New(filepath.Join(dir, "pid"))
		if err := errors.Join(p.Stage(), p.Reserve(), p.Reserve(), fillUp(dir)); err != nil {
			return err
		}
		if err := errors.Join(p.Publish(), p.WriteLast(text)); err != nil {
			return err
		}
		if b, err := os.ReadFile(p.path + lastSuffix); err != nil || !bytes.Equal(b, text) {
			return fmt.Errorf("%d of %d bytes, %w", len(b), len(text), err)
		}
		if err := fillUp(dir); err != nil { // the reserved room that was not needed is free again
			return err
		}
		for _, err := range []error{p.WriteLast(text), p.Reserve()} {
			if !errors.Is(err, unix.ENOSPC) {
				return fmt.Errorf("the disk is full: %w", err)
			}
		}
		if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 || p.dir != nil {
			return fmt.Errorf("left: %v, %v", left, p.dir)
		}
		return errors.Join(os.Remove(filepath.Join(dir, "filler")), p.WriteLast(text))
	})
}

// Unreserve, Discard, Remove and WriteLast release the reserved room.
func TestReservedRoomIsGivenBack(t *testing.T) {
	dir := t.TempDir()
	p := New(filepath.Join(dir, "pid"))
	for name, giveUp := range map[string]func(){
		"Unreserve": p.Unreserve, "Discard": func() { p.Discard(os.Getpid()) }, "Remove": func() { _ = p.Remove() },
		"WriteLast": func() {
			if err := p.WriteLast(nil); err != nil {
				t.Error(err)
			}
		},
	} {
		if err := p.Reserve(); err != nil {
			t.Fatal(err)
		}
		staged := stagedIn(t, dir)
		if len(staged) != 1 {
			t.Fatalf("staged: %v", staged)
		}
		if info, err := os.Stat(staged[0]); err != nil || info.Size() != outcomeRoom {
			t.Errorf("%v, %v", info, err)
		}
		giveUp()
		if left := stagedIn(t, dir); len(left) > 0 || p.dir != nil {
			t.Errorf("%s leaves %v, %v", name, left, p.dir)
		}
	}
	New("").Unreserve()
	if err := errors.Join(New("").Reserve(), New("").WriteLast(nil)); err != nil {
		t.Error(err)
	}
}

// WriteLast also works if the reserved file or its directory is gone.
func TestReservedFileMayGo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	p := New(filepath.Join(dir, "pid"))
	for _, loss := range []func() error{
		func() error { return os.Remove(stagedIn(t, dir)[0]) },
		func() error { return errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)) },
	} {
		if err := errors.Join(os.MkdirAll(dir, 0o700), p.Reserve(), loss(), p.WriteLast([]byte("an outcome"))); err != nil {
			t.Fatal(err)
		}
		mustHold(t, p.path+lastSuffix, "an outcome")
		if left := stagedIn(t, dir); len(left) > 0 || p.dir != nil {
			t.Errorf("left: %v, %v", left, p.dir)
		}
	}
}
