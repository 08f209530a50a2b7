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
	// Version names this build in logs, status and metrics. Default: the version, or else the revision, of the build
	// information; "devel" where there is none.
	Version string

	// Executable is the file that an upgrade starts. The path is resolved for each upgrade, so a replaced file or a symbolic
	// link that was moved takes effect. A relative path counts from the directory that the program was started in; a bare
	// name is looked up in PATH. Default: os.Args[0].
	Executable string
	// Args are the arguments of the new process, without the program's name. Default: os.Args[1:].
	Args []string
	// Env is the environment of the new process. Default: os.Environ() at the time of the upgrade.
	Env []string

	// Verify, if set, decides whether the file may be started: by a checksum or a signature, for example. On Linux path
	// leads to the very descriptor that is executed, for this process and for other processes of the same user: a file that
	// replaces the verified file meanwhile is not started. Verify does not notice a file that is overwritten in place. A
	// script sees that path as $0. On other systems path is the path of the file. Timeout counts from before Verify.
	// Default: nil.
	Verify func(path string) error

	// Smoke, if set, is called in the old process when the candidate is prepared, before any user reaches the candidate:
	// Candidate.Dial makes private connections. An error takes the upgrade back. The context ends when the candidate dies or
	// the upgrade is aborted; Smoke must return then. Default: nil.
	Smoke func(ctx context.Context, c *Candidate) error
	// Soak is how long both processes accept connections before the commit; the new one must be alive at its end.
	// Default: 1 s, or none if Bake is set. Negative: none.
	Soak time.Duration
	// Timeout is how long a new process may take from its start until it is prepared, and again how long it may take
	// to confirm the commit. After that it is killed and the old one serves on. Default: 1 minute.
	Timeout time.Duration
	// AbortGrace is how long an aborted candidate may take to finish the requests that the candidate has accepted during the
	// soak, before the candidate is killed. A candidate that has accepted nothing gets at most 2 s. Default: 30 s.
	AbortGrace time.Duration
	// Bake, if set, is called in the old process between prepared and commit. The candidate gets only the traffic that
	// Candidate.SetWeight gives. An error aborts the upgrade. The context ends when the candidate dies or the upgrade is
	// aborted or committed by hand; Bake must return then. Default: nil.
	Bake func(ctx context.Context, c *Candidate) error

	// AllowPlain lets a candidate take over that does not have this library's control protocol, a program with tableflip
	// only. Such a program has the listening sockets from its start, Smoke and Bake are not called, and processes that the
	// program starts later are not verified. Without AllowPlain the program is refused: before the start if the build
	// information of the file shows that the program uses tableflip only, and otherwise when the program is ready; until
	// then the program has accepted connections. Default: false.
	AllowPlain bool
	// AllowWrapper lets Executable be a script, or another file that does not show which program runs in the end: a file
	// that executes the real program, a packed file, or a file that this process may execute and not read. The wrapper and
	// all processes that the wrapper starts have the listening sockets from the start; a build with this library gets the
	// sockets in New. Default: false, such a file is refused before the start. If the script executes a program with
	// tableflip only, AllowPlain is needed too. Rollback needs neither.
	AllowWrapper bool

	// ListenConfig is used for sockets that this process opens: Control sets socket options (SO_REUSEPORT, IP_FREEBIND,
	// IPV6_V6ONLY), MultipathTCP is respected. A socket from an older process or a service manager keeps its own options;
	// KeepAlive and KeepAliveConfig hold for the connections of such a socket, too. A udp socket with SO_REUSEPORT receives
	// a share of the datagrams at once, also in a candidate: use SO_REUSEPORT for tcp only. Default: as net.Listen.
	ListenConfig net.ListenConfig
	// MayClose names the addresses of sockets that the old version has open and this version does not open: as given to
	// Listen, or "*" for all. Every other socket of the old version that was not opened before Run fails the check phase,
	// since clients would be refused after the commit. MayClose is not needed for Restart and Rollback, nor for sockets that
	// the old version opened while Run ran. Default: none.
	MayClose []string

	// Sticky makes Candidate.SetWeight keep all connections of a client's address on one side, the same side on every host.
	// The choice is monotone: an address in a small share is in every greater share. The share counts addresses then. Behind
	// a proxy there is a single address, and so all or nothing. Default: false; connections are counted, and the share is
	// exact.
	Sticky bool
	// Split, if set, decides which connections the candidate of a progressive upgrade gets: Split is called for each
	// connection that is accepted or moves. The answer should be monotone in the weight. Split must not wait, and must not
	// call the Candidate. Default: nil.
	Split func(c net.Conn, weight float64) bool
	// Silence is how long a candidate with a weight may send nothing before the candidate counts as dead and is killed. A
	// candidate sends a heartbeat every 0.1 s, so the least is 0.3 s. Default: 2 s.
	Silence time.Duration

	// MaxGenerations is how many processes there may be, the main generation and the older generations that still drain,
	// before the oldest are told to close idle connections (Hurry). Active requests keep their time, and no upgrade waits.
	// Default: 4.
	MaxGenerations int

	// StuckAfter is how long serve may go on after the end of its context if no drain is known, as in http.Serve, which has
	// no context. Then Accept and ReadFrom return net.ErrClosed, a second later Run returns ErrServeStuck (or after another
	// StuckAfter, if a socket was closed then), and the connections that are left end with the process. StuckAfter limits no
	// drain of package drain, no server that closes a socket first (http.Server.Shutdown, gRPC), and no serve without
	// sockets that has asked for the end of its context. A server with another kind of drain, or a server that goes on to
	// accept after a stop, needs a longer StuckAfter. Default: 1 minute, twice the default of package drain. Negative: for
	// ever.
	StuckAfter time.Duration

	// PIDFile is the file that names the pid of the main generation: written atomically at the start and at every commit,
	// removed by a plain stop. A candidate that cannot write the file fails its checks. A process without an older process
	// to fall back to serves without the file, logs that, names the file in Status.Unwritten, and tries again every second.
	//
	// The [Outcome] of the last upgrade is written as JSON beside PIDFile, with ".last" added to the name. Room on the disk
	// for the outcome is taken when an upgrade begins. Files of other users do no harm, as in /tmp, but only root can
	// replace a file that another user has put in the place of one of the two first. A service that drops privileges has to
	// be able to replace both files: the directory must belong to the user that the service goes on as. Default: none.
	PIDFile string
	// StateLimit is the most that all values of Keep may take together, in bytes. Default: 64 MiB.
	StateLimit int64
	// NoSignals leaves all signals to the program. By default Run upgrades on SIGHUP and stops on SIGTERM and on the
	// first SIGINT; a second SIGINT ends the process at once.
	NoSignals bool

	// Supervisor says when [Supervise] acts: "always", "pid1" (as process 1 of a container only), or "never". The fields from
	// here to Watchdog are for Supervise only. Default: "always".
	Supervisor string
	// Guard is how long a build must have run since its commit, or its restart, until a crash counts as the first crash
	// again. A build that crashes twice in a row within Guard is replaced by the build before. Default: 1 minute.
	Guard time.Duration
	// GiveUp is how long the service may be down in a row before the supervisor ends, with the status of the process that
	// crashed: the sum of the times without a serving process, until a process has served for Guard. Until then the
	// supervisor holds the sockets and tries again, with pauses up to 10 s. Negative: the supervisor never ends for this
	// reason. Default: 5 minutes; as process 1, negative.
	GiveUp time.Duration
	// Watchdog is how long the main generation may be silent before the supervisor takes the generation for hung and sends
	// SIGABRT. Run sends the heartbeats of the main generation. Default: 0, no watchdog.
	Watchdog time.Duration

	// Logger gets a line for every phase. The handler is called in a goroutine of the library, so that nothing waits for a
	// log: if the handler is stuck, 256 lines wait for the handler, and the number of lines dropped after that is logged.
	// The end of Run and the ends of New, Close and Supervise wait at most 0.2 s for the lines that are left. Lines of the
	// last moment before a crash may be lost. Default: slog.Default().
	Logger *slog.Logger
	// MeterProvider counts and times upgrades. Default: the global one of OpenTelemetry.
	MeterProvider metric.MeterProvider
	// TracerProvider gets a span for each upgrade with an event for each phase. Default: OpenTelemetry's global one.
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

// choice is how connections are chosen; nil: by counting.
func (o Options) choice() handoff.Choice {
	if o.Split == nil && o.Sticky {
		return handoff.ByAddress
	}
	return o.Split
}
