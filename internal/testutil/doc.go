// Package testutil runs real processes under real load and accounts for every request and every resource.
//
// Processes. The test binary is also the program of other processes: [Main], called from TestMain, runs a named role in a
// process that was started by [Start]. [StartCommand] starts a program made by [Build]. A service that upgrades itself
// outlives its first process, so a [Proc] is a family: all processes that have inherited the environment of the first process,
// whatever their parent is. The test process becomes the parent of orphans, lists the family ([Proc.Family],
// [Proc.WaitFamily]), and kills and reaps all its processes when the test ends. Output goes to a file and never to a pipe,
// because descendants outlive the first process. The started process leads a session of its own, as under systemd. As there,
// the kernel sends SIGHUP and SIGCONT to a suspended descendant that leads a process group, when the parent of the descendant
// ends.
//
// Load. [StartLoad] runs clients that never repeat a request. They write HTTP/1.1 to plain sockets, check for a FIN before they
// use a connection again, give each request an id, and record how each request has ended. [Load.Stop] returns the [Report].
//
// Accounting. A server writes the id of each request that it begins to execute into a [Journal], which all its processes
// share. [Account] compares the journal with the report, and finds requests that were answered once, refused, lost before or
// after the begin of their execution, or executed twice.
//
// Faults. A role passes [Fault] as the hook of the package under test. [FaultSpec] and [FaultEnv] define at which named point
// a process kills or suspends itself, hangs, exits or panics.
//
// Leaks. Main fails if goroutines, descriptors or children are left after the tests. [Counts] and [OpenFDs] return the same
// numbers inside a role.
//
// Waiting. [Until] polls a condition. No other function of the package sleeps.
//
// # Goroutines
//
// Start runs one goroutine for each process, which ends with the process, and one reaper, which ends with the last family. A
// load runs one goroutine for each client. Stop, or the end of the test, ends these goroutines.
//
// Families, descriptors and children are known on Linux only; elsewhere they are reported as none.
package testutil
