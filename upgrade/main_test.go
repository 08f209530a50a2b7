//go:build linux

package upgrade_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/midair-go/midair/drain"
	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
	"github.com/midair-go/midair/upgrade/internal/testservice"
)

func TestMain(m *testing.M) {
	testutil.Main(m, testservice.Roles(testservice.Parts{
		SetStepHook: upgrade.SetStepHook, SetClock: upgrade.SetClock,
		NewServer: func(srv *http.Server, o testservice.ServerOptions) testservice.Server {
			return drain.NewServer(srv, drain.Options{
				Grace: o.Grace, IdleGrace: o.IdleGrace, Move: o.Move, Rebalance: o.Rebalance, Hurry: o.Hurry, KeepWebSockets: o.KeepWebSockets,
			})
		},
		Draining: func(ctx context.Context) <-chan struct{} { return drain.FromContext(ctx).Begun() },
	}))
}
