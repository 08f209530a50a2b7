package session

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// A DirStore keeps sessions in a directory of a local file system. Any number of processes may use one at the same time,
// so an old and a new binary do. Make one with [Dir].
//
// A record is a file, named by the SHA-256 of its id in one of 256 subdirectories. It is written to a file beside it and
// renamed, under a flock of the subdirectory: a process that is killed at any moment leaves the old record or
// the new one, the kernel gives its lock back, and the next writer reuses its unfinished file. After a loss of power the
// last writes may be missing; a file that was damaged then is taken as no record.
//
// A store that this process has used and whose directory was removed since then is no empty store: every method returns an
// error that says so, until the directory is there again. So no visitor gets a new session in place of one that may come back.
// The mount point of a file system that was unmounted is there, and empty: use a directory below it. A process that is started
// meanwhile makes the directory. On a full or read-only disk sessions are read, and changes return an error.
//
// Whoever writes in a subdirectory whose last sweep is a minute ago removes the expired records in it, so nothing runs in
// the background and there is nothing to close.
type DirStore struct {
	path  string
	used  atomic.Bool        // the directory has been there
	turns [256]chan struct{} // one goroutine of this process at a time in each subdirectory
}

var (
	_ Store        = (*DirStore)(nil)
	_ secretKeeper = (*DirStore)(nil)
)

// Dir makes a store of the directory at path. The first write creates it, with mode 0700, if it is missing; files have
// mode 0600, and symbolic links in it are not followed. It also holds the secret that seals cookies, in the file
// "secret". A relative path counts from the directory that the process is in now.
//
// It needs flock: on Windows every change returns an error that wraps [errors.ErrUnsupported].
func Dir(path string) *DirStore {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	d := &DirStore{path: path}
	for i := range d.turns {
		d.turns[i] = make(chan struct{}, 1)
	}
	return d
}

// A place is where the record of an id is.
type place struct {
	shard int
	dir   string
	file  string
}

func (d *DirStore) place(id string) place {
	sum := sha256.Sum256([]byte(id))
	name := hex.EncodeToString(sum[:])
	dir := filepath.Join(d.path, name[:2])
	return place{shard: int(sum[0]), dir: dir, file: filepath.Join(dir, name[2:])}
}

// Create implements [Store].
func (d *DirStore) Create(ctx context.Context, id string, data []byte, expires time.Time) (uint64, error) {
	rev := mathrand.Uint64() // never again the one of an earlier record
	return rev, d.change(ctx, id, func(p place) error {
		_, err := readRecord(p.file)
		if err == nil {
			return ErrConflict
		}
		if !errors.Is(err, ErrNotFound) {
			return err
		}
		return writeRecord(p, Record{Data: data, Rev: rev, Expires: expires})
	})
}

// Load implements [Store].
func (d *DirStore) Load(ctx context.Context, id string) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, d.fail("load", err)
	}
	rec, err := readRecord(d.place(id).file)
	if errors.Is(err, ErrNotFound) && d.missing() {
		err = errMissing
	}
	if err != nil {
		return Record{}, d.fail("load", err)
	}
	return rec, nil
}

// Swap implements [Store].
func (d *DirStore) Swap(ctx context.Context, id string, rev uint64, data []byte, expires time.Time) (uint64, error) {
	return rev + 1, d.change(ctx, id, func(p place) error {
		old, err := readRecord(p.file)
		if err != nil {
			return err
		}
		if old.Rev != rev {
			return ErrConflict
		}
		return writeRecord(p, Record{Data: data, Rev: rev + 1, Expires: expires})
	})
}

// Touch implements [Store].
func (d *DirStore) Touch(ctx context.Context, id string, expires time.Time) error {
	return d.change(ctx, id, func(p place) error {
		rec, err := readRecord(p.file)
		if err != nil {
			return err
		}
		rec.Expires = expires
		return writeRecord(p, rec)
	})
}

// Delete implements [Store].
func (d *DirStore) Delete(ctx context.Context, id string) error {
	return d.change(ctx, id, func(p place) error {
		if err := os.Remove(p.file); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

// Secret returns the content of the file "secret", which the first call of all processes makes. A [Manager] derives
// the key from it that seals cookies.
func (d *DirStore) Secret(ctx context.Context) (secret []byte, err error) {
	err = d.locked(ctx, d.path, func(*os.File) error {
		name := filepath.Join(d.path, "secret")
		secret, err = readFile(name)
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		secret = []byte(rand.Text() + rand.Text() + "\n")
		return writeFile(d.path, name, secret, true)
	})
	if err != nil {
		return nil, d.fail("secret", err)
	}
	return secret, nil
}

// change runs fn while nobody else, in whatever process, changes anything in the place of id.
func (d *DirStore) change(ctx context.Context, id string, fn func(place) error) error {
	p := d.place(id)
	select {
	case d.turns[p.shard] <- struct{}{}:
	case <-ctx.Done():
		return d.fail("lock", ctx.Err())
	}
	defer func() { <-d.turns[p.shard] }()
	err := d.locked(ctx, p.dir, func(lock *os.File) error {
		err := fn(p)
		if err == nil {
			_ = sweep(p.dir, lock) // the change is made whatever becomes of this; the next writer tries again
		}
		return err
	})
	return d.fail("change", err)
}

// errMissing is the error of a store without its directory.
var errMissing = errors.New("the directory is not there any more: bring it back, or create it to begin without sessions")

// missing reports whether the directory of the store has been there and is not.
func (d *DirStore) missing() bool {
	if !d.used.Load() {
		return false
	}
	_, err := os.Stat(d.path)
	return errors.Is(err, fs.ErrNotExist)
}

// locked runs fn with the lock of dir, and does not make the directory of the store again.
func (d *DirStore) locked(ctx context.Context, dir string, fn func(lock *os.File) error) error {
	if d.missing() {
		return errMissing
	}
	return locked(ctx, dir, func(lock *os.File) error {
		d.used.Store(true)
		return fn(lock)
	})
}

// fail names the store in an error that is not one of the answers of a [Store].
func (d *DirStore) fail(what string, err error) error {
	if err == nil || errors.Is(err, ErrNotFound) || errors.Is(err, ErrConflict) {
		return err
	}
	return fmt.Errorf("session: %s in %s: %w", what, d.path, err)
}

// The file of a record: a magic that names the version, a checksum of what follows, revision, expiry in milliseconds,
// data. Numbers are big endian.
const (
	recordMagic = "mds1"
	recordHead  = len(recordMagic) + 4 + 8 + 8
)

func writeRecord(p place, rec Record) error {
	b := make([]byte, recordHead, recordHead+len(rec.Data))
	copy(b, recordMagic)
	binary.BigEndian.PutUint64(b[8:], rec.Rev)
	binary.BigEndian.PutUint64(b[16:], uint64(rec.Expires.UnixMilli()))
	b = append(b, rec.Data...)
	binary.BigEndian.PutUint32(b[4:], checksum(b[8:]))
	return writeFile(p.dir, p.file, b, false)
}

// readRecord returns ErrNotFound for what is expired or damaged, too.
func readRecord(file string) (Record, error) {
	b, err := readFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, ErrNotFound
	}
	if err != nil {
		return Record{}, err
	}
	rec, ok := decodeRecord(b)
	if !ok || !time.Now().Before(rec.Expires) {
		return Record{}, ErrNotFound
	}
	return rec, nil
}

func decodeRecord(b []byte) (Record, bool) {
	if len(b) < recordHead || string(b[:4]) != recordMagic || binary.BigEndian.Uint32(b[4:]) != checksum(b[8:]) {
		return Record{}, false
	}
	return Record{
		Data:    b[recordHead:],
		Rev:     binary.BigEndian.Uint64(b[8:]),
		Expires: time.UnixMilli(int64(binary.BigEndian.Uint64(b[16:]))),
	}, true
}
