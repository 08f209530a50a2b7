package session_test

import (
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/session"
)

var expired = flag.Int("midair.expired", 5000, "how many expired records TestNoCallWaitsLongForExpiredRecords removes")

// neighbours are ids whose records are in the same subdirectory.
func neighbours(n int) (ids []string) {
	for i := 0; len(ids) < n; i++ {
		id := fmt.Sprint("id ", i)
		if sha256.Sum256([]byte(id))[0] == 7 {
			ids = append(ids, id)
		}
	}
	return ids
}

// add creates a record.
func add(t *testing.T, store session.Store, id string, life time.Duration) {
	t.Helper()
	if _, err := store.Create(t.Context(), id, []byte("{}"), time.Now().Add(life)); err != nil {
		t.Fatal(err)
	}
}

// wantAbsent asks for a record that is not there.
func wantAbsent(t *testing.T, store session.Store, id string) {
	t.Helper()
	if _, err := store.Load(t.Context(), id); !errors.Is(err, session.ErrNotFound) {
		t.Fatalf("Load = %v", err)
	}
}

// Expired records are removed by those who read or write beside them, once a minute, and live ones are left alone.
func TestExpiredRecordsAreSwept(t *testing.T) {
	for name, call := range map[string]func(t *testing.T, store session.Store, id string){
		"Load": wantAbsent,
		"Create": func(t *testing.T, store session.Store, id string) {
			add(t, store, id, time.Hour)
			if err := store.Delete(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		},
		"Touch": func(t *testing.T, store session.Store, id string) {
			if err := store.Touch(t.Context(), id, time.Now().Add(time.Hour)); !errors.Is(err, session.ErrNotFound) {
				t.Fatalf("Touch = %v", err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				ids := neighbours(31)
				for i, id := range ids[:30] {
					life := time.Hour
					if i < 20 {
						life = 10 * time.Second
					}
					add(t, session.Dir(dir), id, life) // another process each time
				}
				time.Sleep(20 * time.Second) // expired, but the last sweep is not a minute ago
				call(t, session.Dir(dir), ids[30])
				if n := len(records(t, dir)); n != 30 {
					t.Fatalf("%d records", n)
				}
				time.Sleep(time.Minute)
				call(t, session.Dir(dir), ids[30])
				if n := len(records(t, dir)); n != 10 {
					t.Errorf("%d records, want the 10 live ones", n)
				}
			})
		})
	}
}

// All expired records of a store are gone two minutes later if anybody asks for anything at all, or a probe calls Ready.
func TestExpiredRecordsGoWithAnyTraffic(t *testing.T) {
	for name, traffic := range map[string]func(t *testing.T, store session.Store){
		"Load": func(t *testing.T, store session.Store) { wantAbsent(t, store, "nobody") },
		"Ready": func(t *testing.T, store session.Store) {
			if err := session.NewManager(store, session.Options{}).Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				store := session.Dir(dir)
				for i := range 1000 {
					add(t, store, fmt.Sprint("id ", i), time.Duration(i%10)*10*time.Second)
				}
				add(t, store, "alive", time.Hour)
				time.Sleep(90 * time.Second)
				for range 13 {
					traffic(t, store)
					time.Sleep(10 * time.Second)
				}
				if n := len(records(t, dir)); n != 1 {
					t.Errorf("%d records, want the live one", n)
				}
			})
		})
	}
}

// In a subdirectory with many live records one sweep looks at a part, and all parts have their turn.
func TestALargeDirectoryIsSweptInParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		store := session.Dir(dir)
		add(t, store, "id", 100*time.Hour)
		first := records(t, dir)[0]
		live, err := os.ReadFile(first)
		if err != nil {
			t.Fatal(err)
		}
		const all = 4 * session.SweepWhole
		for i := range all {
			content := live
			if i%8 == 0 {
				content = nil
			}
			if err := os.WriteFile(filepath.Join(filepath.Dir(first), fmt.Sprintf("%062x", i)), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		left := len(records(t, dir))
		for range 5 {
			time.Sleep(time.Minute)
			if err := store.Touch(t.Context(), "id", time.Now().Add(100*time.Hour)); err != nil {
				t.Fatal(err)
			}
			now := len(records(t, dir))
			if left-now > session.SweepWhole/6 {
				t.Errorf("one sweep removed %d", left-now)
			}
			left = now
		}
		if left != all-all/8+1 {
			t.Errorf("%d records after all turns, want the live ones", left)
		}
	})
}

// A process that finds thousands of expired records removes them a few at a time. The log says how long the longest call took.
func TestNoCallWaitsLongForExpiredRecords(t *testing.T) {
	dir := t.TempDir()
	store := session.Dir(dir)
	add(t, store, "id", -time.Hour)
	content, err := os.ReadFile(records(t, dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	for i := range *expired {
		sum := sha256.Sum256(fmt.Append(nil, "old ", i))
		name := filepath.Join(dir, fmt.Sprintf("%x", sum[:1]), fmt.Sprintf("%x", sum[1:]))
		err := os.WriteFile(name, content, 0o600)
		if errors.Is(err, fs.ErrNotExist) {
			err = errors.Join(os.Mkdir(filepath.Dir(name), 0o700), os.WriteFile(name, content, 0o600),
				os.WriteFile(filepath.Join(filepath.Dir(name), "lock"), nil, 0o600))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	long := time.Now().Add(-time.Hour)
	locks, err := filepath.Glob(filepath.Join(dir, "??", "lock"))
	for _, lock := range locks {
		err = errors.Join(err, os.Chtimes(lock, long, long))
	}
	if err != nil {
		t.Fatal(err)
	}
	store = session.Dir(dir) // another process
	var longest, total time.Duration
	calls := 0
	for i := 0; len(records(t, dir)) > 0; i++ {
		for range 1000 {
			begin := time.Now()
			wantAbsent(t, store, fmt.Sprint("nobody ", calls))
			calls++
			took := time.Since(begin)
			longest, total = max(longest, took), total+took
		}
		if i == 100 {
			t.Fatalf("%d records are left after %d calls", len(records(t, dir)), calls)
		}
	}
	t.Logf("%d expired records were removed by %d calls in %v; the longest took %v", *expired, calls, total, longest)
	if longest > 2*time.Second {
		t.Errorf("a call took %v", longest)
	}
}

// A sweep waits for no lock, and what is in its way now is swept when the lock is free.
func TestASweepWaitsForNobody(t *testing.T) {
	dir := t.TempDir()
	ids := neighbours(2)
	add(t, session.Dir(dir), ids[0], -time.Hour)
	shard := filepath.Dir(records(t, dir)[0])
	long := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(shard, "lock"), long, long); err != nil {
		t.Fatal(err)
	}
	release := hold(t, shard)
	store := session.Dir(dir)
	wantAbsent(t, store, ids[1])
	if n := len(records(t, dir)); n != 1 {
		t.Fatalf("%d records", n)
	}
	release()
	testutil.Until(t, 10*time.Second, "the record is gone", func() bool {
		wantAbsent(t, store, ids[1])
		return len(records(t, dir)) == 0
	})
}

// Files that are not records belong to somebody else: no sweep removes them.
func TestASweepLeavesOtherFilesAlone(t *testing.T) {
	dir := t.TempDir()
	ids := neighbours(2)
	add(t, session.Dir(dir), ids[0], -time.Hour)
	record := records(t, dir)[0]
	shard := filepath.Dir(record)
	var others []string
	for _, name := range []string{
		".nfs000000000000000100000001", "x~", "#x#", "README", "lost+found", filepath.Base(record) + "~", "." + filepath.Base(record) + ".swp",
		strings.ToUpper(strings.Repeat("ab", 31)), strings.Repeat("g", 62), strings.Repeat("a", 61),
	} {
		others = append(others, filepath.Join(shard, name))
		if err := os.WriteFile(filepath.Join(shard, name), []byte("not a record"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	folder := filepath.Join(shard, strings.Repeat("f", 62))
	link := filepath.Join(shard, strings.Repeat("e", 62))
	others = append(others, folder, link)
	long := time.Now().Add(-time.Hour)
	err := errors.Join(os.Mkdir(folder, 0o700), os.Symlink("README", link), os.Chtimes(filepath.Join(shard, "lock"), long, long))
	if err != nil {
		t.Fatal(err)
	}
	wantAbsent(t, session.Dir(dir), ids[1])
	if _, err := os.Lstat(record); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the expired record is there: %v", err)
	}
	for _, name := range others {
		if _, err := os.Lstat(name); err != nil {
			t.Error(err)
		}
	}
}

// Reading makes no directory.
func TestLoadMakesNoDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sessions")
	store := session.Dir(dir)
	for range 3 {
		wantAbsent(t, store, "id")
		for _, err := range store.All(t.Context()) {
			t.Error(err)
		}
	}
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// A record that is made in place of an expired one, while a sweep is about to remove the expired one, stays.
func TestASweepSparesWhatWasMadeMeanwhile(t *testing.T) {
	dir := t.TempDir()
	ids := neighbours(40)
	writer := session.Dir(dir)
	for range 25 {
		for _, id := range ids[1:] {
			add(t, writer, id, -time.Hour)
		}
		long := time.Now().Add(-time.Hour)
		if err := os.Chtimes(filepath.Join(filepath.Dir(records(t, dir)[0]), "lock"), long, long); err != nil {
			t.Fatal(err)
		}
		var both sync.WaitGroup
		both.Go(func() { _, _ = session.Dir(dir).Load(t.Context(), ids[0]) }) // another process, which sweeps
		for _, id := range ids[1:] {
			add(t, writer, id, time.Hour)
		}
		both.Wait()
		for _, id := range ids[1:] {
			if _, err := writer.Load(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			if err := writer.Delete(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
	}
}
