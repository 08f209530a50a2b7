package supervisor

import (
	"runtime"
	"sync"
)

// spareThreads is how many threads reserveThreads makes: a blocking start, a blocking write of the log, and two for the runtime
// itself.
const spareThreads = 4

// reserveThreads makes the Go runtime create threads while the machine allows more threads. The runtime keeps all threads, and
// ends the process if another thread is needed when the limit of processes is reached: just when a start has failed because of
// the same limit.
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
