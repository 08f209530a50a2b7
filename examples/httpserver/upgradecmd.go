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
	"strconv"
	"strings"
	"syscall"
	"time"
)

const upgradeSynopsis = `Usage: httpserver upgrade -admin ADDRESS | -pid-file FILE

Asks a running service to upgrade, waits for the outcome and says why. The exit
status is 0 if the new process serves, and 1 if the old one still does.

`

// upgradeCommand is what a deploy script calls.
func upgradeCommand(args []string) error {
	fs := flagSet("httpserver upgrade", upgradeSynopsis)
	addr := fs.String("admin", "", "admin listener of the service: host:port or unix:PATH")
	pidFile := fs.String("pid-file", "", "pid `file` of the service; without -admin the reason of a failure is in its log only")
	timeout := fs.Duration("timeout", 2*time.Minute, "how long to wait for the outcome")
	if err := parseFlags(fs, args); err != nil {
		return err
	}
	if *timeout <= 0 {
		return fmt.Errorf("%w: -timeout must be more than 0, not %v", errUsage, *timeout)
	}
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	var outcome string
	var err error
	switch {
	case *addr != "":
		outcome, err = newAdminClient(*addr).upgrade(ctx)
	case *pidFile != "":
		outcome, err = upgradeBySignal(ctx, *pidFile)
	default:
		return fmt.Errorf("%w: say which service: -admin or -pid-file; see -h", errUsage)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "not upgraded:", err)
		return errSaid
	}
	fmt.Println("upgraded:", outcome)
	return nil
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

// upgrade asks for an upgrade and waits. The text says from which process to which.
func (c adminClient) upgrade(ctx context.Context) (string, error) {
	before, err := c.status(ctx)
	if err != nil {
		return "", err
	}
	if err := c.do(ctx, http.MethodPost, "/upgrade", &adminAnswer{}); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("there is no outcome yet, and the upgrade goes on without waiting: %w", context.Cause(ctx))
		}
		return "", err
	}
	after, err := c.status(ctx)
	if err != nil {
		return "", fmt.Errorf("it was committed, and then: %w", err)
	}
	old, now := before.Upgrade, after.Upgrade
	return fmt.Sprintf("%s -> %s, generation %d -> %d, pid %d -> %d",
		old.Version, now.Version, old.Generation, now.Generation, old.PID, now.PID), nil
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

// upgradeBySignal sends a SIGHUP and waits until the pid file names another process.
func upgradeBySignal(ctx context.Context, file string) (string, error) {
	old, err := readPID(file)
	if err != nil {
		return "", err
	}
	proc, err := os.FindProcess(old)
	if err == nil {
		err = proc.Signal(syscall.SIGHUP)
	}
	if err != nil {
		return "", fmt.Errorf("signal pid %d of %s: %w", old, file, err)
	}
	begin := time.Now()
	for {
		gone := errors.Is(proc.Signal(syscall.Signal(0)), os.ErrProcessDone) // asked first: it writes the file before it goes
		now, err := readPID(file)
		switch {
		case err == nil && now != old:
			return fmt.Sprintf("pid %d -> %d", old, now), nil
		case errors.Is(err, os.ErrNotExist):
			return "", fmt.Errorf("%s is gone: the service has stopped", file)
		case gone:
			return "", fmt.Errorf("pid %d has ended, and %s names no other process", old, file)
		}
		if sleep(ctx, 20*time.Millisecond) != nil {
			return "", fmt.Errorf("after %v %s still names pid %d: the old process serves on, or an upgrade takes longer; its log tells why",
				time.Since(begin).Round(time.Second/10), file, old)
		}
	}
}

func readPID(file string) (int, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 1 {
		return 0, fmt.Errorf("%s: %q is no pid of a service", file, b)
	}
	return pid, nil
}
