package session_test

import (
	"bytes"
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/session"
)

// filled returns n bytes, all the same.
func filled(c byte, n int) []byte { return bytes.Repeat([]byte{c}, n) }

// swap replaces the data of the record "id", and returns the next revision.
func swap(t *testing.T, store session.Store, rev uint64, data []byte) uint64 {
	t.Helper()
	rev, err := store.Swap(t.Context(), "id", rev, data, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func wantData(t *testing.T, store session.Store, want []byte) session.Record {
	t.Helper()
	rec, err := store.Load(t.Context(), "id")
	if err != nil || !bytes.Equal(rec.Data, want) {
		t.Fatalf("%.20q (%d bytes), %v, want %.20q (%d)", rec.Data, len(rec.Data), err, want, len(want))
	}
	return rec
}

// A writer may die after any byte that it has written: the record is the old one then, and the next change works.
func TestAHalfWrittenChangeLeavesTheRecord(t *testing.T) {
	needsFlock(t)
	dir := t.TempDir()
	store := session.Dir(dir)
	rev, err := store.Create(t.Context(), "id", filled('a', 100), time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	file := records(t, dir)[0]
	for _, next := range []byte("bcd") {
		before := mustRead(t, file)
		old := wantData(t, store, wantedOf(before))
		rev = swap(t, store, rev, filled(next, 100))
		after := mustRead(t, file)
		for cut := range after {
			if before[cut] == after[cut] {
				continue
			}
			torn := append(bytes.Clone(after[:cut]), before[cut:]...)
			mustReplace(t, file, torn)
			if rec := wantData(t, store, old.Data); rec.Rev != old.Rev || !rec.Expires.Equal(old.Expires) {
				t.Fatalf("after %d bytes of the next change: %+v, want %+v", cut, rec, old)
			}
			swap(t, store, old.Rev, filled('x', 100))
			wantData(t, store, filled('x', 100))
		}
		mustReplace(t, file, after)
	}
}

func wantedOf(file []byte) []byte {
	data, _ := session.DecodeRecord(file)
	return data
}

// Data of any size comes back, whatever was there before it.
func TestARecordGrowsAndShrinks(t *testing.T) {
	needsFlock(t)
	dir := t.TempDir()
	store := session.Dir(dir)
	rev, err := store.Create(t.Context(), "id", nil, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for round, n := range []int{0, 1, 300, 475, 476, 477, 1 << 20, 1 << 19, 10, 0, 4000, 3000, 5000, 600, 40} {
		for c := range byte(3) {
			data := filled('a'+c+byte(round), n)
			rev = swap(t, store, rev, data)
			if rec := wantData(t, store, data); rec.Rev != rev {
				t.Fatalf("revision %d, want %d", rec.Rev, rev)
			}
		}
	}
	if size := len(mustRead(t, records(t, dir)[0])); size > 1<<13 {
		t.Errorf("40 bytes of data are in a file of %d", size)
	}
}

// While a record is changed without a pause, whoever reads gets it whole, as it was before or after a change, and later never an
// older one than before.
func TestReadersNeverMissARecordThatChanges(t *testing.T) {
	needsFlock(t)
	const size, changes = 32 << 10, 500
	store := session.Dir(t.TempDir())
	rev, err := store.Create(t.Context(), "id", filled('a', size), time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	done, failed := make(chan struct{}), make(chan error, 3)
	for range cap(failed) {
		go func() { failed <- readAlways(t, store, size, done) }()
	}
	for n := range changes {
		rev = swap(t, store, rev, filled(byte(n), size))
	}
	close(done)
	for range cap(failed) {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
}

func readAlways(t *testing.T, store session.Store, size int, done chan struct{}) error {
	var last uint64
	for first := true; ; first = false {
		select {
		case <-done:
			return nil
		default:
		}
		rec, err := store.Load(t.Context(), "id")
		switch {
		case err != nil:
			return err
		case len(rec.Data) != size || strings.Trim(string(rec.Data), string(rec.Data[:1])) != "":
			return errors.New("a record that nobody has written")
		case !first && rec.Rev-last > 1<<32:
			return errors.New("an older record than before")
		}
		last = rec.Rev
	}
}

func needsFlock(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("needs flock")
	}
}

func mustRead(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustReplace(t *testing.T, file string, b []byte) {
	t.Helper()
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
