// Package earlyhelper is for tests: its init starts a process, if the environment asks for it, before the init of package
// inherited has run. It imports syscall only, and its path comes first. The process is /bin/sleep.
package earlyhelper

const (
	// Env is the variable of the environment that asks for the process.
	Env = "MIDAIR_TEST_HELPERS"
	// Seconds is how long the process sleeps, by which it is known.
	Seconds = "301"
)
