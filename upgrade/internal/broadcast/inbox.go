package broadcast

import (
	"errors"
	"slices"

	"github.com/midair-go/midair/internal/guard"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// inbox has the received messages of a name, and the function that gets them. Hub.mu protects it.
type inbox struct {
	name    string
	fn      func([]byte) error // nil: no function is registered
	waiting queue[[]byte]
	calls   bool // a goroutine calls the function
	dropped int  // how many messages were dropped since the last report
	failing bool // the last call has failed
}

// Limits of the messages that wait for a function which is not registered yet.
const (
	mostUnknown  = 64        // how many names have such messages at most
	unheardMost  = 256       // how many messages of a name wait at most
	unheardBytes = 256 << 10 // how many bytes their data has at most
)

// Handle makes fn the function that gets the messages of a name; nil removes the function. Messages that have come before are
// passed to fn at once, as far as they are kept.
func (h *Hub) Handle(name string, fn func(data []byte) error) {
	if name == "" || len(name) > NameLimit {
		return // no message has such a name
	}
	h.mu.Lock()
	in := h.inboxes[name]
	if in == nil {
		in = &inbox{name: name}
		h.inboxes[name] = in
	}
	in.fn = fn
	dropped := 0
	if fn != nil {
		dropped, in.dropped = in.dropped, 0
	}
	h.call(in)
	h.mu.Unlock()
	if dropped > 0 {
		h.log.Warn("upgrade: broadcasts were dropped that came before OnBroadcast", "name", name, "dropped", dropped)
	}
}

// receive passes a message of another generation to its inbox, unless it has come before.
func (h *Hub) receive(c *contact, m wire.BroadcastBody) {
	if first := h.file(c, m); first {
		h.log.Warn("upgrade: broadcasts are dropped: the function of OnBroadcast is too slow", "name", m.Name)
	}
}

// file puts a message into its inbox. It reports whether a message was dropped, and this is the first of several.
func (h *Hub) file(c *contact, m wire.BroadcastBody) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || !c.greeted || !h.seen.mark(c.who.ID, m.Seq) {
		return false
	}
	in := h.inboxes[m.Name]
	if in == nil {
		if h.unknown() >= mostUnknown {
			return false
		}
		in = &inbox{name: m.Name}
		h.inboxes[m.Name] = in
	}
	most, bytes := queueMost, queueBytes
	if in.fn == nil {
		most, bytes = unheardMost, unheardBytes
	}
	before := in.dropped
	in.dropped += len(in.waiting.put(m.Data, len(m.Data), most, bytes))
	h.call(in)
	return in.fn != nil && before == 0 && in.dropped > 0
}

// unknown returns how many names have messages and no function.
func (h *Hub) unknown() (n int) {
	for _, in := range h.inboxes {
		if in.fn == nil {
			n++
		}
	}
	return n
}

// call starts a goroutine that calls the function of an inbox, if there is something to do and no such goroutine. The caller
// holds mu.
func (h *Hub) call(in *inbox) {
	if h.closed || in.calls || in.fn == nil || in.waiting.len() == 0 {
		return
	}
	in.calls = true
	h.calls.Go(func() { h.work(in) }) // ends when the inbox is empty
}

// work calls the function of an inbox for each message.
func (h *Hub) work(in *inbox) {
	returned := true
	defer func() {
		if !returned {
			h.report(in, errors.New("it has ended its goroutine"))
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		in.calls = false
		h.call(in)
	}()
	for fn, data := h.next(in); fn != nil; fn, data = h.next(in) {
		returned = false
		err := guard.Call(func() error { return fn(data) })
		returned = true
		h.report(in, err)
	}
}

// next takes the next message of an inbox. The function is nil if there is none. next logs how many messages were dropped when
// the inbox is empty.
func (h *Hub) next(in *inbox) (fn func([]byte) error, data []byte) {
	h.mu.Lock()
	if !h.closed && in.fn != nil {
		var ok bool
		if data, ok = in.waiting.take(); ok {
			fn = in.fn
		}
	}
	dropped := 0
	if fn == nil && in.fn != nil {
		dropped, in.dropped = in.dropped, 0
	}
	h.mu.Unlock()
	if dropped > 0 {
		h.log.Warn("upgrade: broadcasts were dropped: the function of OnBroadcast was too slow", "name", in.name, "dropped", dropped)
	}
	return fn, data
}

// report logs the error of a call, but only the first of several failures in a row.
func (h *Hub) report(in *inbox, err error) {
	h.mu.Lock()
	first := err != nil && !in.failing
	in.failing = err != nil
	h.mu.Unlock()
	if first {
		h.log.Error("upgrade: a function of OnBroadcast has failed", "name", in.name, "err", err)
	}
}

// running lists the names whose functions are being called.
func (h *Hub) running() (names []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, in := range h.inboxes {
		if in.calls {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
