package request

import (
	"errors"
	"maps"
	"net/http"
	"strings"
)

// ErrDropped is the error of a Writer whose try was dropped: another try answers the request.
var ErrDropped = errors.New("the answer of this try was dropped: another handler answers the request")

// A try is an answer that can be dropped until something of it is sent. It has a header of its own until then,
// which goes on to belong to the handler and the goroutines that it leaves behind. All fields are protected by Writer.mu.
type try struct {
	header  http.Header
	refuses func(status int) bool
	giveUp  func(unserved bool) bool
	state   tryState
	refused int // the status that has dropped the answer, or 0
}

type tryState uint8

const (
	trying  tryState = iota
	sent             // something was sent, or the handler has returned: the answer stands
	dropped          // nothing was sent, and nothing will be
)

// Try makes the Writer that of a try: as long as nothing was sent, Drop drops the answer, and so does a final status that the
// function refuses, if there is one. Try is called after Wrap and before a handler has the Writer.
func (wr *Writer) Try(refuses func(status int) bool) {
	header := wr.w.Header().Clone()
	if header == nil {
		header = http.Header{}
	}
	wr.try = &try{header: header, refuses: refuses}
}

// AllowGiveUp lets the handler of a try give up, if the function returns true. AllowGiveUp is called after Try and before a handler
// has the Writer.
func (wr *Writer) AllowGiveUp(ok func(unserved bool) bool) { wr.try.giveUp = ok }

// GiveUp drops the answer of a try of which nothing was sent, if AllowGiveUp allows it, and reports whether the answer is dropped. The
// status counts as the one that was refused. unserved is true if the handler has done nothing with the request.
func (wr *Writer) GiveUp(status int, unserved bool) bool {
	if wr.try == nil || wr.try.giveUp == nil {
		return false
	}
	wr.mu.Lock()
	defer wr.mu.Unlock()
	if wr.try.state != trying || !wr.try.giveUp(unserved) {
		return false
	}
	wr.try.state, wr.try.refused = dropped, status
	return true
}

// IsTry reports whether Try was called.
func (wr *Writer) IsTry() bool { return wr.try != nil }

// Drop is called when the handler of a try has ended without an answer. It drops the answer if nothing was sent and ok returns true,
// and reports whether the answer is dropped. If not, the answer stands, whatever is written later. Drop does not call ok for an
// answer that was dropped before.
func (wr *Writer) Drop(ok func() bool) bool {
	wr.mu.Lock()
	defer wr.mu.Unlock()
	if wr.try.state == trying {
		wr.try.state = sent
		if ok() {
			wr.try.state = dropped
		}
	}
	return wr.try.state == dropped
}

// Keep is called when the handler of a try has returned: the answer stands, unless it was dropped. It reports whether it
// stands. The hooks have been called then, and the wrapped writer has the header and the trailers.
func (wr *Writer) Keep() bool {
	if wr.inform() != nil {
		return false
	}
	wr.Finish()
	wr.mu.Lock()
	defer wr.mu.Unlock()
	if wr.status.Load() == 0 {
		wr.publish()
		return true
	}
	outer := wr.w.Header()
	for name, values := range wr.try.header {
		if strings.HasPrefix(name, http.TrailerPrefix) || has(outer["Trailer"], name) {
			outer[name] = values
		}
	}
	return true
}

// Refused returns the status that has dropped the answer of a try, or 0.
func (wr *Writer) Refused() int {
	if wr.try == nil {
		return 0
	}
	wr.mu.Lock()
	defer wr.mu.Unlock()
	return wr.try.refused
}

// beginTry is begin for a try.
func (wr *Writer) beginTry(status int) error {
	wr.mu.Lock()
	first := wr.try.state == trying
	if first && wr.try.refuses != nil && wr.try.refuses(status) {
		wr.try.state, wr.try.refused = dropped, status
	}
	if wr.try.state == dropped {
		wr.mu.Unlock()
		return ErrDropped
	}
	wr.try.state = sent
	wr.mu.Unlock()
	if wr.out.Load() && wr.status.Load() != 0 {
		return nil
	}
	wr.Finish()
	if wr.status.CompareAndSwap(0, int32(status)) {
		wr.publish()
	}
	return nil
}

// inform is called before something is sent that is no final status. It returns ErrDropped, or nil: then the answer stands, and the
// wrapped writer has the header so far.
func (wr *Writer) inform() error {
	if wr.try == nil {
		return nil
	}
	wr.mu.Lock()
	defer wr.mu.Unlock()
	if wr.try.state == dropped {
		return ErrDropped
	}
	wr.try.state = sent
	if wr.status.Load() == 0 {
		wr.publish()
	}
	return nil
}

// publish gives the wrapped writer the header of the try.
func (wr *Writer) publish() {
	outer := wr.w.Header()
	clear(outer)
	maps.Copy(outer, wr.try.header)
}
