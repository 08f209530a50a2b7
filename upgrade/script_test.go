//go:build linux

package upgrade_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A script that starts the program instead of becoming it is refused, and neither of the two processes is left.
func TestWrapperWithoutExecIsRefused(t *testing.T) {
	for _, c := range []struct{ name, bad, reason string }{
		{"starts", "", "a script has to end with exec"},
		{"hangs", "hang", "did not get to upgrade.New within 1.5s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := startService(t, impatient)
			l := r.load(smallLoad)
			r.change(func(s *settings) { s.Bad = c.bad })
			r.wrapper()
			r.mustFail("start", c.reason)
			r.linkTo(testBinary(t))
			r.mustRecover(l, 1)
			r.account(l).MustBeClean(t)
		})
	}
}

// wrapper makes the service's executable a script that starts the program instead of becoming it.
func (r *running) wrapper() {
	r.t.Helper()
	path := filepath.Join(r.dir, "wrapper")
	script := strings.Join([]string{"#!/bin/sh", testBinary(r.t) + ` "$@"`, "exit $?", ""}, "\n")
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		r.t.Fatal(err)
	}
	r.linkTo(path)
}
