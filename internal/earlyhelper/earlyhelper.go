// Package earlyhelper is for tests: if the variable Env is set, its init starts /bin/sleep before the init of package inherited
// runs. The package imports syscall only, and its path sorts before the path of package inherited.
package earlyhelper

const (
	// Env is the variable of the environment that makes the init functions start processes.
	Env = "MIDAIR_TEST_HELPERS"
	// Seconds is how long the process sleeps. Tests find the process by this argument.
	Seconds = "301"
)
