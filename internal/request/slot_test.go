package request_test

import (
	"context"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/request"
)

type ctxKey struct{}

// slotOf returns a Slot around a request, and the request that has the Slot as its context.
func slotOf(r *http.Request, wr *request.Writer) (*request.Slot, *http.Request) {
	s := &request.Slot{}
	return s, s.Init(r, wr)
}

func get() *http.Request { return httptest.NewRequest("GET", "/", nil) }

// A field has no value before it is set, is set once, and keeps the first value.
func TestAFieldIsSetOnce(t *testing.T) {
	s, r := slotOf(get(), nil)
	if s.Get(request.Side) != nil || request.Find(r.Context(), request.Side) != nil {
		t.Error("a field had a value before it was set")
	}
	if !s.Set(request.Side, "first") || s.Set(request.Side, "second") {
		t.Error("the first Set was refused, or the second was not")
	}
	if got := s.Get(request.Side); got != "first" {
		t.Errorf("the field is %v", got)
	}
	if s.Get(request.Flags) != nil || !s.Set(request.Flags, "flags") {
		t.Error("another field was set, too")
	}
}

// If many goroutines set a field at once, one of them succeeds, and everybody reads the value of that one or none.
func TestOneOfManyGoroutinesClaimsAField(t *testing.T) {
	for range 2000 {
		s, r := slotOf(get(), nil)
		var claims, winner atomic.Int64
		var all sync.WaitGroup
		var ready atomic.Int32
		seen := make([]any, 2)
		for i := range seen {
			all.Go(func() {
				ready.Add(1)
				for spins := 0; ready.Load() < int32(len(seen)); spins++ { // so that they go on at the same moment
					if spins > 1000 {
						runtime.Gosched()
					}
				}
				if s.Set(request.Visitor, int64(i)) {
					claims.Add(1)
					winner.Store(int64(i))
				}
				seen[i] = request.Find(r.Context(), request.Visitor)
			})
		}
		all.Wait()
		if claims.Load() != 1 || s.Get(request.Visitor) != winner.Load() {
			t.Fatalf("%d goroutines set the field, to %v", claims.Load(), s.Get(request.Visitor))
		}
		for _, v := range seen {
			if v != nil && v != winner.Load() {
				t.Fatalf("a goroutine read %v, the field is %d", v, winner.Load())
			}
		}
	}
}

// The Slot is found from every context that was derived from the one of its request, and from no other context.
func TestASlotIsFoundFromDerivedContexts(t *testing.T) {
	s, r := slotOf(get(), nil)
	ctx, cancel := context.WithTimeout(context.WithValue(r.Context(), ctxKey{}, "v"), time.Hour)
	defer cancel()
	for name, ctx := range map[string]context.Context{
		"own": r.Context(), "derived": ctx, "without cancel": context.WithoutCancel(ctx),
		"of a clone": r.Clone(ctx).Context(), "of WithContext": r.WithContext(ctx).Context(),
	} {
		if request.From(ctx) != s {
			t.Errorf("the Slot was not found from the context %s", name)
		}
	}
	if request.From(context.Background()) != nil || request.Find(context.Background(), request.Side) != nil {
		t.Error("a Slot was found where none is")
	}
}

// A Slot is the context of its request in everything else: values, deadline, and end with its cause.
func TestASlotIsTheContextOfTheRequest(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.WithValue(context.Background(), ctxKey{}, "v"))
	ctx, stop := context.WithTimeout(ctx, time.Hour)
	defer stop()
	_, r := slotOf(get().WithContext(ctx), nil)
	want, _ := ctx.Deadline()
	if got, ok := r.Context().Deadline(); !ok || got != want || r.Context().Value(ctxKey{}) != "v" {
		t.Errorf("deadline %v, value %v", got, r.Context().Value(ctxKey{}))
	}
	derived, end := context.WithCancel(r.Context())
	defer end()
	if r.Context().Err() != nil || derived.Err() != nil {
		t.Fatal("ended before the request")
	}
	cancel(context.Canceled)
	<-derived.Done()
	<-r.Context().Done()
	if r.Context().Err() == nil || context.Cause(derived) != context.Canceled {
		t.Error("not ended with the request")
	}
}

// Slots are chained: Find takes the innermost value of a field, and Outer leads outwards.
func TestSlotsAreChained(t *testing.T) {
	outer, r1 := slotOf(get(), nil)
	inner, r2 := slotOf(r1.WithContext(context.WithValue(r1.Context(), ctxKey{}, 1)), nil)
	outer.Set(request.Session, "outer session")
	outer.Set(request.Side, "outer side")
	inner.Set(request.Side, "inner side")
	if request.From(r2.Context()) != inner || inner.Outer() != outer || outer.Outer() != nil {
		t.Fatal("the chain is not inner, outer")
	}
	for ctx, want := range map[context.Context][2]any{
		r2.Context(): {"outer session", "inner side"}, r1.Context(): {"outer session", "outer side"},
	} {
		if got := [2]any{request.Find(ctx, request.Session), request.Find(ctx, request.Side)}; got != want {
			t.Errorf("found %v, want %v", got, want)
		}
	}
}

// A note about a cookie in any Slot of the chain counts, also in the Slot of a first attempt.
func TestNotesOfTheChainAreCounted(t *testing.T) {
	outer, r1 := slotOf(get(), nil)
	inner, r2 := slotOf(r1, nil)
	outer.NoteCookie()
	inner.NoteCookie()
	inner.NoteCookie()
	if a, b := request.CookieNotes(r1.Context()), request.CookieNotes(r2.Context()); a != 1 || b != 3 {
		t.Errorf("%d notes outside and %d inside, want 1 and 3", a, b)
	}
	_, second := inner.Again(inner.Mark(), r1, nil)
	before := request.CookieNotes(second.Context())
	inner.NoteCookie() // a visit that both attempts have notes in its own Slot
	if n := request.CookieNotes(second.Context()) - before; n != 1 {
		t.Errorf("%d notes in the second attempt, want 1", n)
	}
}

// A second attempt has the fields that were set before the first one, and can set the others anew; neither sees what the other
// sets.
func TestASecondAttemptBeginsWhereTheFirstBegan(t *testing.T) {
	outer, r := slotOf(get(), nil)
	first, r1 := slotOf(r, nil)
	first.Set(request.Session, "session")
	mark := first.Mark()
	first.Set(request.Side, "canary")
	second, r2 := first.Again(mark, r, nil)
	if request.From(r2.Context()) != second || second.Outer() != outer {
		t.Fatal("the second attempt has not taken the place of the first")
	}
	if second.Get(request.Session) != "session" || request.Find(r2.Context(), request.Side) != nil {
		t.Errorf("session %v, side %v", second.Get(request.Session), request.Find(r2.Context(), request.Side))
	}
	if !second.Set(request.Side, "stable") || !second.Set(request.Flags, "flags") || second.Set(request.Session, "other") {
		t.Error("the free fields of the second attempt are not those that the first one had when it began")
	}
	if first.Get(request.Side) != "canary" || request.Find(r1.Context(), request.Flags) != nil {
		t.Error("the first attempt sees what the second one has set")
	}
	if third, _ := first.Again(mark, r1, nil); third.Get(request.Side) != nil || third.Outer() != outer {
		t.Error("an attempt that is made from the request of the first one sees its fields")
	}
}

// A goroutine that the first attempt has left behind uses its own Slot while the second attempt runs.
func TestAnAbandonedAttemptKeepsItsOwnSlot(t *testing.T) {
	r := get()
	first, r1 := slotOf(r, nil)
	first.Set(request.Session, "session")
	mark := first.Mark()
	begun, end := make(chan struct{}), make(chan struct{})
	var left sync.WaitGroup
	left.Go(func() {
		for i := 0; ; i++ {
			first.Set(request.Side, "first")
			first.Set(request.Flags, "first")
			first.NoteCookie()
			for _, k := range []request.Key{request.Side, request.Flags} {
				if v := request.Find(r1.Context(), k); v != "first" {
					t.Errorf("the first attempt reads %v", v)
				}
			}
			if i == 0 {
				close(begun)
			}
			select {
			case <-end:
				return
			default:
			}
		}
	})
	<-begun
	for range 100 {
		second, r2 := first.Again(mark, r, nil)
		second.Set(request.Side, "second")
		if request.Find(r2.Context(), request.Side) != "second" || request.Find(r2.Context(), request.Flags) != nil {
			t.Error("the second attempt reads what the first one has set")
		}
		if request.Find(r2.Context(), request.Session) != "session" {
			t.Error("the second attempt has no session")
		}
	}
	close(end)
	left.Wait()
}

// A Slot is shared by a middleware with the same Writer only: another writer is that of another attempt to answer.
func TestASlotIsSharedWithItsWriterOnly(t *testing.T) {
	wr, other := &request.Writer{}, &request.Writer{}
	w, foreign := wr.Wrap(httptest.NewRecorder()), other.Wrap(httptest.NewRecorder())
	s, r := slotOf(get(), wr)
	_, alone := slotOf(get(), nil)
	_, inner := slotOf(r, other)
	for name, test := range map[string]struct {
		w     http.ResponseWriter
		r     *http.Request
		share bool
	}{
		"same":              {w, r, true},
		"clone":             {w, r.Clone(context.WithValue(r.Context(), ctxKey{}, 1)), true},
		"recorder":          {httptest.NewRecorder(), r.Clone(r.Context()), false},
		"other Writer":      {foreign, r, false},
		"wrapped":           {struct{ http.ResponseWriter }{w}, r, false},
		"no Slot":           {w, get(), false},
		"Slot without":      {w, alone, false},
		"neither":           {httptest.NewRecorder(), alone, false},
		"Slot further in":   {w, inner, false},
		"dropped a context": {w, r.WithContext(context.Background()), false},
	} {
		gotS, gotW := request.Shared(test.w, test.r)
		if shared := gotS != nil; shared != test.share || shared && (gotS != s || gotW != wr) || !shared && gotW != nil {
			t.Errorf("%s: shared %v", name, shared)
		}
	}
}

// The server, and handlers further out, find in their request what a handler further in has left for them.
func TestTheRequestGetsBackWhatIsForTheServer(t *testing.T) {
	r := get()
	r.Pattern = "outer"
	s, inner := slotOf(r, nil)
	s.Finish(r)
	if r.Pattern != "outer" || r.MultipartForm != nil {
		t.Errorf("pattern %q, form %v", r.Pattern, r.MultipartForm)
	}
	inner.Pattern, inner.MultipartForm = "inner", &multipart.Form{}
	s.Finish(r)
	if r.Pattern != "inner" || r.MultipartForm != inner.MultipartForm {
		t.Errorf("pattern %q, form %v", r.Pattern, r.MultipartForm)
	}
}

// A Slot costs one allocation, with the request in it and its fields.
func TestASlotIsOneAllocation(t *testing.T) {
	r, visit := get(), new(int)
	if n := testing.AllocsPerRun(100, func() {
		s := &request.Slot{}
		in := s.Init(r, nil)
		s.Set(request.Session, visit)
		s.Set(request.Side, uint8(1))
		if request.Find(in.Context(), request.Side) != uint8(1) {
			t.Error("no side")
		}
	}); n != 1 {
		t.Errorf("%v allocations", n)
	}
}
