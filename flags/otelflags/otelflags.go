// Package otelflags tells OpenTelemetry of the evaluations of flags.
//
//	ff, err := flags.Open("flags.json", flags.Options{Observe: otelflags.Spans(0.01)})
//	…
//	stop, err := otelflags.Metrics(ff, otelflags.Options{})
//	…
//	defer stop()
//
// It is a package of its own, so that a program without OpenTelemetry does not get its API by its flags.
package otelflags

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/midair-go/midair/flags"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// Spans returns a function for flags.Options.Observe, which adds the given share of the evaluations to the active span as an event
// "feature_flag.evaluation". The share is from 0 to 1. The names are those of OpenTelemetry's semantic conventions for feature
// flags, version 1.40. The targeting key is not in the event: it names a user.
func Spans(share float64) func(context.Context, flags.Evaluation) {
	return func(ctx context.Context, e flags.Evaluation) {
		if share < 1 && rand.Float64() >= share {
			return
		}
		if span := trace.SpanFromContext(ctx); span.IsRecording() {
			span.AddEvent("feature_flag.evaluation", trace.WithAttributes(attributes(e)...))
		}
	}
}

func attributes(e flags.Evaluation) []attribute.KeyValue {
	attrs := []attribute.KeyValue{
		attribute.String("feature_flag.key", e.Key),
		attribute.String("feature_flag.provider.name", e.Provider),
		attribute.String("feature_flag.result.reason", strings.ToLower(string(e.Reason))),
	}
	switch {
	case e.Err != nil:
		attrs = append(attrs, attribute.String("error.type", strings.ToLower(string(e.Code))),
			attribute.String("feature_flag.error.message", e.Err.Error()))
	case e.Variant != "":
		attrs = append(attrs, attribute.String("feature_flag.result.variant", e.Variant))
	default:
		attrs = append(attrs, attribute.String("feature_flag.result.value", fmt.Sprint(e.Value)))
	}
	for name, as := range map[string]string{"flagSetId": "feature_flag.set.id", "version": "feature_flag.version"} {
		if text, ok := e.Metadata[name].(string); ok {
			attrs = append(attrs, attribute.String(as, text))
		}
	}
	return attrs
}

// Options of Metrics. The zero value works.
type Options struct {
	// Name is the attribute midair.flags.name, for a program with several Flags. Default: "flags".
	Name string
	// MeterProvider gets the metric. Default: the global provider of OpenTelemetry.
	MeterProvider metric.MeterProvider
}

// Metrics registers the counter midair.flags.evaluations, with the counts of Status by flag and variant, until stop is called. The
// counts are read when the metric is collected: an evaluation costs nothing more. The error is that of the meter.
func Metrics(ff *flags.Flags, opts Options) (stop func() error, err error) {
	if opts.MeterProvider == nil {
		opts.MeterProvider = otel.GetMeterProvider()
	}
	if opts.Name == "" {
		opts.Name = "flags"
	}
	meter := opts.MeterProvider.Meter("github.com/midair-go/midair/flags")
	counter, err := meter.Int64ObservableCounter("midair.flags.evaluations",
		metric.WithDescription("Evaluations of flags, by flag and variant. The default of the caller has no variant."),
		metric.WithUnit("{evaluation}"))
	if err != nil {
		return nil, fmt.Errorf("otelflags: %w", err)
	}
	registration, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for key, counts := range ff.Status().Evaluations {
			for variant, n := range counts {
				o.ObserveInt64(counter, int64(n), metric.WithAttributes(
					attribute.String("midair.flags.name", opts.Name),
					attribute.String("feature_flag.key", key),
					attribute.String("feature_flag.result.variant", variant)))
			}
		}
		return nil
	}, counter)
	if err != nil {
		return nil, fmt.Errorf("otelflags: %w", err)
	}
	return registration.Unregister, nil
}
