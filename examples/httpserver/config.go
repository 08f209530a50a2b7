package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/midair-go/midair/canary/rollout"
	"github.com/midair-go/midair/examples/internal/failing"
)

// fail is the default of -fail. Set with -ldflags "-X main.fail=check" the build is a bad release without the flag.
var fail string

var (
	// errUsage marks arguments that make no sense.
	errUsage = errors.New("usage")
	// errSaid ends a command that has told its user already what went wrong.
	errSaid = errors.New("said")
)

// config has the values of the flags.
type config struct {
	addr, addrFile, pidFile, admin string
	flags, sessions                string
	tlsCert, tlsKey, canaryBin     string
	grace, upgradeTimeout, soak    time.Duration
	steps                          rollout.Steps
	fail                           failing.Mode
}

const synopsis = `Usage: httpserver [flags]           serve; SIGHUP upgrades, SIGTERM drains and stops
       httpserver upgrade [flags]   ask a running one to upgrade, and wait
       httpserver demo              watch good and bad upgrades under load

`

// flagSet returns a set of flags whose Parse returns errors and does not exit.
func flagSet(name, synopsis string) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.Usage = func() {
		fmt.Fprint(fs.Output(), synopsis)
		fs.PrintDefaults()
	}
	return fs
}

// parseFlags parses arguments without a subcommand. The flag set has told the user about an error already.
func parseFlags(fs *flag.FlagSet, args []string) error {
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return err
	case err != nil:
		return fmt.Errorf("%w: see -h", errUsage)
	case fs.NArg() > 0:
		return fmt.Errorf("%w: %q is no flag and no subcommand; see -h", errUsage, fs.Arg(0))
	}
	return nil
}

// parse fills c from the arguments.
func (c *config) parse(args []string) error {
	fs := flagSet("httpserver", synopsis)
	fs.StringVar(&c.addr, "addr", "127.0.0.1:8080", "`address` to serve on; port 0 takes a free one; systemd:NAME is a socket that systemd passes")
	fs.StringVar(&c.addrFile, "addr-file", "", "write the real address to this `file`")
	fs.StringVar(&c.pidFile, "pid-file", "", "keep the pid of the process to signal in this `file`")
	fs.StringVar(&c.admin, "admin", "127.0.0.1:8081", "`address` of the admin listener, unix:PATH or systemd:NAME; empty: none")
	fs.StringVar(&c.flags, "flags", "flags.json", "flag `file`; created with defaults if it is missing")
	fs.StringVar(&c.sessions, "sessions", "sessions", "`directory` of the sessions; created if it is missing")
	fs.DurationVar(&c.grace, "grace", 30*time.Second, "drain limit: how long requests may take to end")
	fs.DurationVar(&c.upgradeTimeout, "upgrade-timeout", time.Minute, "how long a new process may take to be prepared")
	fs.DurationVar(&c.soak, "soak", time.Second, "how long both processes accept before the commit; 0: not at all")
	fs.Var(&c.steps, "steps", "make upgrades progressive by `plan`, such as 5%:10s,25%:10s,100%:10s, in place of -soak")
	fs.StringVar(&c.canaryBin, "canary-bin", "", "run the new cart in a process of its own: this `program`, with the argument cart (Linux)")
	fs.StringVar(&c.tlsCert, "tls-cert", "", "certificate `file`: serve TLS")
	fs.StringVar(&c.tlsKey, "tls-key", "", "key `file` of -tls-cert")
	if err := addFail(fs, &c.fail); err != nil {
		return err
	}
	if err := parseFlags(fs, args); err != nil {
		return err
	}
	if (c.tlsCert == "") != (c.tlsKey == "") {
		return fmt.Errorf("%w: -tls-cert and -tls-key need each other", errUsage)
	}
	for name, path := range map[string]string{"flags": c.flags, "sessions": c.sessions} {
		if path == "" {
			return fmt.Errorf("%w: -%s must not be empty", errUsage, name)
		}
	}
	for name, d := range map[string]time.Duration{"grace": c.grace, "upgrade-timeout": c.upgradeTimeout} {
		if d <= 0 {
			return fmt.Errorf("%w: -%s must be more than 0, not %v", errUsage, name, d)
		}
	}
	return nil
}

// addFail adds the flag -fail.
func addFail(fs *flag.FlagSet, mode *failing.Mode) error {
	if err := mode.Set(fail); err != nil {
		return fmt.Errorf("%w: main.fail, set at link time: %w", errUsage, err)
	}
	fs.Var(mode, "fail", "be a bad release; `how` is one of "+failing.Names())
	return nil
}

// soakTime is how long both processes accept before the commit. With steps there is no soak.
func (c config) soakTime() time.Duration {
	if len(c.steps) > 0 {
		return -1
	}
	return cmp.Or(c.soak, -1)
}
