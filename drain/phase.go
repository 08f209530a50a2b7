package drain

// A Phase is a part of the life of a [Server].
type Phase string

// The phases, in their order.
const (
	// Serving is the phase before the drain, except for the time in LameDuck.
	Serving Phase = "serving"
	// LameDuck is the phase between [Server.Drain] and [Server.Resume]: the server is not ready, but still accepts.
	LameDuck Phase = "lame duck"
	// Propagating is the phase of [Options.Propagation] in a plain stop: the server is not ready, but still accepts.
	Propagating Phase = "propagating"
	// Draining is the phase in which connections, requests and jobs are finished.
	Draining Phase = "draining"
	// Jobs is the part of Draining in which no connection is left, but jobs are.
	Jobs Phase = "jobs"
	// Flushing is the phase in which [Options.Flush] runs.
	Flushing Phase = "flushing"
	// Drained is the phase after the end of the drain: Serve returns.
	Drained Phase = "drained"
)

// A stage is like a Phase, but divides Draining into several stages. A server never goes back to an earlier stage.
type stage int32

const (
	serving stage = iota
	propagating
	draining
	expired // Grace ran out
	cutting // a Close no longer waits for the client
	flushing
	drained
)

// phases has the Phase of each stage. LameDuck is a part of the stage serving, and Jobs a part of the stage draining.
var phases = [...]Phase{
	serving: Serving, propagating: Propagating,
	draining: Draining, expired: Draining, cutting: Draining,
	flushing: Flushing, drained: Drained,
}
