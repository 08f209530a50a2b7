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
// same arguments, and each upgrade is a child process too. The supervisor keeps its pid, and so the container whose process
// 1 it is, the terminal it was started in, and the service manager, init or script that started it and watches it. The
// supervisor reaps orphaned processes and forwards its signals to the main generation. Supervise returns, with ok true, when
// the service has ended: code is the exit status of the main generation, 128+n after signal n. Call Supervise in main where
// the program has decided to serve, after its subcommands:
//
//	if code, ok := upgrade.Supervise(upgrade.Options{}); ok {
//		os.Exit(code)
//	}
//
// ok is false, at once, where the program has to go on: in a child, in an upgrade, where Options.Supervisor says so, and on
// other platforms than Linux.
//
// systemd, and any other manager that sets NOTIFY_SOCKET, receives notifications from the supervisor only: the supervisor
// forwards those of the main generation in its own name. Sockets of socket units and of systemd's store go to the first
// generation, and the sockets that generations open go to systemd's store.
//
// If the first process ends before it has served, the supervisor ends with the same status. Until that process serves, it
// has the terminal that the supervisor had.
//
// A main generation that ends unasked, after the service was up, has crashed; an end by SIGINT or SIGTERM is a stop,
// whichever process sent the signal. After a crash the build that was committed last is started again on the same sockets.
// The supervisor holds these sockets as well, so connections wait meanwhile and none is refused. If the crash comes during
// an upgrade, a candidate that has received the commit message becomes the service, and no process is started. A candidate
// without the commit message is an orphan (see Status): the orphan serves while the committed build is started, acquires no
// exclusive resources, and ends when the committed build serves, which receives the orphan's idle connections and the state
// of its kept values. The orphan becomes the service (Status.Uncommitted) only if the committed build ends twice before
// serving, or if the machine cannot start the committed build for Options.Timeout.
//
// The first restart is immediate; later restarts wait from 100 ms to 10 s. A build that crashes twice within Options.Guard,
// before or after it serves, is replaced by the build that was committed before: the log, Status.Last (kind
// "crash-rollback"; "crash" is a restart) and the metric midair.upgrade.restarts report this. If that build does not serve
// either, the supervisor tries both in turns. A start that fails because the machine has no process, memory or descriptor
// left, or because the file or directory is missing, does not count as a crash: the supervisor logs what to do, and tries
// again. The supervisor ends if the service is down for Options.GiveUp, or at once if the very first process never served.
//
// When the reader of its standard output or error has gone, the supervisor lives on, as a generation does (see New). The
// supervisor never waits for a log.
//
// Supervise uses these fields of opts: Supervisor, Guard, GiveUp, Watchdog, Logger, Timeout (how long a process may take to
// serve after a crash) and AbortGrace (how long older generations may drain when the main generation has ended).
func Supervise(opts Options) (code int, ok bool) {
	sdnotify.OwnListenPID()
	if sdnotify.IsSupervised() || process.HasParent() {
		return 0, false
	}
	o, err := opts.withDefaults()
	if err != nil {
		log := logqueue.Wrap(slog.Default())
		log.Error("upgrade: nothing is supervised", "err", err) // New returns the same
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

// giveUp returns the limit for the supervisor, 0 for none. Process 1 is the whole container, and its end helps only if the
// container is started again from outside, which the program has to say.
func giveUp(option time.Duration, pid int) time.Duration {
	if option == 0 && pid != 1 {
		return 5 * time.Minute
	}
	return max(option, 0)
}
