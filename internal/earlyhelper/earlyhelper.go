// Package earlyhelper is for tests. If the variable Env is set, the init of this package starts /bin/sleep, before the init of
// package inherited runs. There are two reasons for this order: earlyhelper imports only syscall, as inherited does, and the
// path of earlyhelper sorts before the path of inherited.
package earlyhelper

const (
	// Env is a variable of the environment. If it is set, the init of earlyhelper starts a process, and so does the init of its
	// subpackage byos.
	Env = "MIDAIR_TEST_HELPERS"
	// Seconds is how long the process sleeps. Tests find the process by this argument.
	Seconds = "301"
)
