package flags_test

import (
	"context"
	"testing"

	"github.com/midair-go/midair/flags"
	"github.com/open-feature/go-sdk/openfeature"
	"github.com/open-feature/go-sdk/openfeature/isolated"
	"github.com/open-feature/go-sdk/openfeature/memprovider"
)

func memory() openfeature.FeatureProvider {
	return memprovider.NewInMemoryProvider(map[string]memprovider.InMemoryFlag{
		"b": {State: memprovider.Enabled, DefaultVariant: "on", Variants: map[string]any{"on": true}},
		"s": {State: memprovider.Enabled, DefaultVariant: "on", Variants: map[string]any{"on": "some text"}},
		"o": {State: memprovider.Enabled, DefaultVariant: "on", Variants: map[string]any{"on": map[string]any{"a": 1.0, "b": "text", "c": true}}},
		"w": {State: memprovider.Enabled, DefaultVariant: "on", Variants: map[string]any{"on": 0.25}},
	})
}

// What FromProvider adds to a client of the SDK for the provider of the SDK.
func BenchmarkProvider(b *testing.B) {
	api := isolated.NewAPI()
	check(b, api.SetProviderAndWait(context.Background(), memory()))
	defer api.Shutdown(context.Background())
	f := from(b, memory(), flags.Options{})
	defer f.Close()
	check(b, f.Ready(context.Background()))
	plain, own, none := api.NewClient(), f.Client(), openfeature.EvaluationContext{}
	flag, weight := f.BoolFlag("b", false), f.Weight("w", 0)
	attrs := map[string]any{"plan": "pro", "country": "de", "age": 41}
	for name, ctx := range map[string]context.Context{
		"nobody": context.Background(), "3 attributes": f.With(context.Background(), "ann", attrs),
	} {
		for what, ask := range map[string]func(){
			"bool by plain client": func() { plain.Boolean(ctx, "b", false, none) }, "bool by client": func() { own.Boolean(ctx, "b", false, none) },
			"bool by getter": func() { f.Bool(ctx, "b", false) }, "bool by handle": func() { flag.Get(ctx) },
			"string by plain client": func() { plain.String(ctx, "s", "", none) }, "string by getter": func() { f.String(ctx, "s", "") },
			"object by plain client": func() { plain.Object(ctx, "o", nil, none) }, "object by getter": func() { f.Object(ctx, "o", nil) },
			"weight": func() { weight() },
		} {
			b.Run(what+" for "+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					ask()
				}
			})
		}
	}
}
