package flags

import (
	"context"
	"encoding"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/midair-go/midair/internal/logqueue"
)

// Flags are the flags of some files, or of a provider. They serve the last good content of the files.
type Flags struct {
	*store
	api api
}

var (
	_ encoding.BinaryMarshaler   = (*Flags)(nil)
	_ encoding.BinaryUnmarshaler = (*Flags)(nil)
)

// Open reads the flag file at path and follows it until Close. A file that is missing or broken is not an error but a
// state: callers get their defaults, Ready tells what is wrong, and the file is served as soon as it is good. The error
// is about options that make no sense. With Options.Defaults the path may be empty: then there is no such file.
func Open(path string, opts Options) (*Flags, error) {
	if path == "" && opts.Defaults == nil {
		return nil, errors.New("flags: Open needs the path of a file, or Options.Defaults")
	}
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	paths := opts.Overlays
	if path != "" {
		paths = slices.Concat([]string{absolute(path)}, paths)
	}
	s, err := newStore(opts, paths...)
	if err != nil {
		return nil, err
	}
	return start(s), nil
}

// start reads the files and follows them.
func start(s *store) *Flags {
	s.check(false)
	go s.follow()
	return &Flags{store: s}
}

// Close stops following the files, and waits until that has ended and OnChange of a Var has returned. Flags keep the values that
// they have. Close may be called again. It returns an error only if the provider of FromProvider does not shut down.
func (f *Flags) Close() error {
	f.store.close()
	f.api.close()
	err := f.provider.Close()
	logqueue.Flush(f.log)
	return err
}

// Ready returns nil if there are values to serve, be they the last good ones of a file that is broken now. Otherwise it looks at
// the files once more, and waits for the provider of FromProvider until ctx ends. The error is an [*Error] that tells what to do.
func (f *Flags) Ready(ctx context.Context) error {
	if f.ready() {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("flags: %w", err)
	}
	f.check(false)
	if f.provider != nil {
		f.provider.Wait(ctx)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ready() {
		return nil
	}
	if problem := f.problem(); problem != nil {
		return problem
	}
	return fmt.Errorf("flags: %w", errNotReady)
}

// Reload reads all files at once, whatever their times and sizes say. It returns what is wrong with a file, or with the first flag
// that is refused, be it by a Var.
func (f *Flags) Reload() error {
	f.check(true)
	f.mu.Lock()
	defer f.mu.Unlock()
	if problem := f.unserved(); problem != nil {
		return problem
	}
	return nil
}

// unserved returns why a file, the provider or a flag is not served as the sources have it, or nil: problem, and then the values that
// a Var refuses. The lock is held.
func (f *Flags) unserved() *Error {
	now := f.now.Load()
	if problem := f.problem(); problem != nil || now == nil || len(now.refused) == 0 {
		return problem
	}
	return now.refusal(f.vars.list)
}

// Override gives everybody a variant of a flag until a time, or without an end if until is zero. It outranks all sources, also the
// targeting and the state of the flag: it is the kill switch of an operator. Evaluations have the reason OVERRIDE, and metadata
// that begins with "override." and says why, by whom and until when. Requests that have begun keep their values.
//
// An override is in force in this process at once. Then it is broadcast to the other processes, and then written to
// Options.OverrideFile. If one of the last two fails, the error says so, and the next change tries again; the override is in
// force in this process all the same. For a flag, a variant or a time that makes no sense, errors.Is reports ErrRefused, and nothing
// has changed. A flag that only a provider has gets the value that variant is in JSON, or the text itself; for a caller who asks for
// a boolean, the texts "on" and "off" are true and false.
func (f *Flags) Override(key, variant string, until time.Time, reason string) error {
	return f.overrides.override(key, variant, until, reason)
}

// Restore ends the override of a flag, in all processes, as far as this process knows of it: an override that is made elsewhere at
// the same time stays. It returns errors as Override does.
func (f *Flags) Restore(key, reason string) error { return f.overrides.Clear(key, reason) }

// Status is what Flags can tell about themselves.
type Status struct {
	// Path is the file of Open; empty for a provider.
	Path string `json:"path"`
	// State is "ready"; "stale: …" with the reason why a file, a flag or the provider is not
	// what is served, also because a Var refuses a value; or "not ready: …". With several files, State does not name the file, but
	// Error does.
	State string `json:"state"`
	// Flags is how many there are in files.
	Flags int `json:"flags"`
	// Version is the beginning of the SHA-256 sum of the content that is served; empty if there is none.
	Version string `json:"version,omitempty"`
	// Source is the file that the content was read from. Kept tells that an older generation read it.
	Source string `json:"source,omitempty"`
	Kept   bool   `json:"kept,omitempty"`
	// Loaded is when it was read.
	Loaded time.Time `json:"loaded,omitzero"`
	// Loads and Refusals count the contents that were taken and not taken.
	Loads    uint64 `json:"loads"`
	Refusals uint64 `json:"refusals"`
	// Error is what is wrong with a file, a flag or the provider now; empty if nothing is.
	Error string `json:"error,omitempty"`
	// Warnings are flags that are refused while an earlier definition or nothing is served, and remarks for the author of the
	// files.
	Warnings []Warning `json:"warnings,omitempty"`
	// Overrides are those in force, by key.
	Overrides map[string]Override `json:"overrides,omitempty"`
	// OverrideError is why Options.OverrideFile or the other processes do not have them; empty if nothing is wrong.
	OverrideError string `json:"override_error,omitempty"`
	// Evaluations count the answers by flag and variant; the caller's default has the variant "". At most 1,000 flags are
	// listed. All others count together, under the key "". Evaluations by a provider are not counted.
	Evaluations map[string]map[string]uint64 `json:"evaluations,omitempty"`
	// EvaluationErrors counts the evaluations that gave the caller's default because something was wrong: no such
	// flag, another type, no values yet, a rule that chose what does not exist.
	EvaluationErrors uint64 `json:"evaluation_errors"`
}

// Status returns the present state.
func (f *Flags) Status() Status {
	s := Status{Overrides: f.overrides.inForce(), OverrideError: f.overrides.problem(), EvaluationErrors: f.errors.Load()}
	f.mu.Lock()
	defer f.mu.Unlock()
	s.Loads, s.Refusals, s.Warnings = f.sources.loads, f.sources.refusals, f.allWarnings()
	now := f.now.Load()
	s.State, s.Error = "ready", ""
	if problem := f.unserved(); problem != nil {
		s.Error, s.State = problem.Error(), "stale: "+problem.text()
	}
	if main := f.sources.main(); main != nil {
		s.Path = main.path
		s.Source, s.Kept, s.Loaded = main.from, main.kept, main.loaded
	}
	if !f.ready() {
		s.State = "not ready: " + s.Error
		return s
	}
	s.Flags, s.Version, s.Evaluations = len(now.entries), now.version, now.evaluations()
	return s
}

// MarshalBinary returns the last good content of the files, the overrides, and the static values of a provider, for upgrade's
// Keep. The files are looked at first: the new process will, and both should go by the same while they serve side by side.
func (f *Flags) MarshalBinary() ([]byte, error) { return f.keep(), nil }

// UnmarshalBinary takes what MarshalBinary of another generation returned, and what another process has broadcast. Of the contents,
// the files are looked at first, and a good file is served; otherwise the content that was read later is, the own one or the
// other's. The same holds for each flag that is refused. It may be called at any time. The error is that the data is damaged, or
// that it is needed and not understood.
func (f *Flags) UnmarshalBinary(data []byte) error {
	if killswitchData(data) {
		return f.overrides.Merge(data)
	}
	return f.restore(data)
}
