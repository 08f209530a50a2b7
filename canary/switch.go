package canary

import (
	"context"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/midair-go/midair/internal/kept"
	"github.com/midair-go/midair/internal/logqueue"
)

// SwitchOptions of a Switch. The zero value works.
type SwitchOptions struct {
	// WarmUp makes the canary handler ready: it fills caches, opens connections, sends a few requests. Green returns ErrCold until
	// WarmUp was called by Switch.WarmUp and has returned nil. Default: there is nothing to do.
	WarmUp func(context.Context) error
	// Logger gets a line for each change. Its handler is called in another goroutine: no change waits for a log. Default:
	// slog.Default().
	Logger *slog.Logger
}

// A Switch sends all requests of a Router to one of the two handlers: blue is the stable handler, green is the canary. It begins
// with blue.
//
//	sw := canary.NewSwitch(canary.SwitchOptions{WarmUp: warm})
//	up.Keep("shop.switch", sw)
//	shop := canary.NewRouter(blue, green, canary.Options{Name: "shop", Switch: sw})
//
// Green and Blue are each one atomic store. A request ends in the handler in which it began. Idle tells when a handler has no
// request left, so that the program can end what only this handler uses. Testers see the green handler before the change, and
// the blue one after it, by Options.Choose.
//
// The side passes to the next process by Keep. After a crash, a kill -9 and a plain restart the Switch is blue: a program that wants
// green then calls Green before it serves.
//
// Several routers may share a Switch. All methods may be called from any goroutine. A Switch has to be made by NewSwitch.
type Switch struct {
	opts    SwitchOptions
	warm    atomic.Bool
	warming sync.Mutex // held while WarmUp runs
	sides   sides
}

// ErrCold is the error of Switch.Green if there is a warm-up function that has not succeeded.
var ErrCold = errors.New("canary: the green handler is not warm: call WarmUp first")

// NewSwitch returns a Switch that is blue.
func NewSwitch(opts SwitchOptions) *Switch {
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	opts.Logger = logqueue.Wrap(opts.Logger)
	s := &Switch{opts: opts}
	s.warm.Store(opts.WarmUp == nil)
	return s
}

// Weight is 0 for blue and 1 for green. It is a function for Options.Weight, and the default of a Router with Options.Switch.
func (s *Switch) Weight() float64 {
	if s.sides.green.Load() {
		return 1
	}
	return 0
}

// Side returns Stable for blue and Canary for green.
func (s *Switch) Side() Side { return s.sides.inUse() }

// WarmUp calls SwitchOptions.WarmUp, and returns its error, or an error if the function panics. After a success, later calls
// return nil without another warm-up. Of several calls at a time one warms up, and the others wait.
func (s *Switch) WarmUp(ctx context.Context) error {
	s.warming.Lock()
	defer s.warming.Unlock()
	if s.warm.Load() {
		return nil
	}
	if err := s.callWarmUp(ctx); err != nil {
		return fmt.Errorf("canary: warm-up: %w", err)
	}
	s.warm.Store(true)
	return nil
}

func (s *Switch) callWarmUp(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it has panicked: %v\n%s", p, debug.Stack())
		}
	}()
	return s.opts.WarmUp(ctx)
}

// Green sends all requests from now on to the green handler. The error is ErrCold, or nil.
func (s *Switch) Green() error {
	if !s.warm.Load() {
		return ErrCold
	}
	s.set(true)
	return nil
}

// Blue sends all requests from now on to the blue handler.
func (s *Switch) Blue() { s.set(false) }

func (s *Switch) set(green bool) {
	if s.sides.set(green) {
		s.opts.Logger.Info("canary: switched", slog.Bool("green", green))
	}
}

// Idle returns a channel that is closed as soon as no request is under way on a side, in all routers with the Switch. A request
// is under way until its handler returns. After Green or Blue no request comes to the side that they leave, except those that
// Options.Choose sends there, and, on the stable side, all requests while Options.Kill is killed or latched, and requests for which
// a function of the options panics. When the channel is closed, and these cannot come, the program may end what only this handler
// uses. No request is rescued there any more until the switch comes back. A new process counts its own requests only.
func (s *Switch) Idle(side Side) <-chan struct{} { return s.sides.idle(side) }

// switchFormat is the layout of the state of a Switch.
var switchFormat = kept.Format{Name: "switch", Magic: "switch", Version: 1, Sum: kept.CRC32}

// switchState is what passes between processes. Fields may be added to a version: a reader ignores what it does not know.
type switchState struct {
	Green bool `json:"green"`
}

var (
	_ encoding.BinaryMarshaler   = (*Switch)(nil)
	_ encoding.BinaryUnmarshaler = (*Switch)(nil)
)

// MarshalBinary returns the state for another process.
func (s *Switch) MarshalBinary() ([]byte, error) {
	body, err := json.Marshal(switchState{s.sides.green.Load()})
	if err != nil {
		return nil, fmt.Errorf("canary: the state of a switch: %w", err)
	}
	return switchFormat.Seal(append(switchFormat.Begin(), body...)), nil
}

// UnmarshalBinary takes over the side of another process, also if the warm-up function has not succeeded here: call WarmUp before
// the process serves. A state that cannot be read is an error, and changes nothing.
func (s *Switch) UnmarshalBinary(data []byte) error {
	r := switchFormat.Open(data)
	if err := r.Err(); err != nil {
		return err
	}
	var state switchState
	if err := json.Unmarshal(r.Take(uint64(r.Left())), &state); err != nil {
		return r.Damaged(err)
	}
	s.set(state.Green)
	return nil
}
