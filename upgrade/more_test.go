//go:build linux

package upgrade_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/midair-go/midair/upgrade"
)

// What the tests of the file, of the protocol and of Request need of the service.

// moreOptions adds the judges that settings ask for.
func moreOptions(o upgrade.Options, set settings, dir string) upgrade.Options {
	o.Version = set.Version
	if set.Bake == "dial" {
		o.Bake = mustRefuseDial
	}
	if set.Verify != "" {
		o.Verify = func(path string) error { return verify(set.Verify, dir, path) }
	}
	return o
}

// released waits for the test.
func (s *service) released(ctx context.Context) error {
	fmt.Fprintln(os.Stderr, waitsForRelease)
	for ctx.Err() == nil {
		if exists(filepath.Join(s.dir, "release")) {
			return nil
		}
		time.Sleep(5 * time.Millisecond) // this is the work
	}
	return ctx.Err()
}

const waitsForRelease = "the check waits"

// mustRefuseDial is content with a candidate that knows no private connections.
func mustRefuseDial(ctx context.Context, c *upgrade.Candidate) error {
	conn, err := c.Dial(ctx)
	if err == nil {
		conn.Close()
	}
	if !errors.Is(err, upgrade.ErrNotSupported) {
		return errors.Join(errors.New("there is a private connection"), err)
	}
	return nil
}

// more are the ways to replace the service that the test binary alone would not need.
func (s *service) more(mux *http.ServeMux, reply func(http.ResponseWriter, error)) {
	mux.HandleFunc("POST /upgrade-to-the-file", func(w http.ResponseWriter, r *http.Request) { reply(w, s.up.Upgrade(r.Context())) })
}
