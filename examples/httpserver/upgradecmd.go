package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/midair-go/midair/upgrade"
)

const upgradeSynopsis = `Usage: httpserver upgrade -admin ADDRESS | -pid-file FILE

Asks a running service to upgrade, waits for the outcome and says why. The exit
status is 0 if the new process serves (or could, with -rehearse), and 1 if not.

`

// upgradeFlags are what a deploy script wants.
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

// path is what the admin listener is asked for.
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

// upgradeCommand is what a deploy script calls.
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
		out, err = newAdminClient(f.admin).replace(ctx, f.path())
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

// describe says from which process to which.
func describe(out upgrade.Outcome) string {
	return fmt.Sprintf("%s -> %s, generation %d -> %d, pid %d -> %d",
		out.From, out.Version, out.Generation-1, out.Generation, out.FromPID, out.PID)
}

// adminClient talks to the admin listener of a service.
type adminClient struct {
	http *http.Client
	base string
}

func newAdminClient(addr string) adminClient {
	t := &http.Transport{DisableKeepAlives: true}
	c := adminClient{http: &http.Client{Transport: t}, base: "http://" + addr}
	if path, unix := strings.CutPrefix(addr, "unix:"); unix {
		c.base = "http://admin"
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
	}
	return c
}

// refusal is a POST that was not answered with 200.
type refusal struct {
	status int
	adminAnswer
}

// Error gives phase and reason.
func (r *refusal) Error() string {
	if r.Phase == "" {
		return r.Reason
	}
	return fmt.Sprintf("phase %s: %s", r.Phase, r.Reason)
}

// replace asks for an upgrade, a rehearsal or a rollback, and waits.
func (c adminClient) replace(ctx context.Context, path string) (upgrade.Outcome, error) {
	var a adminAnswer
	err := c.do(ctx, http.MethodPost, path, &a)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("there is no outcome yet, and the upgrade goes on without waiting: %w", context.Cause(ctx))
	}
	if r := (*refusal)(nil); errors.As(err, &r) {
		a = r.adminAnswer
	}
	if a.Outcome == nil {
		return upgrade.Outcome{}, err
	}
	return *a.Outcome, err
}

func (c adminClient) status(ctx context.Context) (s adminStatus, err error) {
	return s, c.do(ctx, http.MethodGet, "/status", &s)
}

// do decodes the answer into v if its status is 2xx.
func (c adminClient) do(ctx context.Context, method, path string, v any) error {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 == 2 {
		return json.Unmarshal(body, v)
	}
	r := &refusal{status: resp.StatusCode}
	if json.Unmarshal(body, &r.adminAnswer) != nil {
		r.Reason = fmt.Sprintf("%s: %s", resp.Status, bytes.TrimSpace(body))
	}
	return r
}
