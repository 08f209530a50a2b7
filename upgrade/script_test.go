//go:build linux

package upgrade_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/midair-go/midair/upgrade/internal/testclient"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// A script that starts the program as a child process, and not by exec, is refused. Neither of the two processes is left.
func TestWrapperWithoutExecIsRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		bad    plan.Misbehaviour
		reason string
	}{
		{"starts", "", "a script has to end with exec"},
		{"hangs", plan.HangAtStart, "did not get to upgrade.New within 4s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := testclient.Start(t, func(s *plan.Settings) {
				if wrappers(s); c.bad == plan.HangAtStart {
					impatient(s)
				}
			})
			l := r.Load(smallLoad)
			r.Change(func(s *plan.Settings) { s.Bad = c.bad })
			wrapper(t, r)
			r.MustFail("start", c.reason)
			r.LinkTo(testclient.Binary(t))
			r.MustRecover(l, 1)
			r.Account(l).MustBeClean(t)
		})
	}
}

// wrapper makes the service's executable a script that starts the program as a child process, and not by exec.
func wrapper(t *testing.T, r *testclient.Service) {
	t.Helper()
	path := filepath.Join(r.Dir, "wrapper")
	script := strings.Join([]string{"#!/bin/sh", testclient.Binary(t) + ` "$@"`, "exit $?", ""}, "\n")
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	r.LinkTo(path)
}
