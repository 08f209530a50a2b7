package upgrade

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

const scope = "github.com/midair-go/midair/upgrade"

// Names of the instruments. The README lists the same names, and a test compares the two.
const (
	metricAttempts = "midair.upgrade.attempts"
	metricDuration = "midair.upgrade.duration"
	metricRestarts = "midair.upgrade.restarts"
	metricAlive    = "midair.upgrade.supervised"
	spanUpgrade    = "midair.upgrade"
)

// telemetry reports upgrades. Each upgrade has a span, with an event for each phase. A counter and a histogram of durations
// have the kind and the outcome of each upgrade as attributes. Another counter has the restarts after a crash.
type telemetry struct {
	tracer   trace.Tracer
	meter    metric.Meter
	attempts metric.Int64Counter
	duration metric.Float64Histogram
	restarts metric.Int64Counter
}

func newTelemetry(meters metric.MeterProvider, tracers trace.TracerProvider) (*telemetry, error) {
	meter := meters.Meter(scope)
	attempts, err1 := meter.Int64Counter(metricAttempts,
		metric.WithDescription("Upgrades that this process has tried, by outcome."), metric.WithUnit("{upgrade}"))
	duration, err2 := meter.Float64Histogram(metricDuration,
		metric.WithDescription("How long upgrades took from their start to commit or failure."), metric.WithUnit("s"))
	restarts, err3 := meter.Int64Counter(metricRestarts,
		metric.WithDescription("Starts of this service after a crash, by the supervisor."), metric.WithUnit("{restart}"))
	return &telemetry{tracers.Tracer(scope), meter, attempts, duration, restarts}, errors.Join(err1, err2, err3)
}

// watch makes a metric that shows whether the supervisor lives. The function state must return "alive" or "dead", as in
// Status.Supervisor. The function stop ends the metric.
func (t *telemetry) watch(state func() string) (stop func(), err error) {
	gauge, err := t.meter.Int64ObservableGauge(metricAlive,
		metric.WithDescription("1 while the supervisor of this service lives, 0 after its death."), metric.WithUnit("{supervisor}"))
	if err != nil {
		return func() {}, err
	}
	reg, err := t.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		lives := int64(0)
		if state() == "alive" {
			lives = 1
		}
		o.ObserveInt64(gauge, lives)
		return nil
	}, gauge)
	if err != nil {
		return func() {}, err
	}
	return func() { _ = reg.Unregister() }, nil // if Unregister fails, nothing can be done
}

// begin opens the span of an attempt. At the end of the attempt, the caller has to call the returned function with the error of
// the attempt. The call adds the attempt to the metrics, and closes the span. The argument good is the outcome of an attempt
// that ends without an error.
func (t *telemetry) begin(ctx context.Context, kindOf, good string, generation int) (context.Context, func(error)) {
	started, kind := time.Now(), attribute.String("kind", kindOf)
	ctx, span := t.tracer.Start(ctx, spanUpgrade, trace.WithAttributes(attribute.Int("midair.generation", generation), kind))
	return ctx, func(err error) {
		set := metric.WithAttributes(attribute.String("outcome", outcome(good, err)), kind)
		t.attempts.Add(ctx, 1, set)
		t.duration.Record(ctx, time.Since(started).Seconds(), set)
		if err != nil {
			span.SetStatus(codes.Error, err.Error())
		}
		span.SetAttributes(attribute.String("outcome", outcome(good, err)))
		span.End()
	}
}

func (t *telemetry) phase(ctx context.Context, p Phase) {
	trace.SpanFromContext(ctx).AddEvent(string(p))
}

func outcome(good string, err error) string {
	switch {
	case err == nil:
		return good
	case errors.Is(err, ErrAborted):
		return "aborted"
	}
	return "failed"
}
