package process

// If memory runs out while two generations serve, the kernel must kill the candidate and not the main generation, which may
// be the bigger process. So a process that was started as a child sets its oom_score_adj to 1000 in an init function, before
// main: the kernel kills such a process first. When the process becomes the main generation, it writes the old value back,
// through the descriptor that init has opened: a process that is not dumpable, or that has changed its user, could not open
// the file again. On other systems than Linux nothing of this is done.

// OOMProblem returns the error of init, if init could not make this process the first to be killed when memory runs out. The
// result is nil if there was no error, and in a process that was not started as a child. A call of RestoreOOM does not change
// the result.
func OOMProblem() error { return oomProblem() }

// RestoreOOM writes back the value of oom_score_adj that this process was started with. restored is true if init had changed
// the value and this call has written the old value back. Further calls do nothing.
func RestoreOOM() (restored bool, err error) { return restoreOOM() }

// KilledFirst lists living processes that have inherited oom_score_adj 1000 from this process, because they were started before
// RestoreOOM wrote the old value back. It finds only children of this process, and processes in its process group. KilledFirst
// reads all of /proc.
func KilledFirst() []int { return killedFirst() }
