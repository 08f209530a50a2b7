package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/midair-go/midair/upgrade"
)

// Client talks to the admin listener of a service.
type Client struct {
	http *http.Client
	base string
}

// NewClient returns a Client for host:port or unix:PATH.
func NewClient(addr string) Client {
	t := &http.Transport{DisableKeepAlives: true}
	c := Client{http: &http.Client{Transport: t}, base: "http://" + addr}
	if path, unix := strings.CutPrefix(addr, "unix:"); unix {
		c.base = "http://admin"
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
	}
	return c
}

// Refusal is the error of a request with another status than 2xx. An action returns a Refusal to choose the status.
type Refusal struct {
	Status int
	Answer
}

// Error returns phase and reason.
func (r *Refusal) Error() string {
	if r.Phase == "" {
		return r.Reason
	}
	return fmt.Sprintf("phase %s: %s", r.Phase, r.Reason)
}

// Replace asks for an upgrade, a rehearsal or a rollback, and waits.
func (c Client) Replace(ctx context.Context, path string) (upgrade.Outcome, error) {
	var a Answer
	err := c.do(ctx, http.MethodPost, path, &a)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("there is no outcome yet, and the upgrade goes on without waiting: %w", context.Cause(ctx))
	}
	if r := (*Refusal)(nil); errors.As(err, &r) {
		a = r.Answer
	}
	if a.Outcome == nil {
		return upgrade.Outcome{}, err
	}
	return *a.Outcome, err
}

// Status decodes the answer of GET /status into v.
func (c Client) Status(ctx context.Context, v any) error {
	return c.do(ctx, http.MethodGet, "/status", v)
}

// do decodes the answer into v if the status is 2xx.
func (c Client) do(ctx context.Context, method, path string, v any) error {
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
	r := &Refusal{Status: resp.StatusCode}
	if json.Unmarshal(body, &r.Answer) != nil {
		r.Reason = fmt.Sprintf("%s: %s", resp.Status, bytes.TrimSpace(body))
	}
	return r
}
