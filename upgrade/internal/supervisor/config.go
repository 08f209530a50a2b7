package supervisor

import (
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
)

// Config is the setup of the supervisor: see the fields of upgrade.Options with the same names.
type Config struct {
	Version    string        // the version of the build that the supervisor starts first
	Timeout    time.Duration // how long each wait for a process takes at most, for example until a restarted process serves
	AbortGrace time.Duration // how long a process that has to end may drain, for example when the service ends
	Guard      time.Duration
	GiveUp     time.Duration // 0: the supervisor never gives up
	Watchdog   time.Duration // 0: there is no watchdog
	Logger     *slog.Logger
}

// Report tells a process why the supervisor has started it after a crash. The JSON of a report is also the JSON of an
// upgrade.Outcome.
type Report struct {
	Kind      string        `json:"kind"`
	Started   time.Time     `json:"started"`
	At        time.Time     `json:"at"`
	Begun     time.Duration `json:"begun"`
	Committed bool          `json:"committed"`
	Reason    string        `json:"reason,omitempty"`
	From      string        `json:"from,omitempty"`
	FromPID   int           `json:"from_pid,omitempty"`
}

// Names of the variables of the environment and of the files that the supervisor passes to a process that it starts.
const (
	generationEnv = "MIDAIR_GENERATION"                    // the number of the generation
	outcomeEnv    = "MIDAIR_OUTCOME"                       // after a crash: a Report, as JSON
	previousExe   = sdnotify.StorePrefix + "previous-exe"  // the executable of the build that Rollback goes back to
	previousArgs  = sdnotify.StorePrefix + "previous-args" // the arguments and the environment of that build
)

// Kinds of a report.
const (
	KindCrash    = "crash"          // the supervisor has started the build that was committed last
	KindFallback = "crash-rollback" // the supervisor has started the build before the last committed build
)

// TakeReport returns the number of this generation and the Report as JSON, if the supervisor has started this process after a
// crash. In any other process the results are 0 and nil. TakeReport also removes the variables with the number and the Report
// from the environment, so the child processes of this process do not get them.
func TakeReport() (generation int, why []byte) {
	number, text := os.Getenv(generationEnv), os.Getenv(outcomeEnv)
	os.Unsetenv(generationEnv)
	os.Unsetenv(outcomeEnv)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(number)
	if err != nil {
		n = 0
	}
	return n, []byte(text)
}

// TakeBuild returns the executable and the arguments of the build that Rollback goes back to. Both are nil if the supervisor
// has passed no such build. The caller closes both files.
func TakeBuild(p *sdnotify.Activation) (exe, args *os.File) {
	return p.TakeFile(previousExe), p.TakeFile(previousArgs)
}

// withoutPrivate returns env without the variables that are meant for this process only.
func withoutPrivate(env []string) []string {
	var out []string
	for _, v := range env {
		name, _, _ := strings.Cut(v, "=")
		switch name {
		case process.Sentinel, sdnotify.NotifyEnv, sdnotify.ChannelEnv, sdnotify.SocketsEnv, sdnotify.SupervisedEnv, sdnotify.WatchdogEnv, "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID",
			generationEnv, outcomeEnv:
		default:
			out = append(out, v)
		}
	}
	return out
}
