package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/midair-go/midair/examples/internal/admin"
	"github.com/midair-go/midair/upgrade"
)

const upgradeSynopsis = `Usage: httpserver upgrade -admin ADDRESS | -pid-file FILE

Asks a running service to upgrade, waits for the outcome and says why. The exit
status is 0 if the new process serves (or could, with -rehearse), and 1 if not.

`

// upgradeFlags has the values of the flags of httpserver upgrade.
type upgradeFlags struct {
	admin, pidFile            string
	rehearse, rollback, force bool
	asJSON                    bool
	timeout                   time.Duration
}

func (f *upgradeFlags) parse(args []string) error {
	fs := flagSet("httpserver upgrade", upgradeSynopsis)
	fs.StringVar(&f.admin, "admin", "", "admin listener of the service: host:port or unix:PATH")
	fs.StringVar(&f.pidFile, "pid-file", "", "pid `file` of the service, which is asked by SIGHUP")
	fs.BoolVar(&f.rehearse, "rehearse", false, "try the new version and send it away again; needs -admin")
	fs.BoolVar(&f.rollback, "rollback", false, "go back to the version before this one; needs -admin")
	fs.BoolVar(&f.force, "force", false, "upgrade to the same build too; with -pid-file always")
	fs.BoolVar(&f.asJSON, "json", false, "print the outcome as JSON")
	fs.DurationVar(&f.timeout, "timeout", 2*time.Minute, "how long to wait for the outcome")
	if err := parseFlags(fs, args); err != nil {
		return err
	}
	switch {
	case f.timeout <= 0:
		return fmt.Errorf("%w: -timeout must be more than 0, not %v", errUsage, f.timeout)
	case f.admin == "" && f.pidFile == "":
		return fmt.Errorf("%w: say which service: -admin or -pid-file; see -h", errUsage)
	case f.admin == "" && (f.rehearse || f.rollback):
		return fmt.Errorf("%w: -rehearse and -rollback need -admin: a signal cannot say so", errUsage)
	case f.rehearse && f.rollback:
		return fmt.Errorf("%w: -rehearse and -rollback exclude each other", errUsage)
	}
	return nil
}

// path is the path of the request to the admin listener.
func (f *upgradeFlags) path() string {
	switch {
	case f.rollback:
		return "/rollback"
	case f.rehearse:
		return "/upgrade?rehearse=1"
	case f.force:
		return "/upgrade?force=1"
	}
	return "/upgrade"
}

// upgradeCommand upgrades a running service, for a deploy script.
func upgradeCommand(args []string) error {
	var f upgradeFlags
	if err := f.parse(args); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), f.timeout)
	defer cancel()
	var out upgrade.Outcome
	var err error
	if f.admin != "" {
		out, err = admin.NewClient(f.admin).Replace(ctx, f.path())
	} else {
		out, err = upgrade.Request(ctx, f.pidFile)
	}
	if f.asJSON && out.Kind != "" {
		_ = json.NewEncoder(os.Stdout).Encode(out)
	}
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "not upgraded:", err)
		return errSaid
	case f.asJSON:
	case f.rehearse:
		fmt.Println("rehearsed:", describe(out))
	default:
		fmt.Println("upgraded:", describe(out))
	}
	return nil
}

// describe returns versions, generations and pids of the old and the new process as text.
func describe(out upgrade.Outcome) string {
	return fmt.Sprintf("%s -> %s, generation %d -> %d, pid %d -> %d",
		out.From, out.Version, out.Generation-1, out.Generation, out.FromPID, out.PID)
}
