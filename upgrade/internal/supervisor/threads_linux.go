package supervisor

import (
	"runtime"
	"sync"
)

// spareThreads is how many threads reserveThreads makes: one for a start that blocks, one for a write of the log that blocks,
// and two for the runtime itself.
const spareThreads = 4

// reserveThreads makes the Go runtime create threads now, while the machine still allows more threads. The runtime keeps these
// threads for later. If the runtime needs a new thread when the limit of processes and threads is reached, it ends this
// process. This could easily happen after a start that has failed because of the same limit.
func reserveThreads() {
	var ready, done sync.WaitGroup
	release := make(chan struct{})
	ready.Add(spareThreads)
	for range spareThreads {
		done.Go(func() {
			runtime.LockOSThread() // so that the goroutine occupies a thread of its own while it waits
			defer runtime.UnlockOSThread()
			ready.Done()
			<-release
		})
	}
	ready.Wait()
	close(release)
	done.Wait()
}
