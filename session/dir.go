package session

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// A DirStore keeps sessions in a directory of a local file system. Any number of processes may use the directory at the same
// time, so an old and a new binary do. Make a DirStore with [Dir].
//
// A record is a file, named by the SHA-256 of the id in one of 256 subdirectories. A change is written beside the old content
// of the file, under a flock of the subdirectory: a process killed at any moment leaves the old record or the new record, and
// the kernel gives the lock back. After a loss of power the last writes may be missing, and a file damaged by the loss counts
// as no record. Without [DirStore.Sync] a file can be damaged if the record has more than about 1,600 bytes and was changed
// twice since the kernel last wrote the file to the disk. The kernel does so within about half a minute.
//
// If the directory is removed after this process has used the store, every method returns an error that says so, until the
// directory is there again: no visitor gets a new session in place of a session that may come back. The mount point of an
// unmounted file system is there, and empty: use a directory below the mount point. A process started meanwhile makes the
// directory. On a full or read-only disk sessions are read. Changes return an error: all of them on a read-only disk, and on a
// full disk only changes that need more room.
//
// Expired records are removed by the calls of the methods of [Store], Load too, so nothing runs in the background and there is
// nothing to close. A call spends about 10 milliseconds on removals at most, and looks into other subdirectories four times a
// second at most. As long as there are calls, such as the calls of [Manager.Ready], an expired record is gone after two
// minutes; in a store with more than 100,000 records the removal takes longer.
type DirStore struct {
	path    string
	sync    bool
	used    atomic.Bool        // the directory has been there
	turns   [256]chan struct{} // one goroutine of this process at a time in each subdirectory
	sweeper sweeper
}

var (
	_ Store        = (*DirStore)(nil)
	_ secretKeeper = (*DirStore)(nil)
)

// Dir makes a store of the directory at path. The first write creates a missing directory, with mode 0700. Files have mode
// 0600, and symbolic links in the directory are not followed. The file "secret" in the directory holds the secret that seals
// cookies. A relative path counts from the working directory at the time of the call.
//
// A change needs flock: on Windows every change returns an error that wraps [errors.ErrUnsupported].
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

// Sync makes every change wait for the disk, and returns d. Call Sync before d is used. With Sync a change is there after a
// loss of power too, and takes about ten times as long, or as long as the disk needs for two writes.
func (d *DirStore) Sync() *DirStore {
	d.sync = true
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
	dir := d.shardDir(int(sum[0]))
	return place{shard: int(sum[0]), dir: dir, file: filepath.Join(dir, hex.EncodeToString(sum[1:]))}
}

func (d *DirStore) shardDir(shard int) string {
	return filepath.Join(d.path, hex.EncodeToString([]byte{byte(shard)}))
}

// Create implements [Store].
func (d *DirStore) Create(ctx context.Context, id string, data []byte, expires time.Time) (uint64, error) {
	rev := mathrand.Uint64() // never again the one of an earlier record
	return rev, d.update(ctx, id, func(_ Record, err error) (Record, error) {
		if err == nil {
			return Record{}, ErrConflict
		}
		return Record{Data: data, Rev: rev, Expires: expires}, nil
	})
}

// Load implements [Store].
func (d *DirStore) Load(ctx context.Context, id string) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, d.fail("load", err)
	}
	p := d.place(id)
	err := d.check(p.dir)
	var rec Record
	if err == nil {
		if !d.used.Load() {
			d.used.Store(true)
		}
		rec, err = d.read(ctx, p.dir, p.file)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrNotFound
	}
	d.tidy(p.shard)
	return rec, d.fail("load", err)
}

// All returns each live record once, in no order. A record changed meanwhile comes as before or after the change, and a record
// made or removed meanwhile may come or not. Memory is needed for the names of a 256th of all records. A record or a
// subdirectory that cannot be read comes as an error, and the loop may go on. The loop ends with the error of ctx.
func (d *DirStore) All(ctx context.Context) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for shard := range d.turns {
			if !d.allOf(ctx, d.shardDir(shard), yield) {
				return
			}
		}
	}
}

// allOf yields the records of a subdirectory, and returns false when the loop is over.
func (d *DirStore) allOf(ctx context.Context, dir string, yield func(Record, error) bool) bool {
	names, err := d.names(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	if err != nil {
		return yield(Record{}, d.fail("list", err)) && ctx.Err() == nil && !errors.Is(err, errMissing)
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			yield(Record{}, d.fail("list", err))
			return false
		}
		rec, err := d.read(ctx, dir, filepath.Join(dir, name))
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if !yield(rec, d.fail("list", err)) {
			return false
		}
	}
	return true
}

// names lists the records of a subdirectory with the lock held, because a list made during changes may miss some.
func (d *DirStore) names(ctx context.Context, dir string) (names []string, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := d.check(dir); err != nil {
		return nil, err
	}
	err = d.locked(ctx, dir, func() error {
		names, err = recordNames(dir)
		return err
	})
	if err != nil && ctx.Err() == nil { // on a read-only disk there is no lock, and nobody to lock out
		return recordNames(dir)
	}
	return names, err
}

// Swap implements [Store].
func (d *DirStore) Swap(ctx context.Context, id string, rev uint64, data []byte, expires time.Time) (uint64, error) {
	return rev + 1, d.update(ctx, id, func(old Record, err error) (Record, error) {
		if err == nil && old.Rev != rev {
			err = ErrConflict
		}
		return Record{Data: data, Rev: rev + 1, Expires: expires}, err
	})
}

// Touch implements [Store].
func (d *DirStore) Touch(ctx context.Context, id string, expires time.Time) error {
	return d.update(ctx, id, func(rec Record, err error) (Record, error) {
		rec.Expires = expires
		return rec, err
	})
}

// Delete implements [Store].
func (d *DirStore) Delete(ctx context.Context, id string) error {
	return d.change(ctx, id, func(p place) error {
		err := os.Remove(p.file)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && d.sync {
			err = syncDir(p.dir)
		}
		return err
	})
}

// Secret returns the content of the file "secret", which the first call of all processes makes. A [Manager] derives from it the
// key that seals cookies.
func (d *DirStore) Secret(ctx context.Context) (secret []byte, err error) {
	if d.missing() {
		return nil, d.fail("secret", errMissing)
	}
	name := filepath.Join(d.path, "secret")
	if err := ctx.Err(); err != nil {
		return nil, d.fail("secret", err)
	}
	if secret, err = readFile(name); err == nil { // without the lock, which a read-only disk does not give
		d.used.Store(true)
		return secret, nil
	}
	err = d.locked(ctx, d.path, func() error {
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

// update replaces the record of id by the result of fn, which gets ErrNotFound if there is no record. After an error of fn
// nothing is changed.
func (d *DirStore) update(ctx context.Context, id string, fn func(old Record, err error) (Record, error)) error {
	return d.change(ctx, id, func(p place) error { return d.updateFile(p, fn) })
}

// change runs fn while no other goroutine or process changes anything in the place of id.
func (d *DirStore) change(ctx context.Context, id string, fn func(place) error) error {
	p := d.place(id)
	select {
	case d.turns[p.shard] <- struct{}{}:
	case <-ctx.Done():
		return d.fail("lock", ctx.Err())
	}
	err := d.check(p.dir)
	if isNew := errors.Is(err, fs.ErrNotExist); isNew || err == nil {
		err = d.locked(ctx, p.dir, func() error {
			if isNew && d.sync {
				if err := syncDir(d.path); err != nil {
					return err
				}
			}
			return fn(p)
		})
	}
	<-d.turns[p.shard]
	if err == nil || errors.Is(err, ErrNotFound) || errors.Is(err, ErrConflict) {
		d.tidy(p.shard)
	}
	return d.fail("change", err)
}

var (
	errMissing = errors.New("the directory is not there any more: bring it back, or create it to begin without sessions")
	errNoDir   = errors.New("a subdirectory is no directory")
)

// check returns why a subdirectory cannot be used, or fs.ErrNotExist if the subdirectory may be created.
func (d *DirStore) check(dir string) error {
	info, err := os.Lstat(dir)
	switch {
	case err == nil && !info.IsDir():
		return errNoDir // a symbolic link, for one
	case errors.Is(err, fs.ErrNotExist) && d.missing():
		return errMissing
	}
	return err
}

// missing reports whether the directory of the store has been there and is not.
func (d *DirStore) missing() bool {
	if !d.used.Load() {
		return false
	}
	_, err := os.Stat(d.path)
	return errors.Is(err, fs.ErrNotExist)
}

// locked runs fn with the lock of dir.
func (d *DirStore) locked(ctx context.Context, dir string, fn func() error) error {
	return locked(ctx, dir, func() error {
		d.used.Store(true)
		return fn()
	})
}

// fail names the store in an error, unless the error is an answer of a [Store].
func (d *DirStore) fail(what string, err error) error {
	if err == nil || errors.Is(err, ErrNotFound) || errors.Is(err, ErrConflict) {
		return err
	}
	return fmt.Errorf("session: %s in %s: %w", what, d.path, err)
}
