package session

import (
	"context"
	"crypto/sha256"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/midair-go/midair/internal/filelock"
)

const (
	// lockName and partName are the names in each directory that are not records.
	lockName = "lock"
	partName = "part"
	// recordName is the length of the name of a record, in hexadecimal digits.
	recordName = 2 * (sha256.Size - 1)
)

func checksum(b []byte) uint32 { return crc32.ChecksumIEEE(b) }

// locked runs fn with the lock of dir, and creates a missing dir. The wait for the lock ends with ctx.
func locked(ctx context.Context, dir string, fn func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	name := filepath.Join(dir, lockName)
	if lock, held, _ := tryLock(name); held {
		defer lock.Close() // and with it the lock is given back
		return fn()
	}
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
	defer lock.Close()
	return fn()
}

// writeFile replaces the file name in dir. The caller holds the lock of dir, so the content of an existing part file was left
// by a process that died.
func writeFile(dir, name string, data []byte, sync bool) error {
	part := filepath.Join(dir, partName)
	f, err := openRaw(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
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
	if err := os.Rename(part, name); err != nil || !sync {
		return err
	}
	return syncDir(dir)
}

// syncDir waits until the disk has the names in dir.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func readFile(name string) ([]byte, error) {
	f, err := openRaw(name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f)
}

func readAll(f rawFile) ([]byte, error) {
	b := make([]byte, 0, 2304) // most records need one call
	for {
		n, err := f.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if len(b) < cap(b) {
			return b, nil
		}
		b = slices.Grow(b, 3*len(b))
	}
}
