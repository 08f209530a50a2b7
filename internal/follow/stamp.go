package follow

import (
	"hash/maphash"
	"os"
	"time"
)

// settle is the time after the first sight of a stamp in which each look reads the content. It must be longer than a tick of
// the clock of any file system. The longest tick is the one of FAT, 2 s.
const settle = 2 * time.Second

// The content of a file with the same stamp is read again after restMin at least, and after restMax at most. Between the two
// the time is restFactor times the duration of the last read.
const (
	restMin    = 10 * time.Second
	restMax    = 10 * time.Minute
	restFactor = 1000
)

// rest returns the time until the next read of a file with the same stamp, if the last read took the given time.
func rest(took time.Duration) time.Duration {
	return min(max(restMin, restFactor*min(took, restMax)), restMax)
}

// sameStamp reports whether two pieces of file information have the same stamp. b may come from a path: on Windows, SameFile
// gets the identity of the file from its path, so b must have been taken just now.
func sameStamp(a, b os.FileInfo) bool {
	return a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && changeTime(a) == changeTime(b) && os.SameFile(a, b)
}

// seed makes the hashes of contents those of this process: nobody can prepare two contents with the same hash.
var seed = maphash.MakeSeed()

// sight is what the last good look has seen of a file. In the zero value there was none.
type sight struct {
	info  os.FileInfo // has the stamp
	sum   uint64      // a hash of the content
	since time.Time   // the file has had this stamp and this content at least since then
	due   time.Time   // from then on, the content is read even if the stamp is the same
}

// has reports whether the file with the given information has the stamp of the sight.
func (s *sight) has(info os.FileInfo) bool { return s.info != nil && sameStamp(s.info, info) }

// follows sets the times of a sight. before is the sight until now. began is when the read began that led to the sight.
func (s *sight) follows(before *sight, began time.Time) {
	now := time.Now()
	s.since, s.due = now, now
	if before.has(s.info) && before.sum == s.sum {
		s.since = before.since
	}
	if began.Sub(s.since) >= settle {
		s.due = now.Add(rest(now.Sub(began)))
	}
}
