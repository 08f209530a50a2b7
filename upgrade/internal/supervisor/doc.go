// Package supervisor is the process that keeps its pid while generations of the service come and go. The supervisor starts
// the first generation, reaps all processes, passes signals on, holds the listening sockets, and starts the build that was
// committed last again after a crash.
//
// Only one side at a time decides which process is the service. The supervisor starts no process while another process lives
// that may still become the service by the protocol between two generations. A candidate whose old process died before the
// commit is not such a process: the candidate serves until the build that was committed last serves again.
package supervisor
