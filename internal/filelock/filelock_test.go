//go:build unix

package filelock_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/filelock"
	"github.com/midair-go/midair/internal/testutil"
)

const patience = 60 * time.Second

// holderRole holds the lock of the file in FILE until the process is killed.
func holderRole() int {
	f, err := filelock.Acquire(context.Background(), os.Getenv("FILE"))
	if err != nil {
		return 1
	}
	defer f.Close()
	fmt.Println("holding")
	select {}
}

// One goroutine at a time has the lock, also within one process.
func TestOneAtATimeHasTheLock(t *testing.T) {
	name, inside := filepath.Join(t.TempDir(), "lock"), atomic.Int32{}
	var turns sync.WaitGroup
	for range 8 {
		turns.Go(func() {
			for range 50 {
				f, err := filelock.Acquire(t.Context(), name)
				if err != nil {
					t.Error(err)
					return
				}
				if n := inside.Add(1); n != 1 {
					t.Errorf("%d have the lock", n)
				}
				runtime.Gosched()
				inside.Add(-1)
				f.Close()
			}
		})
	}
	turns.Wait()
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

// A wait for the lock of another process ends with the context, and the lock ends with the death of that process.
func TestLockEndsWithItsProcess(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	p := testutil.Start(t, "holder", testutil.Cfg{Env: []string{"FILE=" + name}})
	p.WaitOutput(patience, "holding")
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := filelock.Acquire(short, name); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v while another process has the lock", err)
	}
	p.Kill()
	long, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	f, err := filelock.Acquire(long, name)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

// A symbolic link is not followed, and a missing directory is an error.
func TestLockFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "target"), link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{link, filepath.Join(dir, "gone", "lock")} {
		if f, err := filelock.Acquire(t.Context(), name); err == nil {
			f.Close()
			t.Errorf("%s was opened", name)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "target")); err == nil {
		t.Error("the target was made")
	}
}
