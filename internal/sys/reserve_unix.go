//go:build unix

package sys

import "golang.org/x/sys/unix"

// Fill opens descriptors until the reserve has size of them, or until no more can be opened.
func (r *Reserve) Fill(size int) {
	for len(r.held) < size {
		fd, err := newSpare()
		if err != nil {
			return
		}
		r.held = append(r.held, fd)
	}
}

// FileLimit returns how many descriptors this process may have open; 0 if unknown.
func FileLimit() int {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil {
		return 0
	}
	return int(min(uint64(l.Cur), 1<<30))
}
