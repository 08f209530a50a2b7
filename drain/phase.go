package drain

// A Phase says how far a [Server] is.
type Phase string

// The phases, in their order.
const (
	// Serving is the phase from the start to the end of the first context.
	Serving Phase = "serving"
	// LameDuck is Serving after [Server.Drain]: not ready, and still accepting.
	LameDuck Phase = "lame duck"
	// Propagating is the time of a plain stop as a lame duck.
	Propagating Phase = "propagating"
	// Draining is the time in which what is there is finished.
	Draining Phase = "draining"
	// Jobs is the part of Draining in which no connection is left, but jobs are.
	Jobs Phase = "jobs"
	// Flushing is the time of [Options.Flush].
	Flushing Phase = "flushing"
	// Drained is the end: Serve returns.
	Drained Phase = "drained"
)

// A stage is how far the drain is, finer than a Phase where the code needs it. The stage of a server only rises.
type stage int32

const (
	serving stage = iota
	propagating
	draining
	expired // Grace ran out
	cutting // a Close closes without waiting for the client
	flushing
	drained
)

// phases are the phases of the stages. LameDuck is a part of serving and Jobs a part of draining: the stage does not show
// them.
var phases = [...]Phase{
	serving: Serving, propagating: Propagating,
	draining: Draining, expired: Draining, cutting: Draining,
	flushing: Flushing, drained: Drained,
}
