package upgrade

import "time"

// Times that must have the same values in the old and the new process of an upgrade.

// commitStall is how long the old process does not accept after the commit message. After commitStall, the old process accepts
// again until the candidate serves, so that a candidate that hangs delays new connections only for commitStall. But if an
// exclusive resource is needed to serve, the old process does not accept again. Other short waits of an attempt have the same
// limit.
const commitStall = time.Second

// When a new process has begun to serve, the old process names the new process to systemd within nameLimit, or not at all. The
// new process waits for the message named, but at most for nameWait, which is longer. During this wait it sends systemd no
// message and begins no upgrade. So the old process never names a process that was already replaced.
const (
	nameLimit = time.Second
	nameWait  = nameLimit + 500*time.Millisecond
)

// beatEvery is how often a candidate with a weight sends a heartbeat.
const beatEvery = 100 * time.Millisecond

// fileWait is how long the end of an attempt or of Run waits for a file system. sendWait is how long the end of Run waits for
// messages to be sent: longer than the sending of a message may take.
const (
	fileWait = time.Second
	sendWait = 3 * time.Second
)

// failedWait is how long a candidate tries to send the reason of its failure if the control socket is busy. If the candidate
// cannot send the reason, the old process still gets the exit status.
const failedWait = 50 * time.Millisecond
