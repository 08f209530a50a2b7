package session

import (
	"context"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/midair-go/midair/internal/filelock"
)

const (
	// lockName and partName are the names in each directory that are not records.
	lockName = "lock"
	partName = "part"
	// sweepEvery is how long a subdirectory is left alone after a sweep.
	sweepEvery = time.Minute
	// sweepWhole is the number of records up to which one sweep looks at all; of more it looks at a sixteenth.
	sweepWhole = 512
)

func checksum(b []byte) uint32 { return crc32.ChecksumIEEE(b) }

// locked runs fn with the lock of dir, which it creates if it is missing. The wait for the lock ends with ctx.
func locked(ctx context.Context, dir string, fn func(lock *os.File) error) error {
	name := filepath.Join(dir, lockName)
	lock, err := filelock.Acquire(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		lock, err = filelock.Acquire(ctx, name)
	}
	if err != nil {
		return err
	}
	defer lock.Close() // and with it the lock is given back
	return fn(lock)
}

// writeFile replaces the file name in dir. Since the lock of dir is held, the part file is nobody else's: what is in it
// was left by a process that died.
func writeFile(dir, name string, data []byte, sync bool) error {
	part := filepath.Join(dir, partName)
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|filelock.NoFollow, 0o600)
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
	f, err := os.OpenFile(name, os.O_RDONLY|filelock.NoFollow, 0)
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
