package canary

import "context"

// Side is one of the two sides of a rollout.
type Side uint8

// The sides.
const (
	// Stable is the side that was there before.
	Stable Side = iota
	// Canary is the side that is being tried.
	Canary
)

// String returns "stable" or "canary".
func (s Side) String() string {
	if s == Canary {
		return "canary"
	}
	return "stable"
}

type sideKey struct{}

// SideFromContext tells on which side the request of ctx is, if it came through a Router with Options.SideInContext. Of
// several routers it is the innermost that tells. A function value around it lets flags follow the router.
func SideFromContext(ctx context.Context) (side Side, ok bool) {
	side, ok = ctx.Value(sideKey{}).(Side)
	return side, ok
}
