package supervisor

import (
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// reserve is descriptors that are held for nothing, so that there is room for what a generation sends when this process, or
// the machine, has no descriptor left: a message whose descriptors find no room is lost.
type reserve struct{ held []int }

// reserved is enough for the announcements of eight candidates.
const reserved = 32

// release makes room.
func (r *reserve) release() {
	for _, fd := range r.held {
		unix.Close(fd)
	}
	r.held = r.held[:0]
}

// refill takes the descriptors again, as many as there are.
func (r *reserve) refill() {
	for len(r.held) < reserved {
		fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return
		}
		r.held = append(r.held, fd)
	}
}

// spareThreads is how many threads reserveThreads makes: a blocking start, a blocking write of the log, and two for what the
// runtime does beside them.
const spareThreads = 4

// reserveThreads makes the Go runtime create threads while the machine lets it. The runtime keeps them, and ends the process if
// it needs another one and the limit of processes is reached: just when a start has failed because of that.
func reserveThreads() {
	var ready, done sync.WaitGroup
	release := make(chan struct{})
	ready.Add(spareThreads)
	for range spareThreads {
		done.Go(func() {
			runtime.LockOSThread() // one that waits holds a thread of its own
			defer runtime.UnlockOSThread()
			ready.Done()
			<-release
		})
	}
	ready.Wait()
	close(release)
	done.Wait()
}
