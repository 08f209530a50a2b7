package session_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/midair-go/midair/session"
	"github.com/midair-go/midair/session/sessiontest"
)

// A directory keeps all promises of a Store, for one process and for two.
func TestDirKeepsThePromisesOfAStore(t *testing.T) {
	sessiontest.Run(t, func(t *testing.T) session.Store { return session.Dir(t.TempDir()) })
	sessiontest.RunTwo(t, func(t *testing.T) (session.Store, []string) {
		dir := t.TempDir()
		return session.Dir(dir), []string{"DIR=" + dir}
	})
}

// A directory whose changes wait for the disk keeps them too.
func TestASyncedDirKeepsThePromisesOfAStore(t *testing.T) {
	sessiontest.Run(t, func(t *testing.T) session.Store { return session.Dir(t.TempDir()).Sync() })
}

// records lists the files of records in a directory.
func records(t testing.TB, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "??", strings.Repeat("?", 62)))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// The directory is made when it is needed, nobody else can read it, and no name in it tells an id.
func TestDirIsMadeForItsOwnerAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "sessions")
	store := session.Dir(dir)
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("before the first write: %v", err)
	}
	v := newVisitor(t, newSite(store, session.Options{}))
	v.get("/count")
	if _, err := store.Create(t.Context(), "the-id", []byte("x"), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		want := fs.FileMode(0o600)
		if e.IsDir() {
			want = 0o700
		}
		if info.Mode().Perm() != want || strings.Contains(path, "the-id") {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(records(t, dir)); n != 2 {
		t.Errorf("%d records", n)
	}
}

// A relative path keeps its meaning when the process changes its directory.
func TestDirKeepsItsPlace(t *testing.T) {
	home := t.TempDir()
	t.Chdir(home)
	store := session.Dir("sessions")
	t.Chdir(t.TempDir())
	if _, err := store.Secret(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(home, "sessions", "secret")); err != nil {
		t.Fatal(err)
	}
}

// A damaged file is no record, and the next writer replaces it.
func TestADamagedFileIsNoRecord(t *testing.T) {
	damage := map[string]func(b []byte) []byte{
		"Empty":   func([]byte) []byte { return nil },
		"Cut":     func(b []byte) []byte { return b[:len(b)/16] },
		"Head":    func(b []byte) []byte { return b[:20] },
		"Flipped": func(b []byte) []byte { b[36] ^= 1; return b },
		"Length":  func(b []byte) []byte { b[32] = 255; return b },
		"Expiry":  func(b []byte) []byte { b[25] ^= 1; return b },
		"Magic":   func(b []byte) []byte { b[0] ^= 1; return b },
	}
	for name, change := range damage {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			v := newVisitor(t, newSite(session.Dir(dir), session.Options{}))
			v.want("/count", "1")
			file := records(t, dir)[0]
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, change(b), 0o600); err != nil {
				t.Fatal(err)
			}
			v.want("/count", "1")
			v.want("/count", "2")
		})
	}
}

// Symbolic links in the directory are not followed.
func TestDirFollowsNoLinks(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("needs flock")
	}
	dir := t.TempDir()
	store := session.Dir(dir)
	rev, err := store.Create(t.Context(), "id", []byte("data"), time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	file := records(t, dir)[0]
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.Rename(file, outside); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, file); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Load(t.Context(), "id"); err == nil || errors.Is(err, session.ErrNotFound) {
		t.Errorf("Load = %v", err)
	}
	if _, err := store.Swap(t.Context(), "id", rev, nil, time.Now()); err == nil {
		t.Error("Swap followed the link")
	}
	if err := store.Delete(t.Context(), "id"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(outside); err != nil {
		t.Error(err)
	}

	part := filepath.Join(filepath.Dir(file), "part")
	if err := os.Symlink(outside, part); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Create(t.Context(), "id", []byte("data"), time.Now().Add(time.Hour)); err == nil {
		t.Error("Create wrote through a link")
	}
}

// What a killed writer left behind is in nobody's way.
func TestAnUnfinishedFileIsReused(t *testing.T) {
	dir := t.TempDir()
	store := session.Dir(dir)
	expires := time.Now().Add(time.Hour)
	rev, err := store.Create(t.Context(), "id", []byte("data"), expires)
	if err != nil {
		t.Fatal(err)
	}
	shard := filepath.Dir(records(t, dir)[0])
	if err := os.WriteFile(filepath.Join(shard, "part"), make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	next := strings.Repeat("next", 1000) // too large for its slot, so the file is replaced
	if _, err := store.Swap(t.Context(), "id", rev, []byte(next), expires); err != nil {
		t.Fatal(err)
	}
	if rec, err := store.Load(t.Context(), "id"); string(rec.Data) != next || err != nil {
		t.Errorf("%q, %v", rec.Data, err)
	}
	if left, _ := filepath.Glob(filepath.Join(shard, "*")); len(left) != 2 {
		t.Errorf("%q", left)
	}
}

// A writer whose context ends does not wait any longer for a lock that another process holds.
func TestAWaitForTheLockEndsWithItsContext(t *testing.T) {
	dir := t.TempDir()
	store := session.Dir(dir)
	expires := time.Now().Add(time.Hour)
	if _, err := store.Create(t.Context(), "id", nil, expires); err != nil {
		t.Fatal(err)
	}
	release := hold(t, filepath.Dir(records(t, dir)[0]))
	first := make(chan error, 1)
	patient, stop := context.WithCancel(t.Context())
	go func() { first <- store.Touch(patient, "id", expires) }() // waits for the other process
	var all sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for range 2 { // each waits for the other process, or for who does in this one
		all.Go(func() {
			if err := store.Touch(ctx, "id", expires); !errors.Is(err, context.Canceled) {
				t.Errorf("Touch = %v", err)
			}
		})
	}
	if rec, err := store.Load(t.Context(), "id"); err != nil { // readers wait for nobody
		t.Errorf("Load = %v, %v", rec, err)
	}
	cancel()
	all.Wait()
	stop()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("Touch = %v", err)
	}
	release()
	if err := store.Touch(t.Context(), "id", expires); err != nil {
		t.Errorf("Touch = %v", err)
	}
}
