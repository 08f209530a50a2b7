// Package supervisor is the process that keeps its pid while generations of the service come and go. The supervisor starts
// the first generation, reaps all processes, passes signals on, holds the listening sockets, and starts the build that was
// committed last again after a crash.
//
// Only one side at a time decides which process is the service. As long as a process lives that may become the service by the
// protocol between two generations, the supervisor starts no process. A candidate whose old process died before the commit is
// not such a process: the candidate serves until the build that was committed last serves again.
//
// One goroutine owns everything and never waits: a signal, a message of a generation, the end of a generation and the end of a
// start come to that goroutine as values on channels. The state of each process is one of the names in states_linux.go, and
// changes as the table there says; states.md shows the table.
//
//	states_linux.go      the states of a process, the events, and the table
//	supervisor_linux.go  the loop and the signals
//	messages_linux.go    the messages of generations, and which event each message is
//	actions_linux.go     the actions of the table, and the deadlines
//	proc_linux.go        one process: its descriptors, deadlines and exit status
//	children_linux.go    all processes: how they are followed and reaped
//	inbox_linux.go       the channel to one process
//	store_linux.go       the sockets that are held
//	passing_linux.go     how a process gets the sockets that are held
//	start_linux.go       how a program is started, in a goroutine beside the loop
//	threads_linux.go     threads that are made early, since later the machine may allow no new thread
//	builds_linux.go      the builds that can be started
//	outage_linux.go      counters of an outage
//	recovery_linux.go    the crash policy: what is started after a crash, and when
//	orphan_linux.go      candidates whose old process has died before the commit
//	manager_linux.go     what the service manager receives from the supervisor
//	console_linux.go     the terminal, which a program has until it serves
//	config.go            the setup of the supervisor, and what each started process gets from the supervisor
package supervisor
