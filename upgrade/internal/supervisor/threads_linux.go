package supervisor

import (
	"runtime"
	"sync"
)

// spareThreads is how many threads reserveThreads makes: one for a start that blocks, one for a write of the log that blocks,
// and two for the runtime itself.
const spareThreads = 4

// reserveThreads makes the Go runtime create threads as long as the machine allows more. The runtime keeps these threads.
// Without them the process could end: the runtime ends the process if it needs a new thread when the limit of processes and
// threads is reached. A start that has just failed because of the same limit makes this likely.
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
