package main

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"google.golang.org/grpc"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/canary/grpccanary"
	"github.com/midair-go/midair/canary/judge"
	"github.com/midair-go/midair/canary/rollout"
	"github.com/midair-go/midair/examples/grpcserver/echopb"
	"github.com/midair-go/midair/upgrade"
)

// newRelease returns the judge of new processes.
func (c config) newRelease(broadcast func(string, []byte) error) (*rollout.Processes, error) {
	steps := c.steps
	if steps == nil {
		steps = rollout.Steps{{Weight: 1}} // not used
	}
	return rollout.NewProcesses(rollout.Options{
		Name: "release", Steps: steps, Ignore: saysNothing, Broadcast: broadcast,
		// A new process is slower at first, as its caches are cold: it is worse if a tenth of its calls takes longer than the
		// slowest hundredth of the old process.
		Judge: judge.Options{SlowTolerance: 10},
	}, upgrade.Assigned)
}

// saysNothing reports whether a call says nothing about a release: a probe, and a stream, which lasts for as long as the client
// likes.
func saysNothing(r *http.Request) bool { return r.URL.Path != echopb.Echo_Say_FullMethodName }

// bake returns the judge for an Upgrader, and nil without -steps.
func (c config) bake(release *rollout.Processes) func(context.Context, *upgrade.Candidate) error {
	if c.steps == nil {
		return nil
	}
	return func(ctx context.Context, candidate *upgrade.Candidate) error { return release.Bake(ctx, candidate) }
}

// soakTime is how long both processes accept before the commit. Steps take its place.
func (c config) soakTime() time.Duration {
	if c.steps != nil {
		return -1
	}
	return cmp.Or(c.soak, -1)
}

// options returns the options of the server. The judge gets the connection of each call, and sees all that a call does: so its
// interceptors are the outermost ones.
func (e *echo) options(release *rollout.Processes) ([]grpc.ServerOption, error) {
	judged, err := grpccanary.NewRouter(canary.Options{Name: "release", Begin: release.Begin, Observe: release.Observe})
	if err != nil {
		return nil, err
	}
	return append(grpccanary.ConnContext(nil, release.ConnContext),
		grpc.ChainUnaryInterceptor(judged.UnaryInterceptor, e.tagCall),
		grpc.ChainStreamInterceptor(judged.StreamInterceptor, e.tagStream),
	), nil
}
