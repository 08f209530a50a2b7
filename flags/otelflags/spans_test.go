package otelflags_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/midair-go/midair/flags"
	"github.com/midair-go/midair/flags/otelflags"
	"github.com/open-feature/go-sdk/openfeature"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// A span keeps its events, each as a line.
type span struct {
	noop.Span
	deaf   bool
	events []string
}

func (s *span) IsRecording() bool { return !s.deaf }

func (s *span) AddEvent(name string, opts ...trace.EventOption) {
	config := trace.NewEventConfig(opts...)
	var attrs []string
	for _, a := range config.Attributes() {
		attrs = append(attrs, fmt.Sprintf("%s=%s", a.Key, a.Value.AsString()))
	}
	slices.Sort(attrs)
	s.events = append(s.events, name+" "+strings.Join(attrs, " "))
}

const traced = `{"metadata": {"flagSetId": "shop", "version": "7"}, "flags": {
	"cart": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off", "targeting": {"if": [{"==": [{"var": "targetingKey"}, "ann"]}, "on"]}},
	"off": {"state": "DISABLED", "variants": {"on": true}, "defaultVariant": "on"}}}`

// An evaluation is an event of the active span, by the present names of OpenTelemetry. The targeting key is not in it.
func TestEvaluationsAreEvents(t *testing.T) {
	f := serve(t, 1)
	const common = " feature_flag.provider.name=midair feature_flag.result."
	for want, evaluate := range map[string]func(context.Context){
		"feature_flag.key=cart" + common + "reason=targeting_match feature_flag.result.variant=on feature_flag.set.id=shop feature_flag.version=7": func(ctx context.Context) {
			f.Bool(ctx, "cart", false)
			f.BoolFlag("cart", false).Get(ctx)
			_, err := f.Client().BooleanValue(ctx, "cart", false, openfeature.EvaluationContext{})
			check(t, err)
		},
		"feature_flag.key=off" + common + "reason=disabled feature_flag.result.value=true feature_flag.set.id=shop feature_flag.version=7": func(ctx context.Context) {
			f.Bool(ctx, "off", true)
		},
		"error.type=type_mismatch feature_flag.error.message=the flag has another type feature_flag.key=cart" + common + "reason=error feature_flag.set.id=shop feature_flag.version=7": func(ctx context.Context) {
			f.String(ctx, "cart", "")
		},
		"error.type=flag_not_found feature_flag.error.message=there is no such flag feature_flag.key=none" + common + "reason=error": func(ctx context.Context) {
			f.Bool(ctx, "none", false)
		},
	} {
		s := &span{}
		evaluate(f.With(trace.ContextWithSpan(context.Background(), s), "ann", map[string]any{"mail": "ann@example.com"}))
		if len(s.events) == 0 {
			t.Errorf("no event, want %s", want)
		}
		for _, got := range s.events {
			if got != "feature_flag.evaluation "+want {
				t.Errorf("the event is %s, want %s", got, want)
			}
		}
	}
}

// The share of the evaluations that become events is as asked for. A span that does not record, and no span, cost nothing.
func TestTheShareOfEvents(t *testing.T) {
	for share, want := range map[float64][2]int{0: {0, 0}, 0.5: {300, 700}, 1: {1000, 1000}} {
		f := serve(t, share)
		s, deaf := &span{}, &span{deaf: true}
		for range 1000 {
			f.Bool(trace.ContextWithSpan(context.Background(), s), "cart", false)
			f.Bool(trace.ContextWithSpan(context.Background(), deaf), "cart", false)
			f.Bool(context.Background(), "cart", false)
		}
		if n := len(s.events); n < want[0] || n > want[1] || len(deaf.events) != 0 {
			t.Errorf("%d events of 1000 at the share %v, and %d of a span that does not record", n, share, len(deaf.events))
		}
	}
}

// serve returns Flags whose evaluations become events.
func serve(t *testing.T, share float64) *flags.Flags {
	t.Helper()
	opts := flags.Options{Defaults: []byte(traced), Observe: otelflags.Spans(share), Logger: slog.New(slog.DiscardHandler)}
	f, err := flags.Open("", opts)
	check(t, err)
	t.Cleanup(func() { check(t, f.Close()) })
	return f
}
