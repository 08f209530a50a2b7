//go:build linux

package testservice

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os/exec"
	"strings"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// admin serves the admin socket. Each answer is a plan.Answer.
func (s *service) admin() http.Handler {
	up := s.up
	mux := http.NewServeMux()
	handle := func(pattern string, do func(ctx context.Context) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			a := plan.NewAnswer(do(r.Context()), up.Status())
			a.Goroutines, a.FDs, a.Children = testutil.Counts()
			json.NewEncoder(w).Encode(a)
		})
	}
	// The test binary is every version, so that an upgrade is a Restart.
	handle("POST /upgrade", func(ctx context.Context) error { return up.Restart(context.WithoutCancel(ctx)) })
	handle("POST /upgrade-while-connected", up.Restart)
	handle("POST /upgrade-to-the-file", up.Upgrade)
	handle("POST /rollback", func(ctx context.Context) error { return up.Rollback(context.WithoutCancel(ctx)) })
	handle("POST /rehearse", func(ctx context.Context) error { return up.Rehearse(context.WithoutCancel(ctx)) })
	handle("POST /commit", func(context.Context) error { return up.Commit() })
	handle("POST /abort", func(context.Context) error { return up.Abort("by hand") })
	handle("GET /status", func(context.Context) error { return nil })
	handle("POST /publish", func(context.Context) error { return up.Publish("news", nil) })
	handle("POST /dial-late", dialRemembered)
	handle("POST /listen", func(context.Context) error { return s.greet("late.sock") })
	handle("POST /drop", func(context.Context) error { return drop(s.set, plan.DropAsked) })

	handle("POST /end", func(context.Context) error { s.end(errBroken); return nil })
	handle("POST /hang", func(context.Context) error { s.value.hang.Store(true); return nil })
	handle("POST /fail", func(context.Context) error { s.value.fail.Store(true); return nil })
	handle("POST /orphan", func(context.Context) error {
		out, err := exec.Command("sh", "-c", "sleep 0.1 >/dev/null 2>&1 & echo $!").Output()
		return errors.Join(errors.New(strings.TrimSpace(string(out))), err)
	})
	return mux
}
