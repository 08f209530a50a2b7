package vendors

import (
	"context"
	"testing"

	"github.com/open-feature/go-sdk/openfeature"
	"github.com/open-feature/go-sdk/openfeature/isolated"
)

// An asker asks one provider through one API.
type asker struct {
	ask func(q question) answer
	// changes gets the keys of each change of the flags.
	changes <-chan []string
	// bare says that the API returns values without details.
	bare bool
}

// apis are the ways to ask a provider, by name. Every test runs through each of them.
var apis = map[string]func(t *testing.T, p openfeature.FeatureProvider) asker{
	"openfeature.Client":       throughClient,
	"flags.FromProvider":       throughFlags,
	"client of the same flags": throughFlagsClient,
}

// throughClient asks through the client of OpenFeature's SDK. The SDK starts the provider, and shuts it
// down at the end of the test.
func throughClient(t *testing.T, p openfeature.FeatureProvider) asker {
	api, changes := isolated.NewAPI(), make(chan []string, 100)
	changed := func(e openfeature.EventDetails) { changes <- e.FlagChanges }
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := api.SetProviderAndWait(ctx, p); err != nil {
		t.Fatal(err)
	}
	api.AddHandler(openfeature.ProviderConfigChange, &changed)
	t.Cleanup(func() {
		if err := api.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	client := api.NewClient()
	return asker{changes: changes, ask: func(q question) answer { return q.through(client) }}
}

// through asks the client.
func (q question) through(client *openfeature.Client) answer {
	ctx, ec := context.Background(), openfeature.NewEvaluationContext(q.who, q.attrs)
	switch def := q.def.(type) {
	case bool:
		d, _ := client.BooleanValueDetails(ctx, q.flag, def, ec)
		return answerOf(d)
	case string:
		d, _ := client.StringValueDetails(ctx, q.flag, def, ec)
		return answerOf(d)
	case float64:
		d, _ := client.FloatValueDetails(ctx, q.flag, def, ec)
		return answerOf(d)
	case int64:
		d, _ := client.IntValueDetails(ctx, q.flag, def, ec)
		return answerOf(d)
	default:
		d, _ := client.ObjectValueDetails(ctx, q.flag, def, ec)
		return answerOf(d)
	}
}

func answerOf[T any](d openfeature.GenericEvaluationDetails[T]) answer {
	return answer{d.Value, details{d.Reason, d.Variant, d.ErrorCode}}
}
