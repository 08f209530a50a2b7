package canary

import (
	"net/http"
	"sync/atomic"
)

// replayLimit is the default of Rescue.Body.
const replayLimit = 64 << 10

// rescuer calls the functions of Options.Rescue.
type rescuer struct {
	Rescue
	asked  *asked
	saved  atomic.Uint64 // how many requests were rescued
	panics atomic.Uint64 // of the functions of Rescue
}

func newRescuer(o *Options, a *asked) *rescuer {
	if o.Rescue == nil {
		return nil
	}
	rs := &rescuer{Rescue: *o.Rescue, asked: a}
	if rs.Body == 0 {
		rs.Body = replayLimit
	}
	return rs
}

// eligible reports whether the request may run twice.
func (rs *rescuer) eligible(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, "":
		return true
	}
	return rs.also(r)
}

func (rs *rescuer) also(r *http.Request) bool {
	if rs.Also == nil {
		return false
	}
	defer rs.asked.caught("Rescue.Also", &rs.panics)
	return rs.Also(r)
}

func (rs *rescuer) refuses(status int) bool {
	defer rs.asked.caught("Rescue.Status", &rs.panics)
	return rs.Status(status)
}

// begin calls Rescue.Attempt. It returns false after a panic.
func (rs *rescuer) begin(r *http.Request) (undo func(), ok bool) {
	if rs.Attempt == nil {
		return nil, true
	}
	defer rs.asked.caught("Rescue.Attempt", &rs.panics)
	return rs.Attempt(r), true
}

func (rs *rescuer) undo(undo func()) {
	if undo == nil {
		return
	}
	defer rs.asked.caught("the function that Rescue.Attempt has returned", &rs.panics)
	undo()
}
