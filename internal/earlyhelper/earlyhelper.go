// Package earlyhelper is for tests. If the variable Env is set, the init of this package starts /bin/sleep, before the init of
// package inherited runs. This order follows from two facts: earlyhelper imports syscall only, and its path sorts before the
// path of package inherited.
package earlyhelper

const (
	// Env is the variable of the environment that makes the init of earlyhelper, and of its subpackage byos, start a process.
	Env = "MIDAIR_TEST_HELPERS"
	// Seconds is how long the process sleeps. Tests find the process by this argument.
	Seconds = "301"
)
