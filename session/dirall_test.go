package session_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/midair-go/midair/session"
)

// An iterable store is one with All.
type iterable interface {
	session.Store
	All(ctx context.Context) iter.Seq2[session.Record, error]
}

// All returns every live record once, whatever is written meanwhile, and ends early if it is told to.
func TestAllReturnsEachRecordOnce(t *testing.T) {
	for name, store := range map[string]iterable{
		"Dir": session.Dir(t.TempDir()), "Memory": session.Memory().(iterable),
	} {
		t.Run(name, func(t *testing.T) {
			const n = 600
			revs := make([]uint64, n)
			for i := range n {
				rev, err := store.Create(t.Context(), fmt.Sprint("id ", i), fmt.Append(nil, i), time.Now().Add(time.Hour))
				if err != nil {
					t.Fatal(err)
				}
				revs[i] = rev
			}
			add(t, store, "expired", -time.Hour)
			stop := writeOn(t, store, revs)
			for range 5 {
				wantEachOnce(t, store, n)
			}
			stop()
			for range store.All(t.Context()) {
				break
			}
			wantEnded(t, store)
		})
	}
}

// writeOn replaces records with themselves until stop is called.
func writeOn(t *testing.T, store session.Store, revs []uint64) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for part := range 4 {
		all.Go(func() {
			for i := part; ctx.Err() == nil; i = (i + 4) % len(revs) {
				next, err := store.Swap(ctx, fmt.Sprint("id ", i), revs[i], fmt.Append(nil, i), time.Now().Add(time.Hour))
				if err == nil {
					revs[i] = next
				} else if ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
	}
	return func() { cancel(); all.Wait() }
}

func wantEachOnce(t *testing.T, store iterable, n int) {
	t.Helper()
	seen := map[string]int{}
	for rec, err := range store.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		seen[string(rec.Data)]++
	}
	for data, times := range seen {
		if times != 1 {
			t.Errorf("%q came %d times", data, times)
		}
	}
	if len(seen) != n {
		t.Errorf("%d records, want %d", len(seen), n)
	}
}

// wantEnded checks that the error of the context is the last thing that comes.
func wantEnded(t *testing.T, store iterable) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var errs []error
	good := 0
	for _, err := range store.All(ctx) {
		if err == nil {
			good++
			cancel()
			continue
		}
		errs = append(errs, err)
	}
	if good != 1 || len(errs) != 1 || !errors.Is(errs[0], context.Canceled) {
		t.Errorf("%d records and %v", good, errs)
	}
}

// What All cannot read is an error in its place, and the loop goes on. A store whose directory is lost is an error too.
func TestAllReportsWhatItCannotRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sessions")
	store := session.Dir(dir)
	for i := range 20 {
		add(t, store, fmt.Sprint("id ", i), time.Hour)
	}
	file := records(t, dir)[0]
	if err := errors.Join(os.Remove(file), os.Symlink("elsewhere", file)); err != nil {
		t.Fatal(err)
	}
	good, bad := 0, 0
	for _, err := range store.All(t.Context()) {
		if err != nil {
			bad++
		} else {
			good++
		}
	}
	if good != 19 || bad != 1 {
		t.Errorf("%d records and %d errors", good, bad)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	var errs []error
	for _, err := range store.All(t.Context()) {
		errs = append(errs, err)
	}
	if len(errs) != 1 || errs[0] == nil {
		t.Errorf("without its directory: %v", errs)
	}
}
