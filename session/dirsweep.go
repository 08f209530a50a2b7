package session

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// sweepEvery is how long a subdirectory is left alone after a sweep.
	sweepEvery = time.Minute
	// sweepStep is how long a process takes at least for one more subdirectory, beside those in which it does something
	// anyway. All of them take about a minute.
	sweepStep = 250 * time.Millisecond
	// sweepWhole is the number of live records that one sweep of a subdirectory looks at. The next one goes on there.
	sweepWhole = 512
	// sweepTime is how long one call of a method goes on with it. The next call goes on there.
	sweepTime = 10 * time.Millisecond
	// sweepHold is the number of records that are removed under a lock without giving the lock back in between.
	sweepHold = 16
)

// A sweeper knows when this process has looked after the subdirectories last. Other processes learn of a sweep from the
// modification time of the lock file.
type sweeper struct {
	swept [256]atomic.Int64 // when the last sweep of each was, as far as this process knows; Unix time in nanoseconds
	step  atomic.Int64      // when the last step was, likewise

	mu   sync.Mutex // guards what follows
	next int        // the subdirectory of the next step
	owed int        // how many steps there was no time for
	at   [256]struct {
		name string // where the sweep goes on
		live int    // how many live records it has looked at
	}
}

// A broom is the time left to a call of a method.
type broom struct{ until time.Time }

func (b broom) done() bool { return !time.Now().Before(b.until) }

// tidy removes expired records: in the subdirectory of the call, and in the subdirectories whose turn has come. tidy never
// waits for a lock, and ignores errors: a later call removes the rest, and meanwhile no method returns an expired record.
func (d *DirStore) tidy(shard int) {
	now := time.Now()
	b := broom{until: now.Add(sweepTime)}
	d.sweepIfDue(shard, now, b)
	last := d.sweeper.step.Load()
	if age := now.UnixNano() - last; age >= 0 && age < int64(sweepStep) || !d.sweeper.step.CompareAndSwap(last, now.UnixNano()) {
		return
	}
	if last == 0 {
		return // the first call begins to count the time
	}
	steps := d.sweeper.due(now.Sub(time.Unix(0, last)))
	for ; steps > 0 && !b.done(); steps-- {
		d.sweepIfDue(d.sweeper.turn(), now, b)
	}
	d.sweeper.owe(steps)
}

// due is the number of steps to make after some time without any.
func (s *sweeper) due(after time.Duration) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return min(s.owed+max(1, int(after/sweepStep)), len(s.swept))
}

func (s *sweeper) owe(steps int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owed = steps
}

// turn is the subdirectory of the next step.
func (s *sweeper) turn() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = (s.next + 1) % len(s.swept)
	return s.next
}

// sweepIfDue sweeps a subdirectory, if no process has done so for sweepEvery.
func (d *DirStore) sweepIfDue(shard int, now time.Time, b broom) {
	known := &d.sweeper.swept[shard]
	last := known.Load()
	if isFresh(time.Unix(0, last), now) || !known.CompareAndSwap(last, now.UnixNano()) {
		return
	}
	dir := d.shardDir(shard)
	lock := filepath.Join(dir, lockName)
	info, err := os.Lstat(lock)
	if err != nil || !isDir(dir) {
		return // nothing was ever written there
	}
	before := info.ModTime()
	if isFresh(before, now) {
		known.Store(before.UnixNano())
		return
	}
	if os.Chtimes(lock, now, now) != nil {
		return // the disk is read-only
	}
	if !d.sweep(shard, dir, b) && os.Chtimes(lock, before, before) == nil {
		known.Store(before.UnixNano())
	}
}

func isFresh(last, now time.Time) bool { return !last.After(now) && now.Sub(last) < sweepEvery }

// sweep looks at records of a subdirectory and removes expired and damaged records. It returns false if the next call has to go
// on, without the pause of sweepEvery.
func (d *DirStore) sweep(shard int, dir string, b broom) bool {
	names, err := recordNames(dir)
	if err != nil {
		return true
	}
	names, live := d.sweeper.order(shard, names)
	for batch := range slices.Chunk(names, sweepHold) {
		if live >= sweepWhole {
			d.sweeper.goOnAt(shard, batch[0], 0)
			return true
		}
		expired := expiredOf(dir, batch)
		live += len(batch) - len(expired)
		if b.done() || !d.remove(shard, dir, expired) {
			d.sweeper.goOnAt(shard, batch[0], live)
			return false
		}
	}
	d.sweeper.goOnAt(shard, "", 0)
	return true
}

// order rotates the sorted names to begin where the last sweep has stopped.
func (s *sweeper) order(shard int, names []string) (ordered []string, live int) {
	s.mu.Lock()
	at := s.at[shard]
	s.mu.Unlock()
	if at.name == "" && len(names) > 0 { // another process may have stopped anywhere
		at.name = names[rand.N(len(names))]
	}
	i, _ := slices.BinarySearch(names, at.name)
	return slices.Concat(names[i:], names[:i]), at.live
}

func (s *sweeper) goOnAt(shard int, name string, live int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at[shard].name, s.at[shard].live = name, live
}

func expiredOf(dir string, names []string) (expired []string) {
	for _, name := range names {
		if _, err := readRecord(filepath.Join(dir, name)); errors.Is(err, ErrNotFound) || errors.Is(err, errUnfinished) {
			expired = append(expired, name)
		}
	}
	return expired
}

// remove removes records of a subdirectory, if still expired or damaged. It returns false if another goroutine or process is
// changing something there. A record that cannot be removed is tried again after sweepEvery.
func (d *DirStore) remove(shard int, dir string, names []string) bool {
	if len(names) == 0 {
		return true
	}
	select {
	case d.turns[shard] <- struct{}{}:
	default:
		return false
	}
	defer func() { <-d.turns[shard] }()
	lock, held, err := tryLock(filepath.Join(dir, lockName))
	if !held {
		return err != nil
	}
	defer lock.Close()
	for _, file := range expiredOf(dir, names) { // there may be new ones in their place
		_ = os.Remove(filepath.Join(dir, file))
	}
	return true
}

// recordNames lists the records of a subdirectory, each once. Other files are left out.
func recordNames(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !isRecordName(name) })
	slices.Sort(names)
	return slices.Compact(names), nil
}

func isRecordName(name string) bool {
	return len(name) == recordName && strings.Trim(name, "0123456789abcdef") == ""
}

// isDir reports whether a directory is there, and not a symbolic link to a directory.
func isDir(name string) bool {
	info, err := os.Lstat(name)
	return err == nil && info.IsDir()
}
