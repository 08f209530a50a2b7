package otelflags_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/midair-go/midair/flags/flagstest"
	"github.com/midair-go/midair/flags/otelflags"
	"github.com/midair-go/midair/internal/testutil"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/embedded"
	"go.opentelemetry.io/otel/metric/noop"
)

// TestMain fails if a goroutine, a descriptor or a child is left when all tests are over.
func TestMain(m *testing.M) { testutil.Main(m, nil) }

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A meter is a MeterProvider that keeps callbacks, and calls them as a reader does.
type meter struct {
	embedded.MeterProvider
	silent
	mu        sync.Mutex
	name      string
	callbacks map[int]metric.Callback
	next      int
	err       error
}

func (m *meter) Meter(string, ...metric.MeterOption) metric.Meter { return m }

func (m *meter) Int64ObservableCounter(name string, opts ...metric.Int64ObservableCounterOption) (metric.Int64ObservableCounter, error) {
	m.name = name
	if n := len(metric.NewInt64ObservableCounterConfig(opts...).Callbacks()); n != 0 {
		panic("a callback that nobody can end")
	}
	return m.silent.Int64ObservableCounter(name, opts...)
}

func (m *meter) RegisterCallback(fn metric.Callback, _ ...metric.Observable) (metric.Registration, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return nil, m.err
	}
	if m.callbacks == nil {
		m.callbacks = map[int]metric.Callback{}
	}
	m.next++
	m.callbacks[m.next] = fn
	return &registration{m: m, id: m.next}, nil
}

type silent = noop.Meter

// A registration ends a callback.
type registration struct {
	embedded.Registration
	m  *meter
	id int
}

func (r *registration) Unregister() error {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	delete(r.m.callbacks, r.id)
	return nil
}

// An observer keeps what callbacks observe, each as a line.
type observer struct {
	embedded.Observer
	all []string
}

func (o *observer) ObserveFloat64(metric.Float64Observable, float64, ...metric.ObserveOption) {}

func (o *observer) ObserveInt64(_ metric.Int64Observable, n int64, opts ...metric.ObserveOption) {
	set := metric.NewObserveConfig(opts).Attributes()
	var attrs []string
	for _, a := range set.ToSlice() {
		attrs = append(attrs, fmt.Sprintf("%s=%s", a.Key, a.Value.AsString()))
	}
	o.all = append(o.all, fmt.Sprintf("%s %d", strings.Join(attrs, " "), n))
}

func (m *meter) collect(t *testing.T) string {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	o := &observer{}
	for _, fn := range m.callbacks {
		check(t, fn(context.Background(), o))
	}
	slices.Sort(o.all)
	return strings.Join(o.all, "\n")
}

// The metric has the counts of Status, by the names of the semantic conventions, until it is stopped.
func TestTheMetricHasTheCounts(t *testing.T) {
	m := &meter{}
	f := flagstest.New(t, map[string]any{"cart": true})
	stop, err := otelflags.Metrics(f, otelflags.Options{MeterProvider: m, Name: "shop"})
	check(t, err)
	if m.name != "midair.flags.evaluations" || m.collect(t) != "" {
		t.Errorf("%s before: %q", m.name, m.collect(t))
	}
	f.Bool(t.Context(), "cart", false)
	f.String(t.Context(), "cart", "")
	f.Bool(t.Context(), "cart", false)
	attrs := "feature_flag.key=cart feature_flag.result.variant=%s midair.flags.name=shop %d"
	want := strings.Join([]string{fmt.Sprintf(attrs, "", 1), fmt.Sprintf(attrs, "value", 2)}, "\n")
	if got := m.collect(t); got != want {
		t.Errorf("the metric is\n%s\nwant\n%s", got, want)
	}
	check(t, stop())
	if len(m.callbacks) != 0 {
		t.Error("a callback is left")
	}
}

// A meter that refuses callbacks is an error.
func TestAMeterThatRefuses(t *testing.T) {
	_, err := otelflags.Metrics(flagstest.New(t, nil), otelflags.Options{MeterProvider: &meter{err: context.Canceled}})
	if err == nil || !strings.Contains(err.Error(), "otelflags: ") {
		t.Errorf("the error is %v", err)
	}
	stop, err := otelflags.Metrics(flagstest.New(t, nil), otelflags.Options{})
	check(t, err)
	check(t, stop())
}
