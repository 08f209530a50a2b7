package flags

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/midair-go/midair/flags/internal/flagd"
	"github.com/midair-go/midair/internal/killswitch"
)

// Override is an override in Status.
type Override struct {
	// Key is that of the flag.
	Key string `json:"key"`
	// Variant is what everybody gets.
	Variant string `json:"variant"`
	// Until is when the override ends; zero: never.
	Until time.Time `json:"until,omitzero"`
	// Reason is what the operator has given.
	Reason string `json:"reason,omitempty"`
	// At is when the override was made.
	At time.Time `json:"at"`
	// Host and PID are where it was made.
	Host string `json:"host,omitempty"`
	PID  int    `json:"pid,omitempty"`
}

// Overrides are those of this process, of the file and of other processes.
type overrides struct {
	killswitch.Entries
	current *current
	accept  func(now *view, e *entry) error // why a Var refuses an entry
	changed chan struct{}                   // has an element when an override has changed: the timer for its end has to be set
}

// start takes over the overrides in the file. rebuild serves what the overrides say now.
func (o *overrides) start(opts Options, rebuild func()) {
	inner := killswitch.Options{Package: "flags", Name: opts.Name, File: opts.OverrideFile, Logger: opts.Logger}
	inner.OnChange = func() {
		rebuild()
		select {
		case o.changed <- struct{}{}:
		default: // the goroutine will look
		}
	}
	if opts.Broadcast != nil {
		inner.Broadcast = func(data []byte) error { return opts.Broadcast(opts.Name, data) }
	}
	o.Start(inner)
}

// setTimer sets the timer for the next end of an override.
func (o *overrides) setTimer(end *time.Timer) {
	if next, ok := o.Next(time.Now()); ok {
		end.Reset(time.Until(next))
		return
	}
	end.Stop()
}

// override checks and makes an override.
func (o *overrides) override(key, variant string, until time.Time, reason string) error {
	if err := o.mistake(key, variant, until); err != "" {
		return refusal("flags: Override of " + strconv.Quote(key) + ": " + err)
	}
	return o.Set(key, killswitch.Entry{Value: variant, Until: until, Reason: reason})
}

// mistake returns why an override cannot be made, or "".
func (o *overrides) mistake(key, variant string, until time.Time) string {
	switch {
	case key == "":
		return "it needs the key of a flag"
	case !until.IsZero() && !until.After(time.Now()):
		return "its end " + until.Format(time.RFC3339) + " is over: give a later time, or the zero time for no end"
	}
	now := o.current.now.Load()
	if now == nil {
		return errNotReady.Error()
	}
	e, why := o.entry(now, key, killswitch.Entry{Value: variant, Until: until})
	if why == "" {
		if err := o.accept(now, e); err != nil {
			return err.Error()
		}
	}
	return why
}

// ErrRefused is the error of an Override that would make no sense. Nothing has changed.
var ErrRefused = errors.New("flags: the override is refused")

// A refusal is an ErrRefused with the reason.
type refusal string

func (r refusal) Error() string { return string(r) }

func (r refusal) Is(target error) bool { return target == ErrRefused }

// inForce returns the overrides that are in force.
func (o *overrides) inForce() map[string]Override {
	all := map[string]Override{}
	for key, e := range o.InForce(time.Now()) {
		all[key] = Override{Key: key, Variant: e.Value, Until: e.Until, Reason: e.Reason, At: e.At, Host: e.Host, PID: e.PID}
	}
	return all
}

// apply puts the overrides over the flags of a view.
func (o *overrides) apply(before, next *view, at time.Time) {
	all := o.InForce(at)
	next.entries = next.base
	if len(all) == 0 {
		return
	}
	next.entries = maps.Clone(next.base)
	for key, in := range all {
		e, why := o.entry(next, key, in)
		if why != "" {
			told := &entry{key: key}
			if was := next.base[key]; was != nil {
				told = was
			}
			next.warn(told, "its override has no effect: "+why)
			continue
		}
		if old := before.entries[key]; old != nil && old.same(e) {
			e = old
		}
		next.entries[key] = e
	}
}

// entry returns the entry of a flag with an override, or why there is none. The variant is one of what the file says, also if a Var
// refuses the flag as it is there, or of what is served.
func (o *overrides) entry(v *view, key string, in killswitch.Entry) (e *entry, why string) {
	e = &entry{key: key}
	why = "there is no such flag"
	for _, was := range []*entry{v.sources[key], v.base[key]} {
		switch {
		case was == nil:
		case was.flag == nil:
			why = "the flag is refused: " + was.fault.Error()
		default:
			e.path, e.flag, e.forced, e.tally = was.path, was.flag, was.flag.Variant(in.Value), was.tally
			why = fmt.Sprintf("the flag has no variant %q, but %q", in.Value, was.flag.Names())
		}
		if e.forced != nil {
			break
		}
	}
	if e.flag == nil && o.current.provider != nil {
		e.forced = flagd.Literal(in.Value)
	}
	if e.forced == nil {
		return nil, why
	}
	if e.tally == nil {
		e.tally = newTally(e.flag, nil)
	}
	e.metadata = overrideMetadata(e.flag, in)
	return e, ""
}

// overrideMetadata adds the override to the metadata of its flag.
func overrideMetadata(fl *flagd.Flag, o killswitch.Entry) map[string]any {
	m := map[string]any{}
	if fl != nil {
		m = maps.Clone(fl.Metadata)
		if m == nil {
			m = map[string]any{}
		}
	}
	m["override.reason"] = o.Reason
	m["override.at"] = o.At.UTC().Format(time.RFC3339)
	m["override.by"] = fmt.Sprintf("%s/%d", o.Host, o.PID)
	if !o.Until.IsZero() {
		m["override.until"] = o.Until.UTC().Format(time.RFC3339)
	}
	return m
}

// problem returns why the file or the other processes do not have the overrides.
func (o *overrides) problem() string {
	st := o.Status()
	return strings.Join(slices.DeleteFunc([]string{st.FileError, st.BroadcastError}, func(s string) bool { return s == "" }), "; ")
}
