package upgrade

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"time"

	"github.com/midair-go/midair/internal/logqueue"
	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/upgrade/internal/handoff"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// Options of an Upgrader. The zero value works.
type Options struct {
	// Version names this build in logs, status and metrics. Default: the version, or else the revision, in the build
	// information; "devel" if the build information has neither.
	Version string

	// Executable is the file that an upgrade starts. The path is resolved again for each upgrade, so an upgrade finds a
	// replaced file, and the new target of a symbolic link. A relative path begins at the directory that the program was
	// started in; a name without a slash is looked up in PATH. Default: os.Args[0].
	Executable string
	// Args are the arguments of the new process, without the program's name. Default: os.Args[1:].
	Args []string
	// Env is the environment of the new process. Default: os.Environ() at the time of the upgrade.
	Env []string

	// Verify, if set, decides whether the file at the given path may be started: by a checksum or a signature, for example. On
	// Linux the path is a link in /proc to the descriptor that is executed; this process and other processes of the same user
	// can open the path. If another file replaces the verified file after Verify, the verified file is started all the same.
	// But if the verified file is overwritten in place after Verify, the new content is started. A script sees the path as $0.
	// On other systems Verify gets the path of the file itself. Timeout includes the time that Verify takes. Default: nil.
	Verify func(path string) error

	// Smoke, if set, is called in the old process when the candidate is prepared, before any user reaches the candidate. Smoke
	// may test the candidate over private connections (Candidate.Dial). If Smoke returns an error, the candidate is taken back.
	// The context ends when the candidate dies or the upgrade is aborted; Smoke must return when the context ends. Default:
	// nil.
	Smoke func(ctx context.Context, c *Candidate) error
	// Soak is how long both processes accept connections before the commit; the upgrade fails if the candidate dies in this
	// time. Default: 1 s, or none if Bake is set. Negative: none.
	Soak time.Duration
	// Timeout is how long an upgrade may take from the check of the file (see Verify) until the new process is prepared. The
	// new process may take the same time once more to confirm the commit. A process that takes longer is killed, and the old
	// process goes on serving. Default: 1 minute.
	Timeout time.Duration
	// AbortGrace is how long an aborted candidate may take to finish the requests that it has accepted before the abort. After
	// that time the candidate is killed. A candidate that has accepted nothing gets at most 2 s. Default: 30 s.
	AbortGrace time.Duration
	// Bake, if set, is called in the old process between Smoke and the commit. During Bake the candidate gets only the traffic
	// that Bake gives it by Candidate.SetWeight. If Bake returns an error, the candidate is taken back. The context ends when
	// the candidate dies, or when an operator aborts or commits the upgrade; Bake must return when the context ends. Default:
	// nil.
	Bake func(ctx context.Context, c *Candidate) error

	// AllowPlain lets a candidate take over that uses tableflip only, and so does not have this library's control protocol.
	// Such a program has the listening sockets from its start. Smoke and Bake are not called, and Verify does not see the
	// files that the program starts later. Without AllowPlain the program is refused. If the build information of the file
	// shows that the program uses tableflip only, the program is refused before its start. Otherwise it is refused when it is
	// ready, and may have accepted connections. Default: false.
	AllowPlain bool
	// AllowWrapper lets Executable be a script, or another file that does not show which program it starts: a file that
	// executes the real program, a packed file, or a file that this process may execute but not read. The wrapper, and all
	// processes that the wrapper starts, have the listening sockets from the start; a build with this library would get the
	// sockets in New. Without AllowWrapper such a file is refused before its start. If the script executes a program that uses
	// tableflip only, AllowPlain is needed too. Rollback needs neither. Default: false.
	AllowWrapper bool

	// ListenConfig is used for sockets that this process opens: Control may set socket options (SO_REUSEPORT, IP_FREEBIND,
	// IPV6_V6ONLY), and MultipathTCP has its usual effect. A socket from an older process or from a service manager keeps its
	// own options, but KeepAlive and KeepAliveConfig have an effect on the connections of such a socket, too. A new udp socket
	// with SO_REUSEPORT receives a share of the datagrams at once, even in a candidate: use SO_REUSEPORT for tcp only. Default:
	// the settings of net.Listen.
	ListenConfig net.ListenConfig
	// MayClose names the sockets that the old version has open and that this version gives up. The names are the addresses as
	// given to Listen; "*" means all sockets. This version must open every other socket of the old version before Run.
	// Otherwise the candidate fails in the check phase, because clients would be refused after the commit. MayClose is not
	// needed for Restart and Rollback, nor for sockets that the old version opened after its call of Run. Default: none.
	MayClose []string

	// Sticky makes Candidate.SetWeight send all connections of a client address to the same process, by the same rule on every
	// host. An address that belongs to a small share also belongs to every greater share. With Sticky the weight is the
	// share of addresses, and not of connections. Behind a proxy all connections have one address, so the candidate gets all of
	// them or none. Default: false, which means that connections are counted, and the share of connections is exact.
	Sticky bool
	// Split, if set, decides which connections the candidate of a progressive upgrade gets: Split is called for each connection
	// that is accepted, and for each idle connection that may move. It returns true if the candidate gets the connection. If
	// Split returns true for a weight, it should return true for every greater weight as well. Split must not wait, and must
	// not call the Candidate. Default: nil.
	Split func(c net.Conn, weight float64) bool
	// Silence is how long a candidate with a weight may send nothing before it counts as dead and is killed. A candidate sends
	// a heartbeat every 0.1 s, so the smallest value is 0.3 s: a smaller value counts as 0.3 s. Default: 2 s.
	Silence time.Duration

	// MaxGenerations is how many processes there may be: the main generation, and the older generations that still drain. If
	// there are more, the oldest generations have to close their idle connections (see Hurry). Requests that have begun keep
	// their time limits. An upgrade does not wait for the older generations. Default: 4.
	MaxGenerations int

	// StuckAfter is how long a serve may go on that ignores the end of its context: a serve that calls http.Serve, for example,
	// which has no context. After this time Accept and ReadFrom return net.ErrClosed. If serve has not returned a second later,
	// Run returns ErrServeStuck, and the remaining connections end with the process. But if serve has closed a socket in
	// reaction to net.ErrClosed, Run first waits for another StuckAfter.
	//
	// StuckAfter does not limit a serve that Run knows to drain or to finish its work: a drain of package drain, a server that
	// begins its drain by closing a socket (http.Server.Shutdown, gRPC), and a serve without open sockets that has called Done
	// or Err of its context. A server that drains in another way, or that goes on accepting after a stop, needs a longer
	// StuckAfter. Default: 1 minute, twice the default of package drain. Negative: no limit.
	StuckAfter time.Duration

	// PIDFile is the path of a file with the pid of the main generation. The file is written atomically at the start and at
	// every commit, and a plain stop removes it. A candidate that cannot write the file fails its checks. If a process without
	// an old process cannot write the file, it serves nevertheless, logs the failure, names the file in Status.Unwritten, and
	// tries again every second.
	//
	// The [Outcome] of the last upgrade is written as JSON to a second file beside PIDFile, with ".last" added to the name.
	// Room on the disk for the outcome is reserved when an upgrade begins. Other users may have the right to write to the
	// directory, as in /tmp: their files do no harm. But if another user has created one of the two files before the service
	// did, only root can replace that file. A service that drops privileges must still be able to replace both files: the
	// directory must belong to the user that the service changes to. Default: none.
	PIDFile string
	// StateLimit is the size limit of all values of Keep together, in bytes. Default: 64 MiB.
	StateLimit int64
	// NoSignals leaves all signals to the program. By default Run upgrades on SIGHUP, and stops the service on SIGTERM and on
	// the first SIGINT; a second SIGINT ends the process at once.
	NoSignals bool

	// Supervisor decides when [Supervise] makes this process a supervisor: "always", "pid1" (only if this process is process 1
	// of a container), or "never". The fields Supervisor, Guard, GiveUp and Watchdog are for Supervise only. Default: "always".
	Supervisor string
	// Guard is how long a build must run after its commit or restart until earlier crashes no longer count. If a build crashes
	// twice in a row, each time within Guard, the supervisor starts the build before it instead. Default: 1 minute.
	Guard time.Duration
	// GiveUp limits how long the service may be down. The supervisor adds up the times without a serving process, until a
	// process has served for Guard; if the sum exceeds GiveUp, the supervisor ends with the status of the crashed process.
	// Until then the supervisor holds the sockets and starts the service again and again, with pauses up to 10 s. Negative: no
	// limit. Default: 5 minutes; no limit if the supervisor is process 1.
	GiveUp time.Duration
	// Watchdog is the longest time allowed between two heartbeats of the main generation. Run sends the heartbeats. After a
	// longer silence the supervisor assumes that the main generation hangs, and sends it SIGABRT. Default: 0, no watchdog.
	Watchdog time.Duration

	// Logger gets a line for every phase. A goroutine of the library calls the handler, so the library does not wait for the
	// log. If the handler is stuck, 256 lines wait for it, further lines are dropped, and the number of dropped lines is logged
	// later. At their end, Run, Close and Supervise wait at most 0.2 s until the handler has got the waiting lines. New waits
	// in the same way before it returns an error. Lines of the last moment before a crash may be lost. Default: slog.Default().
	Logger *slog.Logger
	// MeterProvider receives the metrics of upgrades: counts and durations. Default: the global provider of OpenTelemetry.
	MeterProvider metric.MeterProvider
	// TracerProvider receives a span for each upgrade, with an event for each phase. Default: the global provider of
	// OpenTelemetry.
	TracerProvider trace.TracerProvider
}

// The values of Options.Supervisor.
const (
	superviseAlways  = "always"
	superviseAsFirst = "pid1"
	superviseNever   = "never"
)

// withDefaults returns the options with the defaults filled in, or an error that names an invalid field.
func (o Options) withDefaults() (Options, error) {
	for name, negative := range map[string]bool{
		"Timeout": o.Timeout < 0, "AbortGrace": o.AbortGrace < 0, "StateLimit": o.StateLimit < 0,
		"MaxGenerations": o.MaxGenerations < 0, "Silence": o.Silence < 0,
		"Guard": o.Guard < 0, "Watchdog": o.Watchdog < 0,
	} {
		if negative {
			return o, fmt.Errorf("upgrade: Options.%s is negative: use 0 for the default", name)
		}
	}
	o.Supervisor = first(o.Supervisor, superviseAlways)
	if !slices.Contains([]string{superviseAlways, superviseAsFirst, superviseNever}, o.Supervisor) {
		return o, fmt.Errorf("upgrade: Options.Supervisor is %q: use %q, %q or %q", o.Supervisor, superviseAlways, superviseAsFirst, superviseNever)
	}
	o.Version = first(o.Version, buildVersion())
	o.Executable = first(o.Executable, os.Args[0])
	if o.Args == nil {
		o.Args = os.Args[1:]
	}
	o.Args = append([]string(nil), o.Args...)
	if o.Soak == 0 && o.Bake == nil {
		o.Soak = time.Second
	}
	o.MaxGenerations = first(o.MaxGenerations, 4)
	o.Silence = max(first(o.Silence, 2*time.Second), 3*beatEvery)
	o.Timeout = first(o.Timeout, time.Minute)
	o.StuckAfter = first(o.StuckAfter, time.Minute)
	o.Guard = first(o.Guard, time.Minute)
	o.AbortGrace = first(o.AbortGrace, 30*time.Second)
	o.StateLimit = first(o.StateLimit, 64<<20)
	if o.PIDFile != "" && !filepath.IsAbs(o.PIDFile) {
		o.PIDFile = filepath.Join(process.StartDir(), o.PIDFile)
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	o.Logger = logqueue.Wrap(o.Logger)
	if o.MeterProvider == nil {
		o.MeterProvider = otel.GetMeterProvider()
	}
	if o.TracerProvider == nil {
		o.TracerProvider = otel.GetTracerProvider()
	}
	return o, nil
}

func (o Options) environ() []string {
	if o.Env != nil {
		return append([]string(nil), o.Env...)
	}
	return os.Environ()
}

func first[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}

func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return s.Value[:12]
		}
	}
	return "devel"
}

// choice returns the function that decides which connections the candidate gets. The result is nil if connections are counted.
func (o Options) choice() handoff.Choice {
	if o.Split == nil && o.Sticky {
		return handoff.ByAddress
	}
	return o.Split
}
