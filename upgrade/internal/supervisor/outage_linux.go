package supervisor

import (
	"time"

	"github.com/midair-go/midair/internal/process"
)

// outage counts crashes and failed starts since a generation has served for Guard.
type outage struct {
	crashes int           // of the build that is started, in a row
	row     int           // crashes and starts that have failed, of whatever build, in a row: the pauses follow from it
	failed  int           // programs in a row that have ended before they served
	down    time.Duration // how long the service was down, until a generation served last
	begun   time.Time     // since when no generation serves; zero: a generation does
	stuck   time.Time     // since when the machine does not let a program start; zero: no start has failed so
}

// begin notes that no generation serves.
func (o *outage) begin(now time.Time) {
	if o.begun.IsZero() {
		o.begun = now
	}
}

// served notes that a generation serves. If an orphan has served meanwhile, the service was not down.
func (o *outage) served(now time.Time, orphan bool) {
	if !o.begun.IsZero() && !orphan {
		o.down += now.Sub(o.begun)
	}
	o.begun, o.stuck, o.failed = time.Time{}, time.Time{}, 0
}

// total is how long the service has been down since a generation has served for Guard.
func (o *outage) total(now time.Time) time.Duration { return o.down + now.Sub(o.begun) }

// unable notes that the machine has not let a program start.
func (o *outage) unable(now time.Time) {
	if o.stuck.IsZero() {
		o.stuck = now
	}
}

// count counts the end of a generation. After a generation that has served for guard, counting begins anew.
func (o *outage) count(guard, served time.Duration) {
	if served >= guard {
		o.crashes, o.row, o.down = 0, 0, 0
		return
	}
	o.crashes++
	o.row++
}

// mostFailed is how often the committed build may end without serving until an orphan is the service.
const mostFailed = 2

// hopeless reports whether an orphan is to be the service: the program has ended twice without serving, or no program could be
// started for limit. An orphan serves all the time, but has neither the pid file nor the resources of Exclusive.
func (o *outage) hopeless(now time.Time, limit time.Duration) bool {
	return o.failed >= mostFailed || !o.stuck.IsZero() && now.Sub(o.stuck) >= limit
}

// pauses are the times between crash and restart.
var pauses = process.Backoff{First: 100 * time.Millisecond, Most: 10 * time.Second}
