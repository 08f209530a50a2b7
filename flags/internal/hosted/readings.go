package hosted

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"reflect"
	"sync"
	"time"

	"github.com/midair-go/midair/flags/internal/flagd"
	"github.com/open-feature/go-sdk/openfeature"
)

// firstLimit is how long a new weight or Var waits for its first value.
const firstLimit = time.Second

// A Value is what a provider says for everybody.
type Value struct {
	Variant  *flagd.Variant
	Metadata map[string]any
}

// Readings are the values of weights and Vars, which are read from time to time, and not when a caller wants them.
type readings struct {
	questioner questioner
	kept       *memory
	log        *slog.Logger

	mu     sync.Mutex
	kinds  map[string]reflect.Kind  // what is asked for, by key
	firsts map[string]chan struct{} // closed when the first reading of a key has ended
	found  map[string]reflect.Kind  // what the flag is, if that is something else
	values map[string]*Value        // what the provider said last; nil if it has no such flag; the map never changes
	errs   map[string]string        // the error of the last reading
	fresh  bool                     // values has what the owner does not know of
	begun  sync.WaitGroup           // first readings
}

func newReadings(client *openfeature.Client, kept *memory, log *slog.Logger) *readings {
	return &readings{
		questioner: questioner{client: client}, kept: kept, log: log, kinds: map[string]reflect.Kind{}, firsts: map[string]chan struct{}{},
		found: map[string]reflect.Kind{}, values: map[string]*Value{}, errs: map[string]string{},
	}
}

// idle returns a channel that is closed when no first reading is under way.
func (r *readings) idle() <-chan struct{} {
	done := make(chan struct{})
	go func() { r.begun.Wait(); close(done) }()
	return done
}

// Read adds the key of a weight or a Var to what is read again and again. Read waits for the first value, because the caller will
// use the value at once: for at most 1 second. A provider that has not started, or is closed, is not asked.
func (h *Provider) Read(key string, kind reflect.Kind) {
	first := h.readings.first(key, kind, !h.closed.Load() && h.started(), func() {
		h.readings.take(h.ctx, []reading{h.readings.reread(h.ctx, key, kind)})
		h.wake()
	})
	if first == nil {
		return
	}
	limit := time.NewTimer(firstLimit)
	defer limit.Stop()
	select {
	case <-first:
	case <-limit.C:
	case <-h.ctx.Done():
	}
}

// first adds a key, and starts the first reading of a new key if the provider can be asked. It returns a channel that is closed when
// the first reading has ended, or nil if there is none.
func (r *readings) first(key string, kind reflect.Kind, possible bool, read func()) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.kinds[key]; known {
		return r.firsts[key]
	}
	r.kinds[key] = kind
	if !possible {
		return nil
	}
	done := make(chan struct{})
	r.firsts[key] = done
	r.begun.Add(1)
	go func() {
		defer r.begun.Done()
		defer close(done)
		read()
	}()
	return done
}

// refresh reads all values, and then replaces all at once. It reports whether there are values that the owner does not know of.
func (r *readings) refresh(ctx context.Context) (fresh bool) {
	r.mu.Lock()
	kinds := maps.Clone(r.kinds)
	r.mu.Unlock()
	all := make([]reading, 0, len(kinds))
	for key, kind := range kinds {
		all = append(all, r.reread(ctx, key, kind))
	}
	r.take(ctx, all)
	r.mu.Lock()
	defer r.mu.Unlock()
	fresh, r.fresh = r.fresh, false
	return fresh
}

// A reading is the outcome of one reading of a key.
type reading struct {
	key         string
	kind, found reflect.Kind // what is asked for, and what the flag is
	value       *Value
	err         error
}

// reread reads one value.
func (r *readings) reread(ctx context.Context, key string, kind reflect.Kind) reading {
	r.mu.Lock()
	first, ok := r.found[key]
	r.mu.Unlock()
	if !ok {
		first = kind
	}
	now := reading{key: key, kind: kind}
	now.value, now.found, now.err = r.questioner.read(ctx, key, first, kind)
	return now
}

// take replaces the values by those of readings, all at once. Where a reading has failed, the last value stays. The end of the
// context has made readings fail, so nothing is taken after it.
func (r *readings) take(ctx context.Context, all []reading) {
	if ctx.Err() != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	values := maps.Clone(r.values)
	for _, now := range all {
		if r.failed(now) {
			continue
		}
		if old, known := values[now.key]; !known || !old.same(now.value) {
			values[now.key], r.fresh = now.value, true
		}
		if place := (slot{now.key, everybody}); now.value == nil {
			r.kept.note(place, nil, false)
		} else {
			r.kept.note(place, string(now.value.Variant.JSON()), true)
		}
	}
	r.values = values
}

// failed remembers the error and the type of a flag, and reports whether the reading has failed. The lock is held.
func (r *readings) failed(now reading) bool {
	if now.err != nil {
		if r.errs[now.key] != now.err.Error() {
			r.log.Warn("flags: a value is not read from the provider, the last one stays", slog.String("key", now.key),
				slog.Any("err", now.err))
		}
		r.errs[now.key] = now.err.Error()
		return true
	}
	delete(r.errs, now.key)
	if r.found[now.key] = now.found; now.kind == reflect.Float64 && now.found == reflect.Int64 {
		delete(r.found, now.key) // a provider may cut off the fraction of the next number, if asked for a whole one
	}
	return false
}

// inherit takes the values that another process has kept, for keys without a value.
func (r *readings) inherit(kept map[string]any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	values := maps.Clone(r.values)
	for key := range kept {
		text, ok := r.kept.get(slot{key, everybody}).(string)
		if _, known := values[key]; ok && !known {
			values[key] = &Value{Variant: flagd.Literal(text)}
		}
	}
	r.values = values
}

// Values returns the values of weights and Vars, of one moment. A key whose flag does not exist may have nil. The map never changes.
func (h *Provider) Values() map[string]*Value {
	h.readings.mu.Lock()
	defer h.readings.mu.Unlock()
	return h.readings.values
}

func (v *Value) same(other *Value) bool {
	if v == nil || other == nil {
		return v == other
	}
	return v.Variant.Kind == other.Variant.Kind && string(v.Variant.JSON()) == string(other.Variant.JSON())
}

func newValue(x any, d openfeature.EvaluationDetails) (*Value, error) {
	if n, ok := x.(float64); ok && (math.IsNaN(n) || math.IsInf(n, 0)) {
		x = fmt.Sprint(n) // JSON has no such number, and weights and Vars refuse the text
	}
	variant, err := flagd.Encode(d.Variant, x)
	if err != nil {
		return nil, err
	}
	return &Value{Variant: variant, Metadata: d.FlagMetadata}, nil
}
