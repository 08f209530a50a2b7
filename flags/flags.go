package flags

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/midair-go/midair/internal/logqueue"
	"github.com/open-feature/go-sdk/openfeature"
)

// Options of Open. The zero value works.
type Options struct {
	// Poll is how often the file is looked at. Default: 1 s.
	Poll time.Duration
	// Attributes are what the program itself knows about a request, by the name that rules use: "canary.side", say. A
	// function is called when a rule asks for its name, with the context of the evaluation, from any goroutine. An
	// empty answer means that there is no such attribute; any other outranks what callers say under that name.
	// Default: none.
	Attributes map[string]func(context.Context) string
	// Logger gets a line for each change of the values and one for each refusal of a file. Its handler is called in another
	// goroutine: nothing waits for a log. Default: slog.Default().
	Logger *slog.Logger
}

// withDefaults returns the options with their defaults, or an error that names the field that makes no sense.
func (o Options) withDefaults() (Options, error) {
	if o.Poll < 0 {
		return o, errors.New("flags: Options.Poll is negative: use 0 for the default")
	}
	for name, fn := range o.Attributes {
		if name == "" || fn == nil {
			return o, fmt.Errorf("flags: Options.Attributes[%q] needs a name and a function", name)
		}
		if name == keyAttribute || isOwn(name) {
			return o, fmt.Errorf("flags: Options.Attributes[%q]: the name is reserved", name)
		}
	}
	o.Attributes = maps.Clone(o.Attributes)
	o.Poll = cmp.Or(o.Poll, time.Second)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	o.Logger = logqueue.Wrap(o.Logger)
	return o, nil
}

// Flags are the flags of one file. They serve the last good content that the file had.
type Flags struct {
	path   string
	opts   Options
	cur    atomic.Pointer[snapshot] // what is served; nil as long as nothing good was seen
	errors atomic.Uint64            // evaluations that gave the default because of an error
	warned sync.Once                // the panic of a function of Middleware was logged

	mu        sync.Mutex // held while the content changes, never by an evaluation
	seen      os.FileInfo
	writing   bool   // the file changed while it was read the last time
	err       *Error // why the file is not what is served; nil if it is
	loads     uint64
	refusals  uint64
	slots     map[string]*slot
	providers map[*provider]struct{}

	api    api
	closed sync.Once
	stop   chan struct{}
	done   chan struct{}
}

// Open reads the flag file at path and follows it until Close. A file that is missing or broken is not an error but a
// state: callers get their defaults, Ready tells what is wrong, and the file is served as soon as it is good. The error
// is about options that make no sense.
func Open(path string, opts Options) (*Flags, error) {
	if path == "" {
		return nil, errors.New("flags: Open needs the path of a file")
	}
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	if abs, err := filepath.Abs(path); err == nil {
		path = abs // what the program does to its directory changes nothing
	}
	f := &Flags{
		path: path, opts: opts,
		slots: map[string]*slot{}, providers: map[*provider]struct{}{},
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	f.check()
	go f.follow()
	return f, nil
}

// follow looks at the file until Close.
func (f *Flags) follow() {
	defer close(f.done)
	tick := time.NewTicker(f.opts.Poll)
	defer tick.Stop()
	for {
		select {
		case <-f.stop:
			return
		case <-tick.C:
			f.check()
		}
	}
}

// Close stops following the file and waits until that has ended. Flags keep the values that they have. It may be called
// again and returns nil.
func (f *Flags) Close() error {
	f.closed.Do(func() {
		close(f.stop)
		<-f.done
		f.api.close()
		logqueue.Flush(f.opts.Logger)
	})
	return nil
}

// Ready returns nil if there are values to serve, be they the last good ones of a file that is broken now. Otherwise
// it looks at the file once more and returns an [*Error] that tells what to do.
func (f *Flags) Ready(ctx context.Context) error {
	if f.cur.Load() != nil {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("flags: %s: %w", f.path, err)
	}
	f.check()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		return nil
	}
	return f.err
}

// Status is what Flags can tell about themselves.
type Status struct {
	// Path is the file.
	Path string `json:"path"`
	// State is "ready"; "stale: …" with the reason why the file is not what is served; or "not ready: …".
	State string `json:"state"`
	// Flags is how many there are.
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
	// Error is what is wrong with the file now; empty if nothing is.
	Error string `json:"error,omitempty"`
	// EvaluationErrors counts the evaluations that gave the caller's default because something was wrong: no such
	// flag, another type, no values yet, a rule that chose what does not exist.
	EvaluationErrors uint64 `json:"evaluation_errors"`
}

// Status returns the present state.
func (f *Flags) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := Status{Path: f.path, State: "ready", Loads: f.loads, Refusals: f.refusals, EvaluationErrors: f.errors.Load()}
	if f.err != nil {
		s.Error = f.err.Error()
		s.State = "stale: " + f.err.Reason
	}
	cur := f.cur.Load()
	if cur == nil {
		s.State = "not ready: " + s.Error
		return s
	}
	s.Flags, s.Version, s.Source, s.Kept, s.Loaded = len(cur.flags), cur.version(), cur.from, cur.kept, cur.loaded
	return s
}

// With returns a context that says who flags are evaluated for: key is what percentages go by, a user's id for example,
// and attrs are what rules can ask for. It is the transaction context of OpenFeature, so every client sees it as well.
// What ctx said before stays where this says nothing.
func With(ctx context.Context, key string, attrs map[string]any) context.Context {
	return openfeature.MergeTransactionContext(ctx, openfeature.NewEvaluationContext(key, attrs))
}
