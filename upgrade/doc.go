// Package upgrade replaces a running program by a new version of itself, without losing a connection, and takes the new
// version back if it is bad.
//
//	func run(ctx context.Context, h http.Handler) error {
//		up, err := upgrade.New(upgrade.Options{PIDFile: "shop.pid"}) // first in main
//		if err != nil {
//			return err
//		}
//		defer up.Close()
//		ln, err := up.Listen("tcp", ":8080") // inherited after an upgrade
//		if err != nil {
//			return err
//		}
//		srv := drain.NewServer(&http.Server{Handler: h}, drain.Options{Move: up.Move})
//		return up.Run(ctx, func(ctx context.Context) error { return srv.Serve(ctx, ln) })
//	}
//
// On SIGHUP, or when [Upgrader.Upgrade] is called, the program's file is started again beside the running process:
//
//  1. Verify. The old process examines the file and refuses a file that cannot take over (Options.Verify adds a test of
//     your own). The new process, the candidate, receives the open sockets and a snapshot of the kept values in New. The
//     candidate does not accept yet.
//  2. Check. The candidate is prepared when every socket of the old process is open in the candidate, all checks have passed,
//     and the candidate's server waits in Accept on every listener.
//  3. Smoke, bake, soak. The old process calls Options.Smoke, which may try the candidate over private connections, and
//     Options.Bake, which may give the candidate a share of the traffic. Then both processes accept for Options.Soak.
//  4. Commit. The candidate receives fresh values and the exclusive resources, and becomes the main generation. The context of
//     the old process's serve ends; the cause has a method Handover, which returns true. The old process finishes the
//     requests that have begun, and ends.
//
// Until the new process has confirmed the commit, the old process keeps its sockets and can take everything back: if the
// candidate exits, crashes, hangs, fails a check or is aborted, the old process serves on, and may upgrade again at once.
// Only the requests that a crashing candidate had read and not answered are lost. If the old process dies instead, a
// candidate that has received the commit message is the service. A candidate without the commit message serves as well: for
// good without a supervisor, and until the committed build serves again with a supervisor (see [Supervise] and
// Status.Uncommitted).
//
// The package handles listeners, connections and processes, and no protocol above them. Finishing requests is the work
// of the server that Run calls: package drain does so without losing a request.
//
// # Methods, by who needs them
//
//   - main: [New], [Upgrader.Listen], [Upgrader.ListenPacket], [Upgrader.ListenPinned], [Upgrader.Check], [Upgrader.Keep],
//     [Upgrader.Exclusive], [Upgrader.Run], [Upgrader.Close]; [Supervise] before them, if crashes are to be mended.
//   - an operator, an admin handler or a deploy script: [Upgrader.Upgrade], [Upgrader.Restart], [Upgrader.Rehearse],
//     [Upgrader.Rollback], [Upgrader.Commit], [Upgrader.Abort], [Upgrader.Status]; [Request] from another process.
//   - a judge in Options.Smoke or Options.Bake: the methods of [Candidate]; [Upgrader.Publish] on the candidate's side.
//   - a server, mostly by package drain's options: [Upgrader.Move], [Upgrader.MoveWith], [Upgrader.HasCarriedBytes],
//     [Upgrader.Rebalance], [Upgrader.Hurry]; [Assigned].
//
// # Methods that may block
//
//   - New: until the old process has answered, at most Options.Timeout; not at all in a first process.
//   - Listen and its relatives: as long as the resolver takes for a host name.
//   - Keep: as long as the value's UnmarshalBinary takes.
//   - Run: until the service ends, or another generation has taken over and serve has returned.
//   - Upgrade, Restart, Rehearse, Rollback: until the upgrade is over or ctx ends.
//   - Request: until ctx ends, or 2 minutes without an upgrade under way.
//   - Commit, Abort: until Run's goroutine has received the call; that goroutine never waits. Neither method waits for the end
//     of the upgrade.
//   - Move: some milliseconds. MoveWith: at most two seconds. Publish: at most a millisecond.
//   - Candidate.Dial: until ctx ends, 10 s without a deadline. Candidate.SetWeight: at most two seconds, if the candidate does not read.
//   - Close: until Run has returned.
//   - Status, Hurry, Rebalance, HasCarriedBytes, Check, Exclusive, Assigned: never.
//
// # Functions of the program
//
// All methods may be called from any goroutine. Run owns the life of a generation in the goroutine that calls Run, and calls
// no function of the program there. Run calls serve in a goroutine, the functions given to Check one after the other in
// another, Smoke and Bake in another, and the methods of kept values in whichever goroutine needs them, with a deadline
// of Options.Timeout. A panic in a function of the program is an error of the upgrade, and ends no process. The goroutines that
// Run starts end before Run returns, except a serve that ignores its context (ErrServeStuck).
//
// # Crashes, containers and service managers
//
// After the commit, crashes are the task of [Supervise], one line in main. The supervisor is the process that a service
// manager, a container, an init or a terminal sees: the supervisor keeps its pid, holds the listening sockets, and starts
// the last committed build again after a crash, or the build before if the last one crashes again. Generations notify the
// supervisor, in the words of systemd's notify protocol, of readiness, upgrades, the stop, the watchdog and the sockets
// to store; the supervisor forwards these messages to systemd, if systemd has started the supervisor. Without a supervisor
// a generation notifies systemd itself.
// New removes NOTIFY_SOCKET, WATCHDOG_USEC, LISTEN_FDS and the supervisor's variables from the environment, so that no
// child of the program notifies in the name of the service; upgrades receive the variables. The supervisor has no socket with a
// name: each generation has a channel of its own to the supervisor, and the generation that starts a candidate announces the
// candidate there.
//
// # With tableflip
//
// The candidate is a child in the sense of github.com/cloudflare/tableflip: tableflip's Ready is the commit. A program that
// uses tableflip directly can be replaced by a program with this package, and, with Options.AllowPlain, the other way
// round. Between such a pair there is no control socket, and so nothing beyond tableflip's own features: the candidate has the
// sockets as files from its start. A build with this package finds its sockets in the control socket instead, where the sockets
// wait for New and belong to no process. An old process tells the two kinds of builds apart before the start: the executable
// file of a program that calls New contains a mark.
//
// # Files and signals
//
// A new process is started in the directory that the first process was started in, with the same arguments, in a process
// group of its own, and with the standard descriptors of the old process. SIGHUP upgrades. SIGTERM and the first SIGINT
// stop: a candidate is taken back, the server drains, and the pid file and the paths of unix sockets are removed. A second
// SIGINT ends the process at once. Send signals to the pid in Options.PIDFile, which changes with every commit; a process
// that has handed over ignores SIGHUP and SIGTERM, and forwards them in its first second. Before Run, signals have their
// usual effect. A SIGHUP because the terminal was closed in which the process was started without nohup is a stop.
//
// While a process is a candidate, the Go runtime's crash output goes to the old process as well, as the reason of the
// failure. New and the commit would replace a debug.SetCrashOutput of the program: call it after the commit.
//
// # Memory
//
// While two generations serve they need the memory of two. If memory runs out on Linux, the kernel kills the candidate: the
// candidate raises its oom_score_adj to 1000 before main, and restores the old value at the commit, also when the candidate is
// not dumpable or has given up root since. Processes that the candidate starts before the commit keep 1000: start such
// processes later, or let them write their own value. A warning names the processes that live a second after the commit;
// another warning reports that the value could not be restored. Where /proc is read-only nothing is raised, which is
// logged at level Debug.
//
// # Platforms
//
// Everything works on Linux. macOS and the BSDs work without Supervise and Rollback, and without the guarantee that a closed
// listener is closed at once; Verify gets a path there that might be replaced before the start.
// Windows builds and serves, and Upgrade returns ErrNotSupported.
package upgrade
