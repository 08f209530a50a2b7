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

// Supervise makes this process the supervisor of the service. The service runs as a child process, the same program with the
// same arguments, and each candidate is a child process too. The supervisor lives as long as the service, and its pid does not
// change. So a service manager, an init, a script, a terminal or a container can start and watch the supervisor as the only
// process of the service. The supervisor reaps orphaned processes, and forwards the signals that it receives to the main
// generation. Supervise returns with ok true when the service has ended: code is the exit status of the main generation, or
// 128+n if signal n has killed the main generation. Call Supervise in main as soon as the program knows that it will serve, for
// example after it has handled its subcommands:
//
//	if code, ok := upgrade.Supervise(upgrade.Options{}); ok {
//		os.Exit(code)
//	}
//
// Supervise returns at once with ok false if the program has to go on itself: in a child process of the supervisor, in a
// candidate, if Options.Supervisor excludes a supervisor, if opts are invalid, and on platforms other than Linux.
//
// systemd, and any other manager that sets NOTIFY_SOCKET, receives notifications from the supervisor only: the supervisor
// forwards the notifications of the main generation in its own name. The first generation receives the sockets of socket units
// and of systemd's store, and the sockets that generations open are added to systemd's store.
//
// If the first process ends before it has served, the supervisor ends with the same status. Until that process serves, it has
// the terminal of the supervisor.
//
// If the main generation ends without a request, after the service was up, it has crashed. An end by SIGINT or SIGTERM is a
// stop, whichever process has sent the signal. After a crash the supervisor starts the build that was committed last, on the
// same sockets. The supervisor holds these sockets as well, so until the new process serves, connections wait, and no
// connection is refused. If the crash happens during an upgrade, a candidate that has received the commit message becomes the
// service, and no process is started. A candidate without the commit message is an orphan (see Status). The orphan serves while
// the committed build is started, and acquires no exclusive resources. It ends when the committed build serves: the committed
// build receives the idle connections and the kept values of the orphan. The orphan becomes the service (Status.Uncommitted)
// only if the committed build ends twice before it serves, or if the machine cannot start the committed build for
// Options.Timeout.
//
// The supervisor restarts the service at once after the first crash, and waits from 100 ms to 10 s before later restarts. A
// build that crashes twice within Options.Guard, before or after it serves, is replaced by the build that was committed before.
// The log, Status.Last (with the kind "crash-rollback", or "crash" for a restart of the same build) and the metric
// midair.upgrade.restarts report this. If the earlier build does not serve either, the supervisor tries the two builds in
// turns. A start that fails because the machine has no process, memory or descriptor left, or because the file or directory is
// missing, does not count as a crash: the supervisor logs a remedy, and tries again. The supervisor ends if the service is down
// for Options.GiveUp, or at once if the very first process ends before it has served.
//
// If the reader of its standard output or error ends, the supervisor lives on, as a generation does (see New). The supervisor
// never waits for a log.
//
// Supervise uses these fields of opts: Supervisor, Guard, GiveUp, Watchdog, Logger, Timeout (how long a process may take until
// it serves after a crash) and AbortGrace (how long older generations may drain when the main generation has ended).
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

// giveUp returns the time after which the supervisor gives up; 0 means never, which is the default for process 1. The end of
// process 1 ends the container, which helps only if the container is then started again: the program has to set Options.GiveUp
// in that case.
func giveUp(option time.Duration, pid int) time.Duration {
	if option == 0 && pid != 1 {
		return 5 * time.Minute
	}
	return max(option, 0)
}
