// Package testutil runs real processes under real load and accounts for every request and every resource.
//
// Processes. [Main], called from TestMain, lets the test binary play other processes: [Start] starts it again in a
// named role, [StartCommand] starts a program made by [Build]. A service that upgrades itself leaves its first
// process behind, so what a [Proc] owns is a family: every process that inherited its environment, wherever its
// parent went. The test process adopts orphans, lists them ([Proc.Family], [Proc.WaitFamily]), and kills and reaps
// them when the test ends. Output goes to a file, never to a pipe, because descendants outlive the first process.
// The started process leads a session of its own, as under systemd. One consequence is the kernel's and the same there:
// a stopped descendant that leads a process group gets SIGHUP and SIGCONT when its parent ends.
//
// Load. [StartLoad] runs clients that never retry. They write HTTP/1.1 on bare sockets, look for a FIN before they
// reuse a connection, give each request an id, and record how each one ended. [Load.Stop] returns the [Report].
//
// Accounting. The server writes the id of each request that it begins to execute into a [Journal], shared by all its
// processes. [Account] compares the journal with the report: answered once, refused, lost before or after execution
// began, executed twice.
//
// Faults. A role passes [Fault] as the hook of the package under test; [FaultSpec] and [FaultEnv] say at which named
// point a process kills itself, stops, hangs, exits or panics.
//
// Leaks. Main fails when goroutines, descriptors or children are left after the tests; [Counts] and [OpenFDs] tell
// the same from inside a role.
//
// Waiting. [Until] polls a condition; it is the only place that sleeps.
//
// # Goroutines
//
// Start runs one goroutine for each process, which ends with that process, and one reaper, which ends with the last
// family. A load runs one goroutine for each client; Stop ends them, and so does the end of the test.
//
// Families, descriptors and children are known on Linux only; elsewhere they are reported as none.
package testutil
