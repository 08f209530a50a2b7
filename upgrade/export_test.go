package upgrade

import (
	"context"
	"time"
)

// SetStepHook calls fn at every named step of the protocol, in the processes of the tests.
func SetStepHook(fn func(string)) { atStep = fn }

// SetClock sets the clock for people wrong.
func SetClock(by time.Duration) { wallClock = func() time.Time { return time.Now().Add(by) } }

// NewUnsupported makes an Upgrader as on a platform without upgrades. There may be many of them in a process.
func NewUnsupported(opts Options) (*Upgrader, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	tel, err := newTelemetry(o.MeterProvider, o.TracerProvider)
	if err != nil {
		return nil, err
	}
	return newUpgrader(o, tel, nil), nil
}

// RequestWithin is Request with another limit for a context without a deadline.
func RequestWithin(idle time.Duration, pidFile string) (Outcome, error) {
	return ask(context.Background(), pidFile, idle)
}
