// Package otelcanary tells OpenTelemetry which side of a rollout has answered a request.
//
//	who := up.Status()
//	cart := canary.NewRouter(oldCart, newCart, canary.Options{
//		Name:    "cart-v2",
//		Weight:  weight,
//		Observe: otelcanary.Spans("cart-v2", who.Version, who.Generation),
//	})
//
// It is a package of its own, so that a program without OpenTelemetry does not get its API by its router.
package otelcanary

import (
	"github.com/midair-go/midair/canary"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// Spans returns a function for canary.Options.Observe. It adds attributes to the span of the request, which a middleware around the
// router has begun; a request without a span, or with one that is not recorded, costs no allocation. The attributes are:
//
//	midair.rollout     the name of the rollout
//	midair.side        "stable" or "canary": the side that has answered, so stable for a rescued request
//	midair.version     the version of the program
//	midair.generation  the generation of the process
//	midair.rescued     whether the canary has failed and stable has answered
//
// An empty version and a generation of 0 are left out. With several routers in a request, the outermost one replaces the attributes
// of the others.
func Spans(rollout, version string, generation int) func(canary.Outcome) {
	all := []attribute.KeyValue{attribute.String("midair.rollout", rollout)}
	if version != "" {
		all = append(all, attribute.String("midair.version", version))
	}
	if generation != 0 {
		all = append(all, attribute.Int("midair.generation", generation))
	}
	sides := [2][]attribute.KeyValue{}
	for side := range sides {
		sides[side] = append([]attribute.KeyValue{attribute.String("midair.side", canary.Side(side).String())}, all...)
	}
	return func(o canary.Outcome) {
		span := trace.SpanFromContext(o.Request.Context())
		if !span.IsRecording() {
			return
		}
		span.SetAttributes(sides[o.Side]...)
		span.SetAttributes(attribute.Bool("midair.rescued", o.Has(canary.SecondTry)))
	}
}
