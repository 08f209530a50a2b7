package upgrade

import (
	"log/slog"
	"os"
	"time"

	"github.com/midair-go/midair/internal/logqueue"
	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/supervisor"
)

// Supervise makes this process the supervisor of the service. The service runs as a child process: the same program with the
// same arguments. Each candidate is a child process of the supervisor, too. The supervisor lives as long as the service, and
// its pid does not change. So the supervisor is the process that a service manager, an init, a script, a terminal or a
// container starts and watches. The supervisor reaps orphaned processes, and forwards the signals that it receives to the main
// generation.
//
// Supervise returns with ok true when the service has ended. Then code is the exit status of the main generation, or 128+n if
// signal n has killed the main generation. Call Supervise in main as soon as the program knows that it will serve, for example
// after it has handled its subcommands:
//
//	if code, ok := upgrade.Supervise(upgrade.Options{}); ok {
//		os.Exit(code)
//	}
//
// Supervise returns at once with ok false if the program itself has to go on. This is so in a child process of the supervisor,
// in a candidate, if Options.Supervisor excludes a supervisor, if opts are invalid, and on platforms other than Linux.
//
// A service manager that sets NOTIFY_SOCKET, such as systemd, receives notifications from the supervisor only: the supervisor
// forwards the notifications of the main generation in its own name. The first generation receives the sockets of socket units
// and of systemd's store. The sockets that generations open are added to systemd's store.
//
// If the first child process ends before it has served, the supervisor ends with the same status. Until that child process
// serves, it has the terminal of the supervisor.
//
// If the main generation ends after it has served, and no stop was requested, the service has crashed. An end by SIGINT or
// SIGTERM is a stop, whichever process has sent the signal. After a crash the supervisor starts the build that was committed
// last, on the same sockets. The supervisor holds these sockets as well: until the new process serves, connections wait, and no
// connection is refused.
//
// If the crash happens during an upgrade, a candidate that has received the commit message becomes the service, and no process
// is started. A candidate without the commit message is an orphan (see Status). The orphan serves while the committed build is
// started, and acquires no exclusive resources. It ends when the committed build serves, and the committed build receives the
// idle connections and the kept values of the orphan. While the supervisor lives, the orphan becomes the service
// (Status.Uncommitted) in two cases only: if the committed build ends twice before it serves, or if the machine cannot start
// the committed build for Options.Timeout.
//
// The supervisor restarts the service at once after the first crash, and waits from 100 ms to 10 s before later restarts. A
// build that crashes twice within Options.Guard, before or after it serves, is replaced by the build that was committed before
// it. If the earlier build does not serve either, the supervisor tries the two builds in turns. The log, the metric
// midair.upgrade.restarts and Status.Last report a restart. The kind in Status.Last is "crash-rollback" if the build was
// replaced, and otherwise "crash".
//
// A start can fail because the machine has no process, memory or descriptor left, or because the file or directory is missing.
// Such a failure does not count as a crash: the supervisor logs a remedy, and tries again. The supervisor ends if the service
// is down for Options.GiveUp, or at once if the very first process ends before it has served.
//
// The supervisor lives on if the reader of its standard output or error ends, as a generation does (see New). It never waits
// for a log.
//
// Supervise uses these fields of opts: Supervisor, Guard, GiveUp, Watchdog, Logger, Timeout and AbortGrace. Here Timeout is how
// long a process may take until it serves after a crash. AbortGrace is how long older generations may drain when the main
// generation has ended.
func Supervise(opts Options) (code int, ok bool) {
	sdnotify.OwnListenPID()
	if sdnotify.IsSupervised() || process.HasParent() {
		return 0, false
	}
	o, err := opts.withDefaults()
	if err != nil {
		log := logqueue.Wrap(slog.Default())
		log.Error("upgrade: nothing is supervised", "err", err) // New returns the same error
		logqueue.Flush(log)
		return 0, false
	}
	if o.Supervisor == superviseNever || o.Supervisor == superviseAsFirst && os.Getpid() != 1 {
		return 0, false
	}
	survivePipe()
	defer logqueue.Flush(o.Logger)
	return supervisor.Run(supervisor.Config{
		Version: o.Version, Timeout: o.Timeout, AbortGrace: o.AbortGrace,
		Guard: o.Guard, GiveUp: giveUp(o.GiveUp, os.Getpid()), Watchdog: o.Watchdog, Logger: o.Logger,
	})
}

// giveUp returns the time after which the supervisor gives up; 0 means never. By default process 1 never gives up, because the
// end of process 1 ends the container. If the container is started again after its end, the program may set Options.GiveUp.
func giveUp(option time.Duration, pid int) time.Duration {
	if option == 0 && pid != 1 {
		return 5 * time.Minute
	}
	return max(option, 0)
}
