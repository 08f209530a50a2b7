package upgrade

import "time"

// Times that both processes of an upgrade have to use alike.

// commitStall is how long the old process stops accepting after the commit message. After commitStall, the old process accepts
// again until the candidate serves, so that a candidate that hangs delays new connections only for commitStall. But if an
// exclusive resource is needed to serve, the old process does not accept again. Other short waits of an attempt have the same
// limit.
const commitStall = time.Second

// When a new process has begun to serve, the old process names the new process to systemd within nameLimit, or not at all. The
// new process sends systemd nothing and begins no upgrade for nameWait, which is longer. So the old process never names a
// process that was already replaced.
const (
	nameLimit = time.Second
	nameWait  = nameLimit + 500*time.Millisecond
)

// beatEvery is how often a candidate sends a heartbeat.
const beatEvery = 100 * time.Millisecond

// failedWait is how long a candidate tries to send the reason of its failure if the control socket is busy. If the candidate
// cannot send the reason, the old process still gets the exit status.
const failedWait = 50 * time.Millisecond
