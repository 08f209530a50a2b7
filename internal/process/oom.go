package process

// While two generations serve, memory that runs out must cost the candidate and not the older one, which is the service and may
// be the bigger process. So a process that was started as a child asks the kernel in its init, before main, to be killed first
// (oom_score_adj 1000), and puts the value that it was started with back when it becomes the main generation. It does that
// through a descriptor that it has opened at once: the file could not be opened any more by a process that is not dumpable, or
// that has dropped its user. Elsewhere than on Linux nothing of this is done.

// OOMProblem returns why this process, a child, is not the first to be killed when memory runs out; nil if it is the first, or
// was until RestoreOOM, and in a process that is no child.
func OOMProblem() error { return oomProblem() }

// RestoreOOM puts back the value of oom_score_adj from the start of this process, and reports whether there was something to
// put back: the first time only.
func RestoreOOM() (restored bool, err error) { return restoreOOM() }

// KilledFirst lists the processes that this process started before RestoreOOM and that are still to be killed first, since the
// kernel passes the value on: processes that live, and are children of this process or in its process group. KilledFirst reads
// all of /proc.
func KilledFirst() []int { return killedFirst() }
