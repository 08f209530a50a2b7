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
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// Options of an Upgrader. The zero value works.
type Options struct {
	// Version names this build in logs, status and metrics. Default: the version, or else the revision, of the build
	// information; "devel" where there is none.
	Version string

	// Executable is the file that an upgrade starts. It is looked up anew for each upgrade, so a replaced file or a
	// symbolic link that was moved takes effect. A relative path counts from the directory that the program was
	// started in; a bare name is looked up in PATH. Default: os.Args[0].
	Executable string
	// Args are the arguments of the new process, without the program's name. Default: os.Args[1:].
	Args []string
	// Env is the environment of the new process. Default: os.Environ() at the time of the upgrade.
	Env []string

	// Verify, if set, decides whether the file may be started: it checks a checksum or a signature, say. On Linux path
	// leads to the very descriptor that is executed, for this process and for others of its user, so a file that is put
	// in its place meanwhile was not let through; one that is overwritten in place is not noticed. A script sees that
	// path as $0. Elsewhere it is the path of the file. Timeout counts from before Verify. Default: nil.
	Verify func(path string) error

	// Smoke, if set, is called in the old process when the candidate is prepared, before any user reaches it:
	// Candidate.Dial gives private connections. An error takes the upgrade back. Its context ends when the candidate
	// dies or the upgrade is aborted; Smoke must return then. Default: nil.
	Smoke func(ctx context.Context, c *Candidate) error
	// Soak is how long both processes accept connections before the commit; the new one must be alive at its end.
	// Default: 1 s, or none if Bake is set. Negative: none.
	Soak time.Duration
	// Timeout is how long a new process may take from its start until it is prepared, and again how long it may take
	// to confirm the commit. After that it is killed and the old one serves on. Default: 1 minute.
	Timeout time.Duration
	// AbortGrace is how long an aborted candidate may take to finish the requests that it accepted during the soak
	// before it is killed. One that has accepted nothing gets at most 2 s. Default: 30 s.
	AbortGrace time.Duration
	// Bake, if set, is called in the old process between prepared and commit. The candidate gets no traffic but what
	// Candidate.SetWeight gives it. An error aborts the upgrade. Its context ends when the candidate dies or the upgrade is aborted or committed by
	// hand; Bake must return then. Default: nil.
	Bake func(ctx context.Context, c *Candidate) error

	// AllowPlain lets a candidate take over that does not speak this library's control protocol, a program with tableflip only.
	// It has the listening sockets from its start, Smoke and Bake are not called for it, and what it starts later is not
	// verified. Default: false. It is refused before its start if the build information of its file tells, and otherwise when
	// it says that it is ready; until then it has accepted connections.
	AllowPlain bool
	// AllowWrapper lets Executable be a script, or another file that does not say what its program is: one that ends by exec of
	// the real one, that is packed, or that this process may execute and not read. It has the listening sockets from its start,
	// and so has all that it starts; a build with this library gets them in New. Default: false, it is refused before its
	// start. If the script becomes a program with tableflip only, AllowPlain is needed too. Rollback needs neither.
	AllowWrapper bool

	// ListenConfig is used for sockets that this process opens: its Control sets socket options (SO_REUSEPORT, IP_FREEBIND,
	// IPV6_V6ONLY), MultipathTCP is respected. A socket that comes from an older process or a service manager keeps the options
	// it has; KeepAlive and KeepAliveConfig hold for what it accepts, too. Datagrams are shared out at once by a socket with
	// SO_REUSEPORT, also in a candidate: use it for tcp only. Default: as net.Listen.
	ListenConfig net.ListenConfig
	// MayClose names the addresses of sockets that this version leaves out although the version that it replaces has them open:
	// as they were given to Listen, or "*" for all. Any other one that has come along and was not opened before Run fails the check
	// phase, since its clients would be refused after the commit. Restart means it, and nothing of this holds for Rollback, or for
	// sockets that were opened while Run runs. Default: none.
	MayClose []string

	// Sticky makes Candidate.SetWeight keep a client's address on one side, the same on every host and monotone: whoever
	// is in a small share is in every greater one. The share is then that of the addresses. Default: false, connections
	// are counted, which gives exactly the share. Behind a proxy there is one address, and so all or nothing.
	Sticky bool
	// Choose, if set, decides which connections the candidate of a progressive upgrade gets: it is asked for each that is
	// accepted or moves. It should be monotone in the weight, must not wait, and must not call the Candidate. Default: nil.
	Choose func(c net.Conn, weight float64) bool
	// Silence is how long a candidate that gets connections by SetWeight may say nothing before it is taken as dead and
	// killed. It says something every 0.1 s, so at least 0.3 s. Default: 2 s.
	Silence time.Duration

	// MaxGenerations is how many processes there may be, this one and the older ones that still drain, before the
	// oldest are told to close what is idle (Hurry). Active requests keep their time, and no upgrade waits for it.
	// Default: 4.
	MaxGenerations int

	// StuckAfter is how long serve may go on after its context has ended if nothing is known to drain in it, as in http.Serve, which
	// has no context. Then Accept and ReadFrom return net.ErrClosed, a second later Run returns ErrServeStuck (or after as long
	// again, if a socket was closed then), and connections that are left end with the process. It limits no drain of package drain,
	// none of a server that closes a socket first (http.Server.Shutdown, gRPC), and none of a serve without sockets that has asked
	// for the end of its context. Other drains, and a plain stop that goes on to accept, need it longer. Default: 1 minute, twice
	// what package drain takes by default. Negative: for ever.
	StuckAfter time.Duration

	// PIDFile is where the pid of the main generation is kept: written atomically at the start and at every commit,
	// removed by a plain stop. A candidate that cannot write there fails its checks; a process that no older one stands behind
	// serves without the file, says so in the log and in Status.Unwritten, and tries again every second.
	// Beside it, with ".last" added to its name, is the [Outcome] of the last upgrade as JSON. Room for it on the disk is
	// taken when an upgrade begins. Files of other users do no harm, as in /tmp, but a file that another user has put in the
	// place of one of the two first can be replaced by root only. A service that drops privileges has to be able to
	// replace its files: the directory must belong to the user that it goes on as. Default: none.
	PIDFile string
	// StateLimit is the most that all values of Keep may take together, in bytes. Default: 64 MiB.
	StateLimit int64
	// NoSignals leaves all signals to the program. By default Run upgrades on SIGHUP and stops on SIGTERM and on the
	// first SIGINT; a second SIGINT ends the process at once.
	NoSignals bool

	// Supervisor says when [Supervise] acts: "always", "pid1" (as process 1 of a container only), or "never". The fields from
	// here to Watchdog are for Supervise only. Default: "always".
	Supervisor string
	// Guard is how long a build must have run since its commit, or its restart, for a crash to be the first again. A
	// build that crashes twice in a row within its Guard is replaced by the one before it. Default: 1 minute.
	Guard time.Duration
	// GiveUp is how long the service may be down in a row before the supervisor ends, with the status of what has crashed:
	// the times when no process serves, added up until one has served for Guard. Until then it holds the sockets and goes
	// on trying, and pauses up to 10 s. Negative: it never ends because of that. Default: 5 minutes; as process 1, negative.
	GiveUp time.Duration
	// Watchdog is how long the main generation may be silent before it is taken for hung and ended by SIGABRT. Run
	// keeps the main generation talking. Default: 0, none.
	Watchdog time.Duration

	// Logger gets a line for every phase. Its handler is called in a goroutine of the library, so that nothing waits for a log:
	// if it is stuck, 256 lines wait for it, and the count of those after them is logged. The end of Run and the other ends wait
	// for the lines that are left, at most 0.2 s. Lines of the last moment before a crash may be lost. Default: slog.Default().
	Logger *slog.Logger
	// MeterProvider counts and times upgrades. Default: the global one of OpenTelemetry.
	MeterProvider metric.MeterProvider
	// TracerProvider gets a span for each upgrade with an event for each phase. Default: OpenTelemetry's global one.
	TracerProvider trace.TracerProvider
}

// What Options.Supervisor may be.
const (
	superviseAlways  = "always"
	superviseAsFirst = "pid1"
	superviseNever   = "never"
)

// withDefaults returns the options with their defaults, or an error that names the field that makes no sense.
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
