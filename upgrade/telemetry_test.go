package upgrade

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
)

// recorder records what the library reports. It takes the place of an SDK of OpenTelemetry.
type recorder struct {
	instruments, events, outcomes []string
	status                        codes.Code
	ended                         int
	observe                       metric.Callback
}

type recordMeters struct {
	metricnoop.MeterProvider
	r *recorder
}

func (p recordMeters) Meter(string, ...metric.MeterOption) metric.Meter { return recordMeter{r: p.r} }

type recordMeter struct {
	metricnoop.Meter
	r *recorder
}

func (m recordMeter) Int64Counter(name string, _ ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	m.r.instruments = append(m.r.instruments, name)
	return recordCounter{r: m.r}, nil
}

func (m recordMeter) Float64Histogram(name string, _ ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	m.r.instruments = append(m.r.instruments, name)
	return metricnoop.Float64Histogram{}, nil
}

func (m recordMeter) Int64ObservableGauge(name string, _ ...metric.Int64ObservableGaugeOption) (metric.Int64ObservableGauge, error) {
	m.r.instruments = append(m.r.instruments, name)
	return metricnoop.Int64ObservableGauge{}, nil
}

func (m recordMeter) RegisterCallback(fn metric.Callback, _ ...metric.Observable) (metric.Registration, error) {
	m.r.observe = fn
	return recordRegistration{r: m.r}, nil
}

type recordRegistration struct {
	metricnoop.Registration
	r *recorder
}

func (r recordRegistration) Unregister() error { r.r.observe = nil; return nil }

type recordObserver struct {
	metricnoop.Observer
	values []int64
}

func (o *recordObserver) ObserveInt64(_ metric.Int64Observable, v int64, _ ...metric.ObserveOption) {
	o.values = append(o.values, v)
}

// The gauge shows at each observation whether the supervisor lives, until the process ends.
func TestDeadSupervisorIsAMetric(t *testing.T) {
	r, o := &recorder{}, &recordObserver{}
	tel, err := newTelemetry(recordMeters{r: r}, recordTracers{r: r})
	if err != nil {
		t.Fatal(err)
	}
	state := "alive"
	stop, err := tel.watch(func() string { return state })
	if err != nil {
		t.Fatal(err)
	}
	for _, state = range []string{"alive", "dead"} {
		if err := r.observe(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	if stop(); r.observe != nil || !slices.Equal(o.values, []int64{1, 0}) {
		t.Errorf("it has observed %v, and goes on: %v", o.values, r.observe != nil)
	}
}

type recordCounter struct {
	metricnoop.Int64Counter
	r *recorder
}

func (c recordCounter) Add(_ context.Context, _ int64, opts ...metric.AddOption) {
	set := metric.NewAddConfig(opts).Attributes()
	v, _ := set.Value("outcome")
	c.r.outcomes = append(c.r.outcomes, v.AsString())
}

type recordTracers struct {
	tracenoop.TracerProvider
	r *recorder
}

func (p recordTracers) Tracer(string, ...trace.TracerOption) trace.Tracer {
	return recordTracer{r: p.r}
}

type recordTracer struct {
	tracenoop.Tracer
	r *recorder
}

func (t recordTracer) Start(ctx context.Context, name string, _ ...trace.SpanStartOption) (context.Context, trace.Span) {
	s := recordSpan{r: t.r}
	return trace.ContextWithSpan(ctx, s), s
}

type recordSpan struct {
	tracenoop.Span
	r *recorder
}

func (s recordSpan) AddEvent(name string, _ ...trace.EventOption) {
	s.r.events = append(s.r.events, name)
}
func (s recordSpan) SetStatus(c codes.Code, _ string) { s.r.status = c }
func (s recordSpan) End(...trace.SpanEndOption)       { s.r.ended++ }

// An upgrade has one span with an event for each phase, and counts once, with its outcome.
func TestUpgradeIsReported(t *testing.T) {
	r := &recorder{}
	o, err := Options{MeterProvider: recordMeters{r: r}, TracerProvider: recordTracers{r: r}, Executable: "/does/not/exist"}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	tel, err := newTelemetry(o.MeterProvider, o.TracerProvider)
	if err != nil {
		t.Fatal(err)
	}
	u := newUpgrader(o, tel, nil)
	a := newAttempt(t.Context(), &u.parts, modeUpgrade)
	a.run()
	e := (*Error)(nil)
	if err := <-a.done; !errors.As(err, &e) || e.Phase != PhaseStart || !strings.Contains(e.Error(), "/does/not/exist") {
		t.Fatalf("outcome %v", err)
	}
	if strings.Join(r.events, " ") != "start" || r.ended != 1 || r.status != codes.Error || strings.Join(r.outcomes, " ") != "failed" {
		t.Fatalf("events %v, %d spans ended, status %v, outcomes %v", r.events, r.ended, r.status, r.outcomes)
	}
	if outcome(modeUpgrade.done(), ErrAborted) != "aborted" || outcome(modeRollback.done(), nil) != "committed" || outcome(modeRehearsal.done(), nil) != "rehearsed" {
		t.Error("outcomes have other names")
	}
	for _, page := range []string{"../README.md", "../docs/telemetry.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range append(r.instruments, metricAlive, spanUpgrade) {
			if !strings.Contains(string(text), "`"+name+"`") {
				t.Errorf("%s does not list %s", page, name)
			}
		}
	}
}
