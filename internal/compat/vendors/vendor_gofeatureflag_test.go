package vendors

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	gofeatureflag "github.com/open-feature/go-sdk-contrib/providers/go-feature-flag-in-process/pkg"
	"github.com/open-feature/go-sdk/openfeature"
	ffclient "github.com/thomaspoignant/go-feature-flag"
	"github.com/thomaspoignant/go-feature-flag/retriever/fileretriever"
)

// goFeatureFlag reads its flags from a file, at which it looks once a second.
var goFeatureFlag = vendor{
	name: "GO Feature Flag",
	open: openGoFeatureFlag,
	details: map[string]details{
		"on":                     {reason: openfeature.StaticReason, variant: "on"},
		"off":                    {reason: openfeature.StaticReason, variant: "off"},
		"plan of a pro":          {reason: openfeature.TargetingMatchReason, variant: "gold"},
		"plan of another":        {reason: openfeature.DefaultReason, variant: "basic"},
		"plan without attribute": {reason: openfeature.DefaultReason, variant: "basic"},
		"weight":                 {reason: openfeature.StaticReason, variant: "quarter"},
		"weight without key":     {reason: openfeature.ErrorReason, code: openfeature.TargetingKeyMissingCode},
		"limit":                  {reason: openfeature.StaticReason, variant: "hundred"},
		"limit as text":          {reason: openfeature.ErrorReason, code: openfeature.TypeMismatchCode},
		"theme":                  {reason: openfeature.StaticReason, variant: "blue"},
		"theme as text":          {reason: openfeature.ErrorReason, code: openfeature.TypeMismatchCode},
		"plan as boolean":        {reason: openfeature.ErrorReason, code: openfeature.TypeMismatchCode},
		"no such flag":           {reason: openfeature.ErrorReason, code: openfeature.FlagNotFoundCode},
	},
	differs: map[string]any{"weight without key": 0.75},
	leaks:   map[string]string{"(*Manager).StartPolling": "Close does not stop the poller, which reads the file for ever"},
	limits: map[limit]string{
		noEvent:   "the provider has no EventChannel, though the library has notifiers",
		noKeyless: "the provider refuses a context without a targeting key",
	},
}

func openGoFeatureFlag(t *testing.T) (openfeature.FeatureProvider, control) {
	path := filepath.Join(t.TempDir(), "flags.yaml")
	set := func(t *testing.T, on bool) { replace(t, path, fmt.Sprintf(goFeatureFlagFlags, onOff(on))) }
	set(t, false)
	provider, err := gofeatureflag.NewProviderWithContext(t.Context(), gofeatureflag.ProviderOptions{
		GOFeatureFlagConfig: &ffclient.Config{
			PollingInterval: time.Second, // the least that it takes
			FileFormat:      "yaml",
			Retriever:       &fileretriever.Retriever{Path: path},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return provider, set
}

const goFeatureFlagFlags = `
on:
  variations: {"on": true, "off": false}
  defaultRule: {variation: "on"}
"off":
  variations: {"on": true, "off": false}
  defaultRule: {variation: "off"}
plan:
  variations: {gold: gold, basic: basic}
  targeting:
    - query: plan eq "pro"
      variation: gold
  defaultRule: {variation: basic}
weight:
  variations: {quarter: 0.25}
  defaultRule: {variation: quarter}
limit:
  variations: {hundred: 100}
  defaultRule: {variation: hundred}
theme:
  variations: {blue: {color: blue, size: 3.0}} # 3 would be a whole number, and in the other formats it is not
  defaultRule: {variation: blue}
half:
  variations: {"on": true, "off": false}
  defaultRule: {percentage: {"on": 50, "off": 50}}
switch:
  variations: {"on": true, "off": false}
  defaultRule: {variation: %q}
`
