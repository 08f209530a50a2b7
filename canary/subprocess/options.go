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
	// Name names the handler in logs and in the status, and the directory of its sockets. It consists of letters, digits, "-", "_"
	// and ".", begins with a letter or a digit, and has at most 32 bytes. Give each handler of a host a name of its own: the log
	// names a handler by nothing else. Default: "canary".
	Name string
	// Cmd returns a command that was not started, for each start of the process. If Env is nil, the process gets the environment of
	// the host without the variables of service managers and of package upgrade. If Stderr is nil, the process writes to the
	// standard error of the host. Otherwise Stderr has to be an *os.File. Stdin and Stdout have to be nil. As with any command, the
	// process inherits descriptors of the host that are not closed on exec; package os opens no such descriptors.
	Cmd func() *exec.Cmd
	// Checksum is the SHA-256 of the program, 32 bytes and not their hexadecimal text. If Checksum is set, the program is copied
	// into memory for each start, and the copy runs if its checksum is the same. A script cannot run then. Default: the program is
	// not checked.
	Checksum []byte
	// Dir is a directory in which each process gets a directory for its sockets. If Dir is missing, the host makes Dir with the mode
	// 0700, but no directory above Dir. If Dir exists, it must belong to the user of the host, without rights for other users. The
	// next host needs the same Dir to find a process that has outlived its host. Dir is an absolute path, and has at most 57 bytes
	// together with Name, as the path of a socket has at most 107. The directories that processes use are locked (flock), so that
	// systemd-tmpfiles does not remove them. Default: midair in the directory that systemd has made for the service
	// (RUNTIME_DIRECTORY), or else midair-UID in the directory for temporary files.
	Dir string

	// Warm is called with the handler of each process that has started. The process gets requests of clients after Warm has
	// returned. Warm may send requests that fill the caches of the process, for example. After an error, or a panic, of Warm the
	// process is killed, and its start has failed. Default: none.
	Warm func(ctx context.Context, h http.Handler) error
	// StartTimeout is the time limit for the start of a process, with Warm. A process that is not ready by then is killed.
	// Default: 30 s.
	StartTimeout time.Duration
	// Silence is the time without an answer after which a process is killed. The host asks the process each second whether it
	// lives. Default: 5 s.
	Silence time.Duration
	// Drain is the time limit for the requests of a process that is replaced or stopped. After that the process is killed.
	// Default: 30 s.
	Drain time.Duration
	// Pause is the longest pause between a failure and the next start. There is no pause after the first failure in a row, 100 ms
	// after the second one, and after each further one twice the pause before. The end of a process that has served for a minute
	// counts as a first failure again. Default: 30 s.
	Pause time.Duration

	// Logger gets a line when a process serves, was stopped, has ended by itself, or could not be started. On the level Debug,
	// Logger gets a line for each request that the process has not answered. The handler of Logger is called in another goroutine.
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
