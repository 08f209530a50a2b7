package subprocess

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/midair-go/midair/internal/logqueue"
)

// Options of a Handler. Cmd is needed; all others have a default.
type Options struct {
	// Name names the handler in logs and in the status, and the directory of its sockets. It consists of letters, digits, "-", "_" and
	// ".", begins with a letter or a digit, and has at most 32 bytes. Two handlers of a host need different names. Default: "canary".
	Name string
	// Cmd returns a command that was not started, for each start of the process. If Env is nil, the process gets the environment of
	// the host without the variables of service managers and of package upgrade. If Stderr is nil, the process writes to the standard
	// error of the host. Stderr has to be an *os.File otherwise, and Stdin and Stdout have to be nil. As with any command, the process
	// inherits descriptors of the host that are not closed on exec; package os opens none of that kind.
	Cmd func() *exec.Cmd
	// Checksum is the SHA-256 of the program, 32 bytes. If it is set, the program is copied into memory for each start, the copy is
	// compared, and the copy is what runs. A script cannot run then. Default: the program runs as it is.
	Checksum []byte
	// Dir is a directory in which the directories of the processes are made. Dir is made with the mode 0700 if it is missing, and must
	// belong to the user of the host otherwise, without rights for others. The next host needs the same Dir to find a process that
	// has outlived its host. The path is absolute and short, about 50 bytes, as that of a socket has at most 107. What a process
	// uses is locked (flock), so that systemd-tmpfiles does not remove it. Default: midair in the directory that systemd has made for
	// the service (RUNTIME_DIRECTORY), or else midair-UID in the directory for temporary files.
	Dir string

	// Warm is called with the handler of a process that has started, before it gets the first request of a client, and returns when
	// the caches of the process are warm, for example. After an error the process is stopped. Default: none.
	Warm func(ctx context.Context, h http.Handler) error
	// StartTimeout is how long the start of a process may take, with Warm. Default: 30 s.
	StartTimeout time.Duration
	// Silence is how long a process may not answer before it is killed. Default: 5 s.
	Silence time.Duration
	// Drain is how long the requests of a process that is replaced or stopped may last. After that the process is killed.
	// Default: 30 s.
	Drain time.Duration
	// Pause is the longest pause before a process that has ended is started again. The first pause in a row is 0, the second 100 ms,
	// and each further one is twice as long as the one before. After a process has lived for a minute, the row begins anew.
	// Default: 30 s.
	Pause time.Duration

	// Logger gets a line when a process serves, was stopped, has ended by itself, and could not be started, and on the level Debug for a
	// request that was not answered. The handler of Logger is called in another goroutine.
	// Default: slog.Default().
	Logger *slog.Logger

	ownDir bool          // Dir is the default, and is removed after its last process
	guard  time.Duration // guardTime, but for tests
	sealed func()        // called by tests after a program was checked
}

const (
	maxName    = 32
	guardTime  = time.Minute
	firstPause = 100 * time.Millisecond
	askEvery   = time.Second // how often a process is asked whether it lives
	askAgain   = 100 * time.Millisecond
	stopLimit  = 5 * time.Second // how long a process may take to end when it was told to
	maxSocket  = 107             // the bytes of the path of a unix socket
)

// withDefaults returns the options with their defaults, or an error.
func (o Options) withDefaults() (Options, error) {
	o.Name = cmp.Or(o.Name, "canary")
	o.ownDir = o.Dir == ""
	o.Dir, o.guard = filepath.Clean(cmp.Or(o.Dir, defaultDir())), cmp.Or(o.guard, guardTime)
	o.StartTimeout, o.Silence = cmp.Or(o.StartTimeout, 30*time.Second), cmp.Or(o.Silence, 5*time.Second)
	o.Drain, o.Pause = cmp.Or(o.Drain, 30*time.Second), cmp.Or(o.Pause, 30*time.Second)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	o.Logger = logqueue.Wrap(o.Logger)
	if o.Cmd == nil {
		return o, errors.New("subprocess: no Cmd: give a function that returns the command of the process")
	}
	if !isName(o.Name) {
		return o, fmt.Errorf(`subprocess: Name is %.40q: choose 1 to %d letters, digits, "-", "_" and ".", beginning with a letter or digit`, o.Name, maxName)
	}
	if !filepath.IsAbs(o.Dir) {
		return o, fmt.Errorf("subprocess: Dir is %.100q: choose an absolute path, as the process may have another working directory", o.Dir)
	}
	if o.Checksum != nil && len(o.Checksum) == 0 {
		return o, errors.New("subprocess: Checksum is empty: give the SHA-256 of the program, or nil for none")
	}
	if n := len(o.Checksum); n != 0 && n != sha256.Size {
		return o, fmt.Errorf("subprocess: Checksum has %d bytes: give the SHA-256 of the program, which has %d", n, sha256.Size)
	}
	for name, d := range map[string]time.Duration{"StartTimeout": o.StartTimeout, "Silence": o.Silence, "Drain": o.Drain, "Pause": o.Pause} {
		if d < 0 {
			return o, fmt.Errorf("subprocess: %s is %v: choose a time above 0, or 0 for the default", name, d)
		}
	}
	return o, nil
}

func defaultDir() string {
	if dir, _, _ := strings.Cut(os.Getenv("RUNTIME_DIRECTORY"), ":"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "midair")
	}
	return filepath.Join(os.TempDir(), "midair-"+strconv.Itoa(os.Geteuid()))
}

func isName(s string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	return s != "" && len(s) <= maxName && strings.Contains(letters, s[:1]) && strings.Trim(s, letters+"-_.") == ""
}
