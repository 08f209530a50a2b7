package subprocess

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/midair-go/midair/internal/process"
)

// A Handler passes requests on to a process, and starts another process when the process has ended. A Handler has to be made by
// Start.
type Handler struct {
	opts    Options
	now     atomic.Pointer[instance] // nil while there is no process that can get requests
	backoff process.Backoff
	parts   sync.WaitGroup // the goroutines of the Handler
	closed  context.Context
	close   context.CancelFunc

	starting sync.Mutex // held while a process starts
	mu       sync.Mutex // for the other fields
	status   Status     // without PID and InFlight; Since is when the last process has ended
	failures int        // in a row
}

// Start starts the process of the options, and returns when the process can get requests. ctx is for the start; Close stops the
// process. Start returns an error if the process cannot be started, does not call Serve, or does not serve in time.
func Start(ctx context.Context, opts Options) (*Handler, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	in, err := launch(ctx, &opts)
	if err != nil {
		return nil, err
	}
	h := &Handler{opts: opts, backoff: process.Backoff{First: firstPause, Most: opts.Pause}}
	h.closed, h.close = context.WithCancel(context.Background())
	h.use(in)
	return h, nil
}

// ServeHTTP passes a request on. See the package text for what happens while there is no process.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for {
		in := h.now.Load()
		if in == nil {
			away(w)
			return
		}
		in.inFlight.Add(1)
		if h.now.Load() != in { // the process may have been told to end, as it had no requests
			in.inFlight.Add(-1)
			continue
		}
		defer in.inFlight.Add(-1)
		in.ServeHTTP(w, r)
		return
	}
}

// Replace starts a second process, gives all new requests to the second process, and lets the first process end when the requests
// of the first process are answered. Replace returns when the second process gets the requests. After an error, the first process
// goes on.
func (h *Handler) Replace(ctx context.Context) error {
	h.starting.Lock()
	defer h.starting.Unlock()
	if h.closed.Err() != nil {
		return ErrClosed
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(h.closed, func() { cancel(ErrClosed) })()
	in, err := launch(ctx, &h.opts)
	if err != nil {
		return err
	}
	h.use(in)
	return nil
}

// Close stops the process when its requests have ended, or after Options.Drain, and returns when the process has ended. Requests
// that come after Close are answered with 502, or by the stable handler.
func (h *Handler) Close() error {
	h.close()
	h.starting.Lock()
	if in := h.now.Swap(nil); in != nil {
		h.note(func(s *Status) { s.Since = time.Now() })
		h.parts.Go(in.drain) // ends with the process
	}
	h.starting.Unlock()
	h.parts.Wait()
	return nil
}

// use gives all new requests to a process. The caller holds starting, or is Start.
func (h *Handler) use(in *instance) {
	h.note(func(s *Status) { s.Starts++ })
	h.opts.Logger.Info("subprocess: a process serves", slog.String("name", h.opts.Name), slog.Int("pid", in.pid()))
	if old := h.now.Swap(in); old != nil {
		h.parts.Go(old.drain) // ends with the process
	}
	h.parts.Go(func() { h.follow(in) }) // ends with the process
}

// follow waits for the end of a process, and starts another process if the end was not wanted.
func (h *Handler) follow(in *instance) {
	reason := in.watch()
	if !h.now.CompareAndSwap(in, nil) {
		return // it was replaced or closed
	}
	next := h.backoff.Pause(h.failed(in, reason))
	h.opts.Logger.Error("subprocess: the process has ended", slog.String("name", h.opts.Name), slog.Int("pid", in.pid()),
		slog.String("reason", reason), slog.Duration("restart_in", next))
	in.kill()
	for pause(h.closed, nil, next) {
		err := h.restart()
		if err == nil || h.closed.Err() != nil {
			return
		}
		next = h.backoff.Pause(h.failed(nil, err.Error()))
		h.opts.Logger.Error("subprocess: the process does not start", slog.String("name", h.opts.Name), slog.Any("err", err),
			slog.Duration("restart_in", next))
	}
}

// restart starts a process, unless Replace has done so meanwhile.
func (h *Handler) restart() error {
	h.starting.Lock()
	defer h.starting.Unlock()
	if h.now.Load() != nil || h.closed.Err() != nil {
		return nil
	}
	in, err := launch(h.closed, &h.opts)
	if err == nil {
		h.use(in)
	}
	return err
}

// failed counts that a process has ended or has not started, and returns the number of failures in a row.
func (h *Handler) failed(in *instance, reason string) (inARow int) {
	h.note(func(s *Status) {
		s.Failures, s.Reason = s.Failures+1, reason
		if in != nil {
			s.Since = time.Now()
		}
		if in != nil && time.Since(in.since) >= in.opts.guard {
			h.failures = 0
		}
		h.failures++
		inARow = h.failures
	})
	return inARow
}

func (h *Handler) note(change func(s *Status)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change(&h.status)
}

// Status returns the state of the process, and the number of its failures.
func (h *Handler) Status() Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.status
	s.Name = h.opts.Name
	if in := h.now.Load(); in != nil {
		s.PID, s.Since, s.InFlight = in.pid(), in.since, in.inFlight.Load()
	}
	return s
}
