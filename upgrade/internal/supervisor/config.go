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

// Config is the setup of the supervisor. All fields are set. See Options.
type Config struct {
	Version    string        // of the build that the supervisor starts first
	Timeout    time.Duration // how long a process may take to serve after a crash
	AbortGrace time.Duration // how long older generations may drain when the main one has ended
	Guard      time.Duration
	GiveUp     time.Duration // 0: never
	Watchdog   time.Duration // 0: none
	Logger     *slog.Logger
}

// Report says why the supervisor has started a process. The JSON of a report is the JSON of an Outcome.
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

// Names in the environment, and in the store, of a process started after a crash.
const (
	generationEnv = "MIDAIR_GENERATION" // the number that it has
	outcomeEnv    = "MIDAIR_OUTCOME"    // why it was started, as a report
	previousExe   = sdnotify.StorePrefix + "previous-exe"
	previousArgs  = sdnotify.StorePrefix + "previous-args"
)

// Kinds of a report.
const (
	KindCrash    = "crash"          // the last committed build was started again
	KindFallback = "crash-rollback" // the build before it was
)

// TakeReport returns the values of the supervisor for this process: the number of the generation, 0 if there is none, and the
// report as JSON, nil if there is none. TakeReport hides both from the processes started by this process.
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

// TakeBuild takes the executable and the arguments of the build before, which the supervisor has passed. Both are nil if there
// is none; the caller closes both.
func TakeBuild(p *sdnotify.Activation) (exe, args *os.File) {
	return p.TakeFile(previousExe), p.TakeFile(previousArgs)
}

// withoutPrivate leaves out the variables that are meant for a single process.
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
