package judge

import "slices"

// The limits of a delta, so that a delta has less than 16 KiB.
const (
	deltaRows   = 15  // weights above 0
	deltaNew    = 250 // units that were not in a delta yet
	deltaNewest = 150 // of the units that were in a delta, the newest ones
	deltaOlder  = 50  // and others of these units
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
	row    int   // the place of the next weight that is sent, if there are more than a delta has room for
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

// rows returns the counters for a delta: first those at the weights that have had a request since, and then others in turn, as
// the deltas that had them may be lost.
func (o *outbox) rows(all []*step) (t tally) {
	from := o.row
	for _, changed := range []bool{true, false} {
		for i := range all {
			at := (from + i) % len(all)
			if row := all[at].row(); len(t) < deltaRows && changed == (row.sum() != all[at].sent) {
				*t.at(row.weight) = row
				o.row = at + 1
			}
		}
	}
	for _, row := range t {
		find(all, row.weight).sent = row.sum()
	}
	return t
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
