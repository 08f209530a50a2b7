package canary

import (
	"context"

	"github.com/midair-go/midair/internal/request"
)

// Side is a side of a rollout, Stable or Canary.
type Side uint8

// The sides.
const (
	// Stable is the side that was there before.
	Stable Side = iota
	// Canary is the side that is being tried.
	Canary
)

// defaultName names a rollout, a KillSwitch or a Cookie without a name.
const defaultName = "canary"

// String returns "stable" or "canary".
func (s Side) String() string {
	if s == Canary {
		return "canary"
	}
	return "stable"
}

// SideFromContext returns the side of the request of ctx, and true if the request came through a Router with
// Options.SideInContext. With several such Routers, the result is the side of the innermost. A function value around
// SideFromContext lets flags follow the router.
func SideFromContext(ctx context.Context) (side Side, ok bool) {
	side, ok = request.Find(ctx, request.Side).(Side)
	return side, ok
}
