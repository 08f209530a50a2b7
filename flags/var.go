package flags

import (
	"context"
	"encoding"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync/atomic"
	"time"
)

// VarOptions of NewVar and Bind. The zero value works.
type VarOptions[T any] struct {
	// Decode makes the value from the JSON of a variant. Bind does not use it. Default: encoding/json, and for a time.Duration
	// also texts such as "5s".
	Decode func(data []byte) (T, error)
	// Validate returns why a value cannot be used. Default: every value can be used.
	//
	// Decode and Validate may be called at any time, from any goroutine. They may evaluate flags, but must not call other methods of
	// the Flags, nor NewVar and Bind: these methods wait until Decode and Validate have returned. After 10 seconds of waiting, the
	// log says so. A panic counts as an error.
	Validate func(T) error
	// OnChange is called after the value has changed, with the value of the last call, or the first value, and the new value. The
	// calls for all Vars of a Flags come one after the other, in a goroutine for them. Values that follow each other quickly
	// may come as one change, or as none if the last value is the first value again. OnChange may call all methods of the Flags but
	// Close, because Close waits for a call. Default: none.
	OnChange func(old, new T)
	// Secret keeps the value out of the log and of Status. So it also keeps out the texts of errors of Decode and Validate, and of
	// panics, because such a text may have the value in it.
	Secret bool
}

// A Var is a typed value that follows a flag: configuration for a running process. NewVar and Bind make a Var.
type Var[T any] struct {
	s      *store
	index  int
	keys   []string
	def    *T
	opts   VarOptions[T]
	fields []field // of Bind
	told   atomic.Pointer[T]
}

// NewVar returns a Var for the flag with the key. The value is def while there is no such flag, and while the flag is
// disabled or has no default variant. A flag whose value cannot be decoded or is not valid, and a flag with targeting, is
// refused: what the flag was before stays, for handles too, also over an upgrade. Each change is logged with the old and the new
// value.
func NewVar[T any](f *Flags, key string, def T, opts VarOptions[T]) *Var[T] {
	if opts.Decode == nil {
		opts.Decode = decodeJSON[T]
	}
	v := &Var[T]{s: f.store, keys: []string{key}, def: &def, opts: opts}
	v.register()
	return v
}

// register adds the Var to the store. With a provider it waits for the first values.
func (v *Var[T]) register() {
	for i, key := range v.keys {
		v.s.read(key, v.kind(i))
	}
	if v.opts.OnChange != nil {
		v.s.notifier.start(v.s.notify)
	}
	v.s.add(v)
}

func (v *Var[T]) place(index int) { v.index = index }

// begin notes the first value: OnChange is for the values after it.
func (v *Var[T]) begin(now *view) { v.told.Store(v.load(now)) }

// kind is the type for which a provider is asked.
func (v *Var[T]) kind(i int) reflect.Kind {
	t := reflect.TypeFor[T]()
	if v.fields != nil {
		t = t.FieldByIndex(v.fields[i].index).Type
	}
	switch k := t.Kind(); {
	case t == reflect.TypeFor[time.Duration](), reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		return reflect.String
	case k >= reflect.Int && k <= reflect.Uint64:
		return reflect.Int64
	case k == reflect.Float32 || k == reflect.Float64:
		return reflect.Float64
	case k == reflect.Bool || k == reflect.String:
		return k
	}
	return reflect.Map
}

// Get returns the present value: an atomic load.
func (v *Var[T]) Get() T { return *v.load(v.s.now.Load()) }

// In returns the value for ctx: in a request behind Middleware, and in a context of With, the value stays the same.
func (v *Var[T]) In(ctx context.Context) T {
	now, _ := v.s.at(ctx)
	if now == nil || v.index < len(now.values) {
		return *v.load(now)
	}
	if value, err := v.decode(v.s.lookup(now.entries)); err == nil { // the Var is younger than the pin of ctx
		return *value.(*T)
	}
	return *v.def
}

func (v *Var[T]) load(from *view) *T {
	if from == nil || v.index >= len(from.values) {
		return v.def
	}
	return from.values[v.index].(*T)
}

func (v *Var[T]) parts() []string { return v.keys }

// decode returns the value of the flags, as a *T. The error is a *badValue.
func (v *Var[T]) decode(get func(key string) *entry) (any, error) {
	value := *v.def
	if bad := v.fill(&value, get); bad != nil {
		return nil, bad
	}
	if v.opts.Validate == nil {
		return &value, nil
	}
	if err := protect(func() error { return v.opts.Validate(value) }); err != nil {
		return nil, &badValue{key: v.keys[0], value: fmt.Sprintf("%+v", value), err: err, secret: v.secret()}
	}
	return &value, nil
}

// fill decodes the flags into a value.
func (v *Var[T]) fill(value *T, get func(key string) *entry) *badValue {
	if v.fields != nil {
		return v.decodeFields(value, get)
	}
	data, bad := plainValue(v.keys[0], get)
	if data == nil {
		return bad
	}
	err := protect(func() (err error) {
		*value, err = v.opts.Decode(data)
		return err
	})
	if err != nil {
		return &badValue{key: v.keys[0], value: string(data), err: err, secret: v.opts.Secret}
	}
	return nil
}

// secret reports whether the value, or a part of it, is secret.
func (v *Var[T]) secret() bool {
	return v.opts.Secret || slices.ContainsFunc(v.fields, func(f field) bool { return f.secret })
}

// keep returns the value for a new view: the same pointer as before, if the value is nil or equal.
func (v *Var[T]) keep(before []any, value any) any {
	old := v.def
	if v.index < len(before) {
		old = before[v.index].(*T)
	}
	if value == nil || reflect.DeepEqual(value, old) {
		return old
	}
	return value
}

// changed logs the difference between two views, and wakes the goroutine for OnChange.
func (v *Var[T]) changed(before, after *view) {
	old, value := v.load(before), v.load(after)
	if old == value || before != nil && v.index >= len(before.values) { // the second: the Var has just been made
		return
	}
	if v.fields != nil {
		v.logFields(old, value)
	} else {
		v.s.logValue(v.keys[0], shown(*old, v.opts.Secret), shown(*value, v.opts.Secret))
	}
	v.s.notifier.wake()
}

// notify calls OnChange, if the value has changed since the last call.
func (v *Var[T]) notify() {
	value := v.load(v.s.now.Load())
	old := v.told.Swap(value)
	if v.opts.OnChange == nil || old == value || reflect.DeepEqual(old, value) {
		return
	}
	err := protect(func() error { v.opts.OnChange(*old, *value); return nil })
	if err != nil {
		v.s.log.Error("flags: OnChange has panicked", slog.String("key", v.keys[0]), slog.String("panic", shown(err, v.secret())))
	}
}

func decodeJSON[T any](data []byte) (value T, err error) {
	err = decodeInto(data, &value)
	return value, err
}

// decodeInto is json.Unmarshal with texts for durations.
func decodeInto(data []byte, target any) error {
	if d, ok := target.(*time.Duration); ok && len(data) > 0 && data[0] == '"' {
		var text string
		if err := json.Unmarshal(data, &text); err != nil {
			return err
		}
		var err error
		*d, err = time.ParseDuration(text)
		return err
	}
	return json.Unmarshal(data, target)
}
