package testutil

// What the tests of this package need from inside.
var (
	ChildProcesses = childProcesses
	ParseFaults    = parseFaults
	NeverStarted   = neverStarted
)
