package statefile_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
)

// A faults is a way in which a disk takes nothing more, and how it comes back.
type faults struct {
	cause, repair func(dir string) error
	want          error
}

// disks are the faults of a disk, which is mounted for the test.
var disks = map[string]faults{
	"full":      {fillUp, empty, syscall.ENOSPC},
	"read-only": {remount(syscall.MS_RDONLY), remount(0), syscall.EROFS},
	"no inodes": {useUp, empty, syscall.ENOSPC},
}

// A disk that takes nothing more leaves the old content. When the disk is well again the next change is written.
func TestDiskThatTakesNothingLeavesTheOldContent(t *testing.T) {
	for name, fault := range disks {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := syscall.Mount("none", dir, "tmpfs", 0, "size=128k,nr_inodes=200"); err != nil {
				t.Skip("NOT RUN: no tmpfs can be mounted, which needs root: ", err)
			}
			t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
			path := filepath.Join(dir, "state")
			if err := errors.Join(add(file(path)), fault.cause(dir)); err != nil {
				t.Fatal(err)
			}
			if err := add(file(path)); !errors.Is(err, fault.want) || !strings.Contains(err.Error(), path) || stored(t, path) != 1 {
				t.Errorf("%v, the file has %d", err, stored(t, path))
			}
			if left, _ := filepath.Glob(path + ".part"); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
			if err := fault.repair(dir); err != nil {
				t.Fatal(err)
			}
			if err := add(file(path)); err != nil || stored(t, path) != 2 {
				t.Errorf("afterwards: %v, the file has %d", err, stored(t, path))
			}
			onlyStateAndLock(t, path)
		})
	}
}

// fillUp writes files until the disk is full; useUp makes files until there can be no more.
func fillUp(dir string) error { return fillers(dir, make([]byte, 4096)) }

func useUp(dir string) error { return fillers(dir, nil) }

func fillers(dir string, content []byte) error {
	for i := 0; ; i++ {
		err := os.WriteFile(filepath.Join(dir, fmt.Sprint("filler", i)), content, 0o600)
		if errors.Is(err, syscall.ENOSPC) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// empty removes what fillUp and useUp have made.
func empty(dir string) error {
	names, err := filepath.Glob(filepath.Join(dir, "filler*"))
	for _, name := range names {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}

func remount(flags uintptr) func(string) error {
	return func(dir string) error { return syscall.Mount("", dir, "", syscall.MS_REMOUNT|flags, "") }
}

// A directory that may not be written to is an error, and when the rights are back the next change is written.
func TestUnwritableDirectoryIsAnError(t *testing.T) {
	dir, err := os.MkdirTemp("", "state") // not t.TempDir, which nobody else may enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "state")
	try := func(mode os.FileMode) (err error) {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		testutil.AsNobody(t, func() { err = add(file(path)) })
		return err
	}
	if err := try(0o555); !errors.Is(err, os.ErrPermission) {
		t.Errorf("a directory without rights: %v", err)
	}
	for _, mode := range []os.FileMode{0o777, 0o333} { // the second may be written to, and not be read
		if err := try(mode); err != nil {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
}
