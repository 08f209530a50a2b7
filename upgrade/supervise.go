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

// Supervise makes this process the supervisor of the service, which runs as a child of it, the same program with the
// same arguments, and as that child's upgrades. It keeps its pid, and so the container that it is process 1 of, the
// terminal that it was started in, and the service manager, the init or the script that has started it and watches it. It reaps
// what is left behind; it passes the signals that it gets on to the main generation; and it returns, with ok, when the service has
// ended: code is the main generation's exit status, 128+n if signal n has ended it. It comes in main where the program has decided to
// serve, behind its subcommands:
//
//	if code, ok := upgrade.Supervise(upgrade.Options{}); ok {
//		os.Exit(code)
//	}
//
// ok is false, at once, where the program has to go on: in the child, in an upgrade, where Options.Supervisor says so, and on other
// platforms than Linux.
//
// systemd, and whoever else sets NOTIFY_SOCKET, hears the supervisor only: what the main generation has to say, in the supervisor's
// name. Sockets of socket units and of systemd's store go to the first generation, and what generations listen on goes to that store.
//
// What ends before it has served ends the supervisor with the same status. Until then it has the terminal, if the supervisor had it.
//
// A main generation that ends without having been told to, once the service was up, has crashed; one that SIGINT or
// SIGTERM has ended was told to, whoever sent it. The build that was committed last is started again, on the same
// sockets, which the supervisor holds as well, so that connections wait meanwhile and none is refused. If the crash comes
// in an upgrade, a candidate that has received the commit message becomes the service, and nothing is started. One that has not
// is an orphan (see Status): it serves while the committed build is started, acquires nothing, and goes when that build serves,
// which gets its idle connections and the state of its kept values. Only if the committed build ends twice before it serves, or
// the machine does not let it start for Options.Timeout, the orphan becomes the service, and says so (Status.Uncommitted).
//
// After the first crash the restart is immediate, then it waits from 100 ms to 10 s. A build that crashes
// twice within Options.Guard, before it serves or after, is replaced by the one that was committed before it, loudly: in the
// log, in Status.Last (kind "crash-rollback"; "crash" is a restart) and in the metric midair.upgrade.restarts. If that one does
// not serve either, both are tried by turns. A start for which the machine has no process, memory or descriptor left, or whose
// file or directory is not there, is no crash of a build. It is logged with what to do, and tried again. The supervisor ends if
// the service is down for Options.GiveUp, or at once if the first process of all has never served.
//
// When the reader of its standard output or error goes, it lives on, as a generation does (see New), and it never waits for a
// log that nobody reads.
//
// Of opts it uses Supervisor, Guard, GiveUp, Watchdog, Logger, Timeout (how long a process may take to serve after a
// crash) and AbortGrace (how long older generations may drain when the main one has ended).
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

// giveUp returns the limit for the supervisor, 0 for none. Process 1 is the whole container: its end helps only if somebody
// outside starts the container again, which the program has to say.
func giveUp(option time.Duration, pid int) time.Duration {
	if option == 0 && pid != 1 {
		return 5 * time.Minute
	}
	return max(option, 0)
}
