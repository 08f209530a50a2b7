// Package upgrade replaces a running program by a new version of itself, without losing a connection, and returns to the old
// version if the new version is bad.
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
//  1. Verify. The old process examines the file and refuses a file that cannot take over (Options.Verify adds your own
//     test). Then the old process starts the file. The new process, the candidate, receives the open sockets and a snapshot
//     of the kept values in New. The candidate does not accept yet.
//  2. Check. The candidate is prepared when every socket of the old process is open in the candidate, all checks have passed,
//     and the candidate's server waits in Accept on every listener.
//  3. Smoke, bake, soak. The old process calls Options.Smoke, which may try the candidate over private connections, and
//     Options.Bake, which may give the candidate a share of the traffic. Then both processes accept for Options.Soak.
//  4. Commit. The candidate receives the values that have changed since, acquires the exclusive resources, and becomes the main
//     generation. The context of the old process's serve ends; the cause of this context has a method Handover, which returns
//     true. The old process finishes the requests that have begun, and ends.
//
// Until the new process has confirmed the commit, the old process keeps its sockets and can become the only server again: if
// the candidate exits, crashes, hangs, fails a check or is aborted, the old process goes on serving, and may upgrade again at
// once. Only the requests that a crashing candidate has read and not answered are lost. If the old process dies during an
// upgrade, a candidate that has received the commit message becomes the service. A candidate without the commit message serves
// as well: without a supervisor it becomes the service; with a supervisor it serves until the committed build serves again (see
// [Supervise] and Status.Uncommitted).
//
// The package handles listeners, connections and processes, but knows no application protocol. So the program's server has to
// finish the requests. The server runs in serve, the function that Run calls. Package drain has servers that finish their
// requests without losing a request.
//
// # Methods, by who needs them
//
//   - main: [New], [Upgrader.Listen], [Upgrader.ListenPacket], [Upgrader.ListenPinned], [Upgrader.Check], [Upgrader.Keep],
//     [Upgrader.Exclusive], [Upgrader.OnBroadcast], [Upgrader.Run], [Upgrader.Close]; before New also [Supervise],
//     if the service has to be started again after a crash.
//   - an operator, an admin handler or a deploy script: [Upgrader.Upgrade], [Upgrader.Restart], [Upgrader.Rehearse],
//     [Upgrader.Rollback], [Upgrader.Commit], [Upgrader.Abort], [Upgrader.Status]; in another process, [Request].
//   - a part of the program whose state all generations must follow at once, such as a kill switch: [Upgrader.Broadcast].
//   - a judge in Options.Smoke or Options.Bake: the methods of [Candidate]; in the candidate, [Upgrader.Publish]; in both
//     processes, [Assigned]. [BlueGreen] is a ready-made Bake.
//   - a server, mostly through the options of package drain: [Upgrader.Move], [Upgrader.MoveWith],
//     [Upgrader.HasCarriedBytes], [Upgrader.Rebalance], [Upgrader.Hurry].
//
// # Methods that may block
//
//   - New: until the old process has answered, at most Options.Timeout; not at all in a process without an old process.
//   - Listen, ListenPinned, ListenPacket: until the resolver has looked up a host name.
//   - Keep: until the value's UnmarshalBinary has returned, at most Options.Timeout.
//   - Run: until the service ends, or until another generation has taken over and serve has returned.
//   - Upgrade, Restart, Rehearse, Rollback: until the upgrade has ended; the end of ctx aborts the upgrade.
//   - Request: until the upgrade has ended or ctx ends. If ctx has no deadline, Request also returns when no upgrade was under
//     way for 2 minutes.
//   - Commit, Abort: until Run's goroutine has received the call; that goroutine never waits. Neither method waits for the end
//     of the upgrade.
//   - Move: some milliseconds. MoveWith: at most two seconds. Publish: at most a millisecond.
//   - Broadcast: until the message is in the sockets of the other generations, at most a second.
//   - Candidate.Dial: until the candidate has answered or ctx ends, at most 10 s. Candidate.SetWeight: at most two seconds, if
//     the candidate does not read.
//   - Close: until Run has returned.
//   - Status, Hurry, Rebalance, HasCarriedBytes, Check, Exclusive, OnBroadcast, Assigned: never.
//
// # Functions of the program
//
// All methods may be called from any goroutine. The goroutine that calls Run controls the generation, and never calls a
// function of the program. Run starts a goroutine for serve, a goroutine that calls the functions given to Check one after the
// other, and a goroutine for Smoke or Bake. The methods of kept values are called in other goroutines, and may take at most
// Options.Timeout. If a function of the program panics, the panic becomes an error of the upgrade, and no process ends because
// of the panic. The functions of OnBroadcast are called in goroutines of their own, a goroutine for each name, from New on; a
// panic in such a function is logged. All goroutines end before Run returns, except a serve that ignores its context
// (ErrServeStuck), a function of OnBroadcast that does not return, and goroutines that wait for a stuck log or for a file system
// that does not answer.
//
// # Crashes, containers and service managers
//
// [Supervise], one call in main, restarts the service if it crashes after the commit. The supervisor is the process that a
// service manager, a container, an init or a terminal has started. The pid of the supervisor does not change while the service
// runs. The supervisor holds the listening sockets. After a crash it starts the last committed build again, or the build
// before if the last build crashes again. Generations send the supervisor messages about readiness, upgrades, the stop and the
// sockets to store, and signs of life for the watchdog. The messages have the format of systemd's notify protocol. The
// supervisor forwards these messages to systemd, if systemd has started the supervisor. Without a supervisor a generation
// notifies systemd itself.
//
// New removes NOTIFY_SOCKET, WATCHDOG_USEC, LISTEN_FDS and the supervisor's variables from the environment. So no child
// process of the program can send the service manager messages in the name of the service. Only candidates receive these
// variables. The supervisor has no socket with a name: each generation has its own channel to the supervisor. The generation
// that starts a candidate announces the candidate over its channel.
//
// # With tableflip
//
// The candidate is a child in the sense of github.com/cloudflare/tableflip: Ready of tableflip is the commit. A program with
// this package can replace a program that uses tableflip directly. With Options.AllowPlain, a program that uses tableflip
// directly can also replace a program with this package. If one of the two processes uses tableflip directly, they have no
// common control socket, and only the features of tableflip work: the candidate has the listening sockets as open files from
// its start. If both processes use this package, the listening sockets wait in the control socket until New receives them.
// Until then they belong to no process. The old process recognises a build with this package before it starts the build: the
// executable file of a program that calls New contains a mark.
//
// # Files and signals
//
// A new process is started in the directory in which the first process was started, with the same arguments, in its own process
// group, and with the standard descriptors of the old process. SIGHUP begins an upgrade. SIGTERM and the first SIGINT stop the
// service: a candidate is taken back, the server drains, and the pid file and the paths of unix sockets are removed. A second
// SIGINT ends the process at once. Send signals to the pid in Options.PIDFile, which changes with every commit. After the
// commit, the old process forwards SIGHUP and SIGTERM to the new process for a second, and then ignores them. Before Run,
// signals have their usual effect. If the service was started in a terminal without nohup, the SIGHUP that is sent when the
// terminal is closed stops the service.
//
// While a process is a candidate, the crash output of its Go runtime also goes to the old process, as the reason of the
// failure. New and the commit set the crash output of the process. So a program that calls debug.SetCrashOutput itself must
// call it after the commit.
//
// # Memory
//
// During an upgrade two processes need memory. If memory runs out on Linux, the kernel kills the candidate first, because the
// candidate raises its oom_score_adj to 1000 before main. At the commit the candidate restores the old value, even if it is
// not dumpable or is no longer root at that time. Processes that the candidate starts before the commit keep the value 1000:
// start such processes after the commit, or let them write their own value. A second after the commit, a warning names the
// living processes that still have the value 1000. Another warning is logged if the old value cannot be restored. If /proc is
// read-only, the candidate does not raise the value, and logs this at level Debug.
//
// # Platforms
//
// Everything works on Linux. On macOS and the BSDs, Supervise and Rollback do not work, a closed listener is perhaps not closed
// at once, and Verify gets a path whose file might be replaced before the start. On Windows programs can be built and serve,
// but Upgrade returns ErrNotSupported.
package upgrade
