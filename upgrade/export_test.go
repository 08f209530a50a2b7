package upgrade

import (
	"context"
	"time"
)

// SetStepHook makes the processes of the tests call fn at every named step of the protocol.
func SetStepHook(fn func(string)) { atStep = fn }

// SetClock makes wallClock wrong by the duration by.
func SetClock(by time.Duration) { wallClock = func() time.Time { return time.Now().Add(by) } }

// NewUnsupported makes an Upgrader as on a platform without upgrades. A process may have many such Upgraders.
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

// RequestWithin is Request without a deadline, but with another limit for a service that tries no upgrade.
func RequestWithin(idle time.Duration, pidFile string) (Outcome, error) {
	return ask(context.Background(), pidFile, idle)
}
