//go:build linux

package testservice

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/midair-go/midair/upgrade"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

var smokeTests = map[plan.SmokeTest]func(ctx context.Context, c *upgrade.Candidate) error{
	plan.SmokePasses: askOften,
	plan.SmokeFails:  func(context.Context, *upgrade.Candidate) error { return errors.New("the smoke test finds fault") },
	plan.SmokePanics: func(context.Context, *upgrade.Candidate) error { panic("the smoke test fell over") },
	plan.SmokeHangs: func(ctx context.Context, _ *upgrade.Candidate) error {
		<-ctx.Done()
		return ctx.Err()
	},
	plan.SmokeAsks404:  func(_ context.Context, c *upgrade.Candidate) error { return expect(c, "/nothing") },
	plan.SmokeAdds:     func(_ context.Context, c *upgrade.Candidate) error { return expect(c, "/add") },
	plan.SmokeMisdials: misdial,
	plan.SmokeKeeps:    func(_ context.Context, c *upgrade.Candidate) error { remembered = c; return nil },
}

// smoke makes the smoke test of the settings of the moment: tests change settings while a process runs.
func smoke(ctx context.Context, c *upgrade.Candidate) error {
	set, _, err := readSettings()
	if err != nil {
		return err
	}
	test, ok := smokeTests[set.Smoke]
	if !ok {
		return fmt.Errorf("no smoke test is named %q", set.Smoke)
	}
	return test(ctx, c)
}

// askOften sends requests, each on another connection, which stays open.
func askOften(_ context.Context, c *upgrade.Candidate) error {
	for range 20 {
		if err := expect(c, "/work"); err != nil {
			return err
		}
	}
	return nil
}

// expect sends a request to the candidate, and checks that no other process answers.
func expect(c *upgrade.Candidate, path string) error {
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return c.Dial(ctx) },
	}}
	resp, err := client.Post("http://candidate"+path, "", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	by := resp.Header.Get("X-Version")
	if by != fmt.Sprint("g", c.Generation()) || resp.Header.Get("X-Pid") != strconv.Itoa(c.PID()) {
		return fmt.Errorf("%s answers the smoke test of g%d", by, c.Generation())
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the candidate %s answers: %d", by, resp.StatusCode)
	}
	return nil
}

// misdial returns an error if an impossible private connection is not refused, and refused with the right reason.
func misdial(ctx context.Context, c *upgrade.Candidate) error {
	conn, err := c.DialListener(ctx, "tcp", "127.0.0.1:1")
	if err == nil {
		conn.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "there is no listener tcp 127.0.0.1:1") {
		return fmt.Errorf("dial to a listener that is not there: %v", err)
	}
	set, _, err := readSettings()
	if err != nil {
		return err
	}
	if conn, err = c.DialListener(ctx, "tcp", set.Addr); err != nil {
		return fmt.Errorf("dial by name: %w", err)
	}
	conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := c.Dial(ctx); !errors.Is(err, context.Canceled) {
		return fmt.Errorf("dial with a context that has ended: %w", err)
	}
	return nil
}

// remembered is the candidate of SmokeKeeps.
var remembered *upgrade.Candidate

// dialRemembered dials the candidate of SmokeKeeps after the smoke test.
func dialRemembered(ctx context.Context) error {
	_, err := remembered.Dial(ctx)
	return err
}
