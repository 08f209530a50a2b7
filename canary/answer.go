package canary

import (
	"cmp"
	"net/http"
	"strings"

	"github.com/midair-go/midair/internal/request"
)

// basis is the set of what a decision depends on: caches have to know.
type basis uint8

const (
	onHeader basis = 1 << iota // Options.Header
	onCookie                   // a cookie: that of Options.Cookie, or the session's
	onKey                      // the header lines in Options.Vary
	onChance                   // nothing that a cache could compare

	onAll = onHeader | onCookie | onKey | onChance
)

// cacheable reports whether caches store answers to requests of a method.
func cacheable(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == ""
}

// vary returns the Vary line for a basis: a slice with one string, or nil.
func (rt *Router) vary(b basis) []string {
	var names []string
	if b&onHeader != 0 {
		names = append(names, rt.opts.Header)
	}
	if b&onCookie != 0 {
		names = append(names, "Cookie")
	}
	if b&onKey != 0 {
		names = append(names, rt.opts.Vary...)
	}
	if b&onChance != 0 {
		names = append(names, "*")
	}
	if len(names) == 0 {
		return nil
	}
	return []string{strings.Join(names, ", ")}
}

// caching is a Router as a Hook: it tells caches what the answer depends on.
type caching Router

// BeforeHeader adds the Vary line for a basis.
func (c *caching) BeforeHeader(h http.Header, arg uint64) {
	request.AddVary(h, c.lines[arg])
	if basis(arg)&onChance != 0 {
		request.AddPrivate(h) // not every cache knows Vary: *
	}
}

// An attempt is what a Router makes for a request if no middleware further out has made it.
type attempt struct {
	slot   request.Slot
	writer request.Writer
}

// share serves a request whose context or answer has something of the router. The router uses the Slot and the Writer of a
// middleware further out if they are free.
func (rt *Router) share(w http.ResponseWriter, r *http.Request, d decision) {
	slot, writer := rt.missing(w, r, d)
	if slot != nil {
		outer := r
		r = slot.Init(outer, cmp.Or(writer, request.WriterOf(w)))
		rt.fill(slot, d)
		defer slot.Finish(outer)
	}
	if writer != nil {
		w = writer.Wrap(w)
		rt.hook(writer, d)
		defer writer.Finish()
	}
	rt.arms[d.side].serve(w, r, d.forced)
}

// missing returns the Slot and the Writer that the router has to make, or nil for each that it does not need. Those that it
// shares have what they need afterwards.
func (rt *Router) missing(w http.ResponseWriter, r *http.Request, d decision) (*request.Slot, *request.Writer) {
	needsSlot, needsWriter := rt.opts.SideInContext || d.visit != nil, d.basis != 0 || d.visit != nil
	if needsSlot {
		slot, _ := request.Shared(w, r)
		needsSlot = slot == nil || !rt.fill(slot, d)
	}
	if needsWriter {
		writer := request.WriterOf(w)
		needsWriter = writer == nil
		if writer != nil {
			rt.hook(writer, d)
		}
	}
	switch {
	case needsSlot && needsWriter:
		a := &attempt{}
		return &a.slot, &a.writer
	case needsSlot:
		return &request.Slot{}, nil
	case needsWriter:
		return nil, &request.Writer{}
	}
	return nil, nil
}

// fill sets the fields of a Slot, and reports whether all were free.
func (rt *Router) fill(slot *request.Slot, d decision) bool {
	free := !rt.opts.SideInContext || slot.Set(request.Side, d.side)
	if d.visit != nil {
		free = slot.Set(request.Visitor, d.visit) && free
	}
	return free
}

// hook adds to a Writer what has to be in the header. After the header was sent this has no effect.
func (rt *Router) hook(writer *request.Writer, d decision) {
	if d.basis != 0 {
		writer.BeforeHeader((*caching)(rt), uint64(d.basis))
	}
	if d.visit != nil {
		writer.BeforeHeader(d.visit, 0)
	}
}
