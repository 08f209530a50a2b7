package vendors

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/launchdarkly/go-sdk-common/v3/ldlog"
	ld "github.com/launchdarkly/go-server-sdk/v7"
	"github.com/launchdarkly/go-server-sdk/v7/ldcomponents"
	"github.com/launchdarkly/go-server-sdk/v7/ldfiledata"
	"github.com/launchdarkly/go-server-sdk/v7/ldfilewatch"
	launchdarkly "github.com/open-feature/go-sdk-contrib/providers/launchdarkly/pkg"
	"github.com/open-feature/go-sdk/openfeature"
)

// launchDarkly reads its flags from a file, which it watches, and sends no events: LaunchDarkly's own mode for tests.
var launchDarkly = vendor{
	name: "LaunchDarkly",
	open: openLaunchDarkly,
	details: map[string]details{
		"on":                     {reason: "FALLTHROUGH", variant: "0"},
		"off":                    {reason: openfeature.DisabledReason, variant: "1"},
		"plan of a pro":          {reason: "RULE_MATCH", variant: "0"},
		"plan of another":        {reason: "FALLTHROUGH", variant: "1"},
		"plan without attribute": {reason: "FALLTHROUGH", variant: "1"},
		"weight":                 {reason: "FALLTHROUGH", variant: "0"},
		"weight without key":     {reason: openfeature.ErrorReason, code: openfeature.TargetingKeyMissingCode},
		"limit":                  {reason: "FALLTHROUGH", variant: "0"},
		"limit as text":          {reason: openfeature.ErrorReason, code: openfeature.TypeMismatchCode},
		"theme":                  {reason: "FALLTHROUGH", variant: "0"},
		"theme as text":          {reason: openfeature.ErrorReason, code: openfeature.TypeMismatchCode},
		"plan as boolean":        {reason: openfeature.ErrorReason, code: openfeature.TypeMismatchCode},
		"no such flag":           {reason: openfeature.ErrorReason, code: openfeature.FlagNotFoundCode},
	},
	differs: map[string]any{"weight without key": 0.75},
	limits: map[limit]string{
		noEvent:   "the provider has no EventChannel, though the client has flag listeners",
		noStatic:  "a value for everybody and a share both have the reason FALLTHROUGH",
		noKeyless: "the provider refuses a context without a key",
	},
}

// openLaunchDarkly waits until the file is watched: a client that is closed before leaves its watcher behind.
func openLaunchDarkly(t *testing.T) (openfeature.FeatureProvider, control) {
	path := filepath.Join(t.TempDir(), "flags.json")
	set := func(t *testing.T, on bool) { replace(t, path, fmt.Sprintf(launchDarklyFlags, variation(on))) }
	set(t, false)
	watched := make(chan struct{})
	watch := func(paths []string, loggers ldlog.Loggers, reload func(), closed <-chan struct{}) error {
		defer close(watched)
		return ldfilewatch.WatchFiles(paths, loggers, reload, closed)
	}
	client, err := ld.MakeCustomClient("no key", ld.Config{
		DataSource: ldfiledata.DataSource().FilePaths(path).Reloader(watch),
		Events:     ldcomponents.NoEvents(),
		Logging:    ldcomponents.Logging().MinLevel(ldlog.None).LogDataSourceOutageAsErrorAfter(0),
	}, patience)
	if err != nil {
		t.Fatal(err)
	}
	<-watched
	return launchdarkly.NewProvider(client, launchdarkly.WithCloseOnShutdown(true)), set
}

// variation returns the index of the variation in the formats that list true before false.
func variation(on bool) int {
	if on {
		return 0
	}
	return 1
}

const launchDarklyFlags = `{"flags": {
	"on":     {"key": "on", "on": true, "variations": [true, false], "fallthrough": {"variation": 0}},
	"off":    {"key": "off", "on": false, "variations": [true, false], "offVariation": 1},
	"plan":   {"key": "plan", "on": true, "variations": ["gold", "basic"], "fallthrough": {"variation": 1},
		"rules": [{"id": "pro", "variation": 0,
			"clauses": [{"contextKind": "user", "attribute": "plan", "op": "in", "values": ["pro"]}]}]},
	"weight": {"key": "weight", "on": true, "variations": [0.25], "fallthrough": {"variation": 0}},
	"limit":  {"key": "limit", "on": true, "variations": [100], "fallthrough": {"variation": 0}},
	"theme":  {"key": "theme", "on": true, "variations": [{"color": "blue", "size": 3}], "fallthrough": {"variation": 0}},
	"half":   {"key": "half", "on": true, "variations": [true, false], "salt": "half",
		"fallthrough": {"rollout": {"contextKind": "user", "variations": [
			{"variation": 0, "weight": 50000}, {"variation": 1, "weight": 50000}]}}},
	"switch": {"key": "switch", "on": true, "variations": [true, false], "fallthrough": {"variation": %d}}
}}`
