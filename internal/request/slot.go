package request

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"
)

// A Key names a field of a Slot.
type Key uint8

// The fields.
const (
	Side    Key = iota // canary: the side of the innermost Router
	Session            // session: the visit
	Visitor            // canary: the id that a Cookie has made for the visitor
	Flags              // flags: for whom flags are evaluated
	keys
)

// A Slot is the context of one attempt to answer a request. The zero value is ready for Init. It must not be copied.
type Slot struct {
	parent context.Context
	outer  *Slot
	first  *Slot   // the Slot of the first attempt; nil in the first attempt
	writer *Writer // what the first handler in this Slot writes to, or nil
	req    http.Request
	fields [keys]field
	reads  atomic.Uint32
}

var _ context.Context = (*Slot)(nil)

// A field is set once: free, then busy while the value is written, then set.
type field struct {
	state atomic.Uint32
	value any
}

const (
	free = iota
	busy
	set
)

func (f *field) get() any {
	if f.state.Load() != set {
		return nil
	}
	return f.value
}

type slotKey struct{}

// From returns the innermost Slot of a context, or nil if there is none.
func From(ctx context.Context) *Slot {
	s, _ := ctx.Value(slotKey{}).(*Slot)
	return s
}

// Init makes s the Slot of r, and returns the copy of r whose context is s. The copy is a part of s. The argument wr is the
// Writer of the attempt, or nil without a Writer.
func (s *Slot) Init(r *http.Request, wr *Writer) *http.Request {
	s.parent, s.writer = r.Context(), wr
	s.outer = From(s.parent)
	s.req = *r.WithContext(s)
	return &s.req
}

// Finish copies into r, the request that Init was called with, what the server and handlers further out look for in their
// request when the handler has returned: files to remove, and the pattern.
func (s *Slot) Finish(r *http.Request) {
	r.MultipartForm, r.Pattern = s.req.MultipartForm, s.req.Pattern
}

// Shared returns the Slot of r and the Writer w if they belong to the same attempt to answer, and nil otherwise. Only then a
// middleware may set fields of the Slot. A middleware further out may have called handlers with writers of its own, each with
// the same context: what one of these handlers sets is not for the others.
func Shared(w http.ResponseWriter, r *http.Request) (*Slot, *Writer) {
	wr := WriterOf(w)
	if s := From(r.Context()); s != nil && wr != nil && s.writer == wr {
		return s, wr
	}
	return nil, nil
}

// Outer returns the next Slot further out, or nil if there is none.
func (s *Slot) Outer() *Slot { return s.outer }

// Set sets a field and reports whether the field was free. The value must not be nil. A value of one byte, or a pointer, costs
// no allocation.
func (s *Slot) Set(k Key, value any) bool {
	f := &s.fields[k]
	if !f.state.CompareAndSwap(free, busy) {
		return false
	}
	f.value = value
	f.state.Store(set)
	return true
}

// Get returns the value of a field of the Slot, or nil if the field was not set.
func (s *Slot) Get(k Key) any { return s.fields[k].get() }

// Find returns the value of a field in the innermost Slot that has one, or nil.
func Find(ctx context.Context, k Key) any {
	for s := From(ctx); s != nil; s = s.outer {
		if v := s.Get(k); v != nil {
			return v
		}
	}
	return nil
}

// NoteCookie notes that the answer depends on a cookie of the request, and that the package which read the cookie adds Vary:
// Cookie to the answer.
func (s *Slot) NoteCookie() { s.reads.Add(1) }

// CookieNotes returns how often NoteCookie was called for the Slots of a context.
func CookieNotes(ctx context.Context) (n uint32) {
	for s := From(ctx); s != nil; s = s.outer {
		n += s.reads.Load()
		if s.first != nil { // a field of the first attempt notes there
			n += s.first.reads.Load()
		}
	}
	return n
}

// A Mark is the set of the fields that a Slot had at one moment.
type Mark [keys]bool

// Mark returns which fields are set now.
func (s *Slot) Mark() (m Mark) {
	for k := range s.fields {
		m[k] = s.fields[k].state.Load() == set
	}
	return m
}

// Again returns a Slot for another attempt to answer r, and the request of that attempt, which writes to wr. The fields in m
// have the values of s. All other fields are free, also those that an earlier attempt set in s. Every attempt is made from the
// Slot s of the first one.
func (s *Slot) Again(m Mark, r *http.Request, wr *Writer) (*Slot, *http.Request) {
	next := &Slot{first: s}
	req := next.Init(r, wr)
	next.outer = s.outer
	for k := range m {
		if m[k] {
			next.Set(Key(k), s.fields[k].value)
		}
	}
	return next, req
}

// Deadline returns the deadline of the request.
func (s *Slot) Deadline() (time.Time, bool) { return s.parent.Deadline() }

// Done returns the channel of the request.
func (s *Slot) Done() <-chan struct{} { return s.parent.Done() }

// Err returns the error of the request.
func (s *Slot) Err() error { return s.parent.Err() }

// Value returns the Slot for the key of From. Any other key is first passed to the field Flags, if that is a Valuer, and then
// to the context of the request.
func (s *Slot) Value(key any) any {
	if _, ok := key.(slotKey); ok {
		return s
	}
	if f, ok := s.Get(Flags).(Valuer); ok {
		if v := f.ContextValue(key, s.parent); v != nil {
			return v
		}
	}
	return s.parent.Value(key)
}

// A Valuer is a field that answers for keys of contexts. ContextValue returns nil for a key that it does not know. The context
// outer is the one around the Slot.
type Valuer interface {
	ContextValue(key any, outer context.Context) any
}
