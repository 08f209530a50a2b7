package process

// While two generations serve, memory that runs out must cost the candidate and not the older one, which is the service and may
// be the bigger process. So a process that was started as a child asks the kernel in its init, before main, to be killed first
// (oom_score_adj 1000), and puts the value that it was started with back when it becomes the main generation. It does that
// through a descriptor that it has opened at once: the file could not be opened any more by a process that is not dumpable, or
// that has dropped its user. Elsewhere than on Linux nothing of this is done.

// OOMProblem returns why this process, a child, is not the one that is killed first when memory runs out; nil if it is, or was
// until RestoreOOM, and in a process that is no child.
func OOMProblem() error { return oomProblem() }

// RestoreOOM puts back the value of oom_score_adj that this process was started with, and reports whether there was something to
// put back: the first time only.
func RestoreOOM() (restored bool, err error) { return restoreOOM() }

// KilledFirst lists the processes that this one started before RestoreOOM, as far as they live, are its children or in its
// process group, and are still to be killed first: the kernel passes the value on. It reads all of /proc.
func KilledFirst() []int { return killedFirst() }
