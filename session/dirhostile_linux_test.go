package session_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/session"
)

// A symbolic link in place of a subdirectory is not followed: nothing is read, written, listed or removed where it leads to.
func TestDirFollowsNoLinkInPlaceOfASubdirectory(t *testing.T) {
	dir := t.TempDir()
	store := session.Dir(dir)
	ids := neighbours(3)
	add(t, store, ids[0], time.Hour)
	add(t, store, ids[1], -time.Hour)
	shard := filepath.Dir(records(t, dir)[0])
	outside := filepath.Join(t.TempDir(), "outside")
	long := time.Now().Add(-time.Hour)
	err := errors.Join(os.Chtimes(filepath.Join(shard, "lock"), long, long), os.Rename(shard, outside), os.Symlink(outside, shard))
	if err != nil {
		t.Fatal(err)
	}
	store = session.Dir(dir) // another process
	if _, err := store.Load(t.Context(), ids[0]); err == nil || errors.Is(err, session.ErrNotFound) {
		t.Errorf("Load = %v", err)
	}
	if _, err := store.Create(t.Context(), ids[2], nil, time.Now().Add(time.Hour)); err == nil {
		t.Error("Create followed the link")
	}
	if err := store.Delete(t.Context(), ids[0]); err == nil {
		t.Error("Delete followed the link")
	}
	for rec, err := range store.All(t.Context()) {
		if err == nil {
			t.Errorf("All returned %q", rec.Data)
		}
	}
	if files, err := filepath.Glob(filepath.Join(outside, "*")); len(files) != 3 || err != nil { // two records and the lock
		t.Errorf("%q, %v", files, err)
	}
}

// A named pipe in place of a record, the lock or the unfinished file blocks nobody.
func TestAPipeInADirectoryBlocksNobody(t *testing.T) {
	for _, name := range []string{"record", "part", "lock"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			store := session.Dir(dir)
			add(t, store, "id", time.Hour)
			file := records(t, dir)[0]
			if name != "record" {
				file = filepath.Join(filepath.Dir(file), name)
			}
			if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			if err := syscall.Mkfifo(file, 0o600); err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, _ = store.Load(t.Context(), "id")
				_, _ = store.Create(t.Context(), "id", []byte("data"), time.Now().Add(time.Hour))
				_ = store.Touch(t.Context(), "id", time.Now().Add(time.Hour))
			}()
			select {
			case <-done:
			case <-time.After(10 * time.Second):
				t.Error("a call is blocked")
			}
		})
	}
}

// Nobody else can read the directory, whatever the umask of the process is.
func TestTheUmaskOpensNothing(t *testing.T) {
	for _, mask := range []int{0, 0o022, 0o077} {
		before := syscall.Umask(mask)
		t.Cleanup(func() { syscall.Umask(before) })
		dir := filepath.Join(t.TempDir(), "a", "b")
		store := session.Dir(dir)
		add(t, store, "id", time.Hour)
		if _, err := store.Secret(t.Context()); err != nil {
			t.Fatal(err)
		}
		n := 0
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			n++
			info, err := e.Info()
			want := fs.FileMode(0o600)
			if e.IsDir() {
				want = 0o700
			}
			if err == nil && info.Mode().Perm() != want {
				t.Errorf("umask %03o: %s has mode %v", mask, path, info.Mode())
			}
			return err
		})
		if err != nil || n != 6 { // two directories, their locks, a record and the secret
			t.Errorf("%d files, %v", n, err)
		}
		syscall.Umask(before)
	}
}
