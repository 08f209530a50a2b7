package session

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

const (
	// lockName and partName are the names in each directory that are not records.
	lockName = "lock"
	partName = "part"
	// sweepEvery is how long a subdirectory is left alone after a sweep.
	sweepEvery = time.Minute
	// sweepWhole is the number of records up to which one sweep looks at all; of more it looks at a sixteenth.
	sweepWhole = 512
	// maxLockPause is the longest pause between two attempts to get a lock.
	maxLockPause = 5 * time.Millisecond
)

func checksum(b []byte) uint32 { return crc32.ChecksumIEEE(b) }

// locked runs fn with the lock of dir, which it creates if it is missing.
//
// The lock is asked for again and again, not waited for in the kernel: a process that holds it may be stopped, and then
// the wait has to end with ctx.
func locked(ctx context.Context, dir string, fn func(lock *os.File) error) error {
	lock, err := openLock(dir)
	if err != nil {
		return err
	}
	defer lock.Close() // and with it the lock is given back
	for wait := 50 * time.Microsecond; ; wait = min(2*wait, maxLockPause) {
		if err := ctx.Err(); err != nil {
			return err
		}
		held, err := tryLock(lock)
		if err != nil {
			return fmt.Errorf("lock: %w", err)
		}
		if held {
			return fn(lock)
		}
		timer := time.NewTimer(wait/2 + rand.N(wait))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

func openLock(dir string) (*os.File, error) {
	name := filepath.Join(dir, lockName)
	lock, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|noFollow, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		lock, err = os.OpenFile(name, os.O_RDWR|os.O_CREATE|noFollow, 0o600)
	}
	return lock, err
}

// writeFile replaces the file name in dir. Since the lock of dir is held, the part file is nobody else's: what is in it
// was left by a process that died.
func writeFile(dir, name string, data []byte, sync bool) error {
	part := filepath.Join(dir, partName)
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|noFollow, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && sync {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	return os.Rename(part, name)
}

func readFile(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|noFollow, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// sweep removes expired and damaged records of dir, if the last sweep is some time ago. The time of the last one, by
// whatever process, is the modification time of the lock file. In a large directory it looks at another sixteenth
// each time, so that no request waits for long.
func sweep(dir string, lock *os.File) error {
	info, err := lock.Stat()
	if err != nil {
		return err
	}
	now := time.Now()
	if age := now.Sub(info.ModTime()); age >= 0 && age < sweepEvery {
		return nil
	}
	if err := os.Chtimes(lock.Name(), now, now); err != nil {
		return err
	}
	return sweepRecords(dir, now)
}

func sweepRecords(dir string, now time.Time) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	digit := "0123456789abcdef"[now.Unix()/int64(sweepEvery/time.Second)%16]
	for _, name := range names {
		if name == lockName || name == partName || len(names) > sweepWhole && name[0] != digit {
			continue
		}
		file := filepath.Join(dir, name)
		if _, err := readRecord(file); !errors.Is(err, ErrNotFound) {
			continue
		}
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
