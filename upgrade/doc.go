// Package upgrade replaces a running program by a new version of itself, without losing a connection, and takes the new
// version back if it is bad.
//
// An [Upgrader] is created first in main. The program opens its listeners through it, names what has to be right before
// it may serve ([Upgrader.Check]) and what it must not forget ([Upgrader.Keep]), and then calls [Upgrader.Run]. On
// SIGHUP, or when [Upgrader.Upgrade] is called, the program's file is started anew beside the running process:
//
//  1. The file is looked at: one that certainly cannot take over, or is surely not meant, is refused (Options.Verify).
//     The new process, the candidate, gets the open sockets, in New, and a snapshot of the kept values. It does not accept
//     yet.
//  2. It is prepared when it has opened every socket that the old process has, all checks have passed and its server waits in
//     Accept on every listener.
//  3. The old process asks Options.Smoke, which may try the candidate over private connections, then Options.Bake, if
//     there are any, and then lets both accept for a while (Options.Soak).
//  4. The commit: the candidate gets fresh values and what only one may hold (Exclusive), and takes over. It is the main
//     generation now. The context of the old process's serve ends, with a cause whose Handover method returns true; it
//     finishes what it has begun and ends.
//
// Until the new process has confirmed the commit, everything can be taken back: if it exits, crashes, hangs, fails a
// check or is aborted, the old process, which has held its sockets all the time, serves on with everything, and may
// upgrade again at once. What the candidate had received and not answered when it died is lost, nothing else. If the old
// process is the one that dies, the candidate is the service if it has received the commit message. Otherwise it serves all the
// same, if there is no supervisor; with one, see [Supervise]. Status.Uncommitted says that nobody has committed it.
//
// After the commit, [Upgrader.Rollback] brings back the build that was committed before. [Upgrader.Rehearse] goes as far
// as the smoke test and sends the candidate away. No upgrade waits for older generations that still drain; when there are
// more than Options.MaxGenerations, the oldest close what is idle ([Upgrader.Hurry]). [Request] is what a deploy script
// calls.
//
// The package knows listeners, connections and processes, and no protocol above them. Finishing requests is the work
// of the server that Run calls: package drain does it without losing one.
//
// # Crashes, containers and service managers
//
// A crash after the commit is the business of [Supervise], one line in main. The supervisor is the one process that a service manager,
// a container, an init or a terminal sees: it keeps its pid, holds the listening sockets, and starts the last committed build on them
// after a crash, or the one before it if that crashes again. Generations tell the supervisor, in the words of systemd's notify protocol,
// that one of them is the service, that an upgrade is under way, that the service ends, that the main generation is alive (watchdog), and
// which sockets are to be kept; the supervisor passes that on to systemd, if systemd has started it. Without the supervisor a generation
// tells systemd itself.
// New takes NOTIFY_SOCKET, WATCHDOG_USEC, LISTEN_FDS and what the supervisor has passed out of the environment, so that no
// process which the program starts speaks for the service; upgrades get them. The supervisor has no socket with a name: each
// generation has a channel of its own to it, and a candidate is announced by the generation that starts it.
//
// # With tableflip
//
// The candidate is a child in the sense of github.com/cloudflare/tableflip: its Ready is the commit. A program that uses
// tableflip itself can be replaced by one that uses this package, and, with Options.AllowPlain, the other way round; between
// such two there is no control socket and so nothing but what tableflip does: the sockets are files that the new process has
// from its start. A build with this package finds its sockets in the control socket instead, where they wait for New and belong
// to no process. Which of the two a file is, is looked up in the file: New leaves a mark there.
//
// # Files and signals
//
// A new process is started in the directory that the first one was started in, with the same arguments, in a process
// group of its own. Its standard descriptors are those of the old one. SIGHUP upgrades. SIGTERM and the first SIGINT
// stop: a candidate is taken back, the server drains, the pid file and the paths of unix sockets are removed. A second
// SIGINT ends the process at once. The signal for the service goes to the pid in Options.PIDFile, which changes with
// every commit; a process that has handed over and drains ignores SIGHUP and SIGTERM, and passes them on in its first
// second. Before Run the signals do what the program has asked for, or end it. A SIGHUP that comes because the terminal was
// closed, which the process was started in without nohup, stops.
//
// While a process is a candidate, the Go runtime's crash output goes to the old process as well, for the reason that it
// reports. A debug.SetCrashOutput of the program would be replaced by New and at the commit; it belongs after that.
//
// # Memory
//
// While two generations serve they need the memory of two. If it runs out on Linux, the kernel kills the candidate: it raises its
// oom_score_adj to 1000 before main, and puts the old value back at the commit, also when it is not dumpable or has given up root
// since. Processes that it starts before the commit keep 1000: start them later, or let them write their own value. A warning
// names those that live a second after the commit; another one says that the value could not be put back. Where /proc is
// read-only nothing is raised, which is logged at level Debug.
//
// # Goroutines
//
// All methods may be called from any goroutine. Run owns the life of a generation in the goroutine that calls it; the
// goroutines that it starts end before it returns, but for the one that waits for a committed successor's process, which
// this process cannot outlive usefully, and that of a serve that ignores its context (ErrServeStuck). Functions given to Check run one after the other in one goroutine, Bake in
// another, and the methods of kept values in whichever goroutine needs them. A panic in any of them is an error of the
// upgrade, not of the process that serves.
//
// # Platforms
//
// Everything works on Linux. macOS and the BSDs work without Supervise and Rollback, and without the guarantee that a closed listener is
// closed at once; Verify gets a path there that might be replaced before it is started.
// Windows builds and serves, and Upgrade returns ErrNotSupported.
package upgrade
