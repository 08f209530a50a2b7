package canary

import (
	"net/http"
	"strings"

	"github.com/midair-go/midair/internal/request"
)

// answers has the additions of a Router to answers and to contexts.
type answers struct {
	sideInContext bool
	observed      bool                // outcomes are looked at
	lines         [onAll + 1][]string // the Vary line for each basis: one string, or none
}

func (a *answers) configure(o *Options) {
	a.sideInContext = o.SideInContext
	a.observed = o.observed()
	for b := range onAll {
		a.lines[b+1] = varyLine(b+1, o)
	}
}

func varyLine(b basis, o *Options) []string {
	var names []string
	if b&onCookie != 0 {
		names = append(names, "Cookie")
	}
	if b&onVary != 0 {
		names = append(names, o.Vary...)
	}
	if b&onChance != 0 {
		names = append(names, "*")
	}
	return []string{strings.Join(names, ", ")}
}

// BeforeHeader tells caches the inputs of the decision. The argument is the basis.
func (a *answers) BeforeHeader(h http.Header, arg uint64) {
	request.AddVary(h, a.lines[arg])
	if basis(arg)&onChance != 0 {
		request.AddPrivate(h) // not every cache knows Vary: *
	}
}

// A slotAndWriter is the Slot and the Writer of a request, in one allocation, if no middleware further out has made either.
type slotAndWriter struct {
	slot   request.Slot
	writer request.Writer
}

// missing returns the Slot and the Writer that the router has to make, or nil where the router needs none, or shares the Slot
// or the Writer of a middleware further out. missing has then added the decision to the shared Slot or Writer.
func (a *answers) missing(w http.ResponseWriter, r *http.Request, d decision) (*request.Slot, *request.Writer) {
	needsSlot, needsWriter := a.sideInContext || d.visit != nil, d.basis != 0 || d.visit != nil || a.observed
	if needsSlot {
		slot, _ := request.Shared(w, r)
		needsSlot = slot == nil || !a.fill(slot, d)
	}
	if needsWriter {
		writer := request.WriterOf(w)
		needsWriter = writer == nil
		if writer != nil {
			a.hook(writer, d)
		}
	}
	switch {
	case needsSlot && needsWriter:
		both := &slotAndWriter{}
		return &both.slot, &both.writer
	case needsSlot:
		return &request.Slot{}, nil
	case needsWriter:
		return nil, &request.Writer{}
	}
	return nil, nil
}

// fill sets the fields of a Slot, and reports whether all were free.
func (a *answers) fill(slot *request.Slot, d decision) bool {
	free := !a.sideInContext || slot.Set(request.Side, d.side)
	if d.visit != nil {
		free = slot.Set(request.Visitor, d.visit) && free
	}
	return free
}

// hook makes a Writer add the lines of a decision to the header. After the header was sent, hook has no effect.
func (a *answers) hook(writer *request.Writer, d decision) {
	if d.basis != 0 {
		writer.BeforeHeader(a, uint64(d.basis))
	}
	if d.visit != nil {
		writer.BeforeHeader(d.visit, 0)
	}
}
