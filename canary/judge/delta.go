package judge

import "slices"

// A delta has less than 16 KiB: at most so many weights, so many units that are new, so many of the newest that were sent before,
// and so many of the others.
const (
	deltaRows   = 16
	deltaNew    = 250
	deltaNewest = 150
	deltaOlder  = 50
)

// An outbox has the units that this process has counted, and knows those that the deltas have had. A unit is in the outbox once
// for each kind of event.
type outbox struct {
	queued map[key]bool
	urgent []key // bad outcomes and panics that were not sent yet
	others []key // the rest of what was not sent yet
	sent   []key // in the order of sending
	newest int   // the newest units before this place are sent again next
	older  int   // the next place of the units that are sent again in turn
	row    int   // the next weight that is sent, if there are more than a delta has room for
}

// add puts a unit into the outbox.
func (o *outbox) add(k key) {
	if o.queued[k] {
		return
	}
	if o.queued == nil {
		o.queued = map[key]bool{}
	}
	o.queued[k] = true
	if k.kind == badKind || k.kind == panicKind {
		o.urgent = append(o.urgent, k)
	} else {
		o.others = append(o.others, k)
	}
}

// forget removes units.
func (o *outbox) forget(gone func(k key) bool) {
	for k := range o.queued {
		if gone(k) {
			delete(o.queued, k)
		}
	}
	o.urgent, o.others = slices.DeleteFunc(o.urgent, gone), slices.DeleteFunc(o.others, gone)
	o.sent = slices.DeleteFunc(o.sent, gone)
	o.newest, o.older = min(o.newest, len(o.sent)), 0
}

// take returns the units for a delta. Some can be there twice.
func (o *outbox) take() (all []key) {
	from := max(0, o.newest-deltaNewest)
	all = append(all, o.sent[from:o.newest]...)
	o.newest = from
	for range min(len(o.sent), deltaOlder) {
		all = append(all, o.sent[o.older%len(o.sent)])
		o.older = (o.older + 1) % len(o.sent)
	}
	before := len(o.sent)
	for _, queue := range []*[]key{&o.urgent, &o.others} {
		n := min(len(*queue), deltaNew-(len(o.sent)-before))
		o.sent = append(o.sent, (*queue)[:n]...)
		*queue = slices.Delete(*queue, 0, n)
	}
	if len(o.sent) > before {
		all = append(all, o.sent[before:]...)
		o.newest = len(o.sent)
	}
	return all
}
