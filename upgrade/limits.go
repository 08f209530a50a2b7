package upgrade

import "time"

// The times that both processes of an upgrade reckon with.

// commitStall is how long the old process does not accept after the commit message. Then the old process accepts again until the
// candidate serves: a candidate that hangs delays new connections for no longer.
const commitStall = time.Second

// An old process names the new process to systemd within nameLimit of the moment in which the new process began to serve, or not at
// all. The new process sends systemd nothing and begins no upgrade for nameWait, which is longer: after an upgrade the old process would
// name a process that was replaced.
const (
	nameLimit = time.Second
	nameWait  = nameLimit + 500*time.Millisecond
)

// beatEvery is how often a candidate sends a heartbeat.
const beatEvery = 100 * time.Millisecond

// failedWait is how long the reason of a failure waits for other messages on the link. The old process gets the exit status as well.
const failedWait = 50 * time.Millisecond
