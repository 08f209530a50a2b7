package supervisor

import (
	"time"

	"github.com/midair-go/midair/internal/process"
)

// outage counts crashes and failed starts, and sums up downtimes. The fields crashes, row and down become zero when a
// generation ends that has served for at least Guard.
type outage struct {
	crashes int           // crashes in a row of the build that is started again
	row     int           // crashes and failed starts in a row, of any build: the pause before the next start depends on row
	failed  int           // programs in a row that have ended before they served
	down    time.Duration // the sum of the past downtimes, without the present downtime
	begun   time.Time     // when the present downtime began; zero: a generation serves
	stuck   time.Time     // since when the machine has not let a program start; zero: the machine lets programs start
}

// begin notes that no generation serves.
func (o *outage) begin(now time.Time) {
	if o.begun.IsZero() {
		o.begun = now
	}
}

// served notes that a generation serves. orphan is true if an orphan has served since the crash: then the service was not down.
func (o *outage) served(now time.Time, orphan bool) {
	if !o.begun.IsZero() && !orphan {
		o.down += now.Sub(o.begun)
	}
	o.begun, o.stuck, o.failed = time.Time{}, time.Time{}, 0
}

// total returns how long the service was down in all, with the present downtime. Downtimes before the last generation that
// served for Guard do not count.
func (o *outage) total(now time.Time) time.Duration { return o.down + now.Sub(o.begun) }

// unable notes that a start has failed because of the machine, not because of the build.
func (o *outage) unable(now time.Time) {
	if o.stuck.IsZero() {
		o.stuck = now
	}
}

// count counts the end of a generation as a crash. served is how long the generation was the service; negative: it never was.
// If served is at least guard, count does not count this end, and sets crashes, row and down to zero.
func (o *outage) count(guard, served time.Duration) {
	if served >= guard {
		o.crashes, o.row, o.down = 0, 0, 0
		return
	}
	o.crashes++
	o.row++
}

// mostFailed is how many programs in a row may end before they serve. After that, an orphan becomes the service.
const mostFailed = 2

// hopeless reports whether an orphan is to become the service. The result is true if mostFailed programs in a row have ended
// before they served, or if no program could be started for as long as limit says. Until then an orphan serves too, but has
// neither the pid file nor the resources of Exclusive.
func (o *outage) hopeless(now time.Time, limit time.Duration) bool {
	return o.failed >= mostFailed || !o.stuck.IsZero() && now.Sub(o.stuck) >= limit
}

// pauses are the times between crash and restart.
var pauses = process.Backoff{First: 100 * time.Millisecond, Most: 10 * time.Second}
