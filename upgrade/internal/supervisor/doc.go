// Package supervisor is the process that keeps its pid while generations of the service come and go. The supervisor starts the
// first generation, reaps all processes, passes signals on, and holds the listening sockets. After a crash it starts the
// service again, usually with the build that was committed last.
//
// During an upgrade, the old process and its candidate decide which of the two is the service. As long as a process lives that
// may still become the service by such a decision, the supervisor starts no process. If the old process dies before the commit,
// its candidate is not such a process: the candidate only serves until the build that was committed last serves again.
package supervisor
