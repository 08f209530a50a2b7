package vendors

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/open-feature/go-sdk/openfeature"
	splitclient "github.com/splitio/go-client/v6/splitio/client"
	"github.com/splitio/go-client/v6/splitio/conf"
	"github.com/splitio/go-toolkit/v5/logging"
)

// splitClient reads its flags from a file, at which it looks every five seconds: Split's mode "localhost".
var splitClient = vendor{
	name: "Split",
	open: openSplit,
	details: map[string]details{
		"on":                     {reason: openfeature.UnknownReason, variant: "on"},
		"off":                    {reason: openfeature.UnknownReason, variant: "off"},
		"plan of a pro":          {reason: openfeature.UnknownReason, variant: "gold"},
		"plan of another":        {reason: openfeature.UnknownReason, variant: "basic"},
		"plan without attribute": {reason: openfeature.UnknownReason, variant: "basic"},
		"weight":                 {reason: openfeature.UnknownReason, variant: "0.25"},
		"weight without key":     {reason: openfeature.ErrorReason, code: openfeature.TargetingKeyMissingCode},
		"limit":                  {reason: openfeature.UnknownReason, variant: "100"},
		"limit as text":          {reason: openfeature.UnknownReason, variant: "100"},
		"theme":                  {reason: openfeature.UnknownReason, variant: "blue"},
		"theme as text":          {reason: openfeature.UnknownReason, variant: "blue"},
		"plan as boolean":        {reason: openfeature.ErrorReason, code: openfeature.TypeMismatchCode},
		"no such flag":           {reason: openfeature.ErrorReason, code: openfeature.FlagNotFoundCode},
	},
	differs: map[string]any{"weight without key": 0.75, "limit as text": "100", "theme as text": "blue"},
	limits: map[limit]string{
		noProvider: "the provider of Split does not resolve",
		noNumber:   "a treatment is text",
		noObject:   "the configuration of a treatment is text",
		noStatic:   "the client gives no reason",
		noEvent:    "the client tells nobody of a change",
		noHurry:    "the client refuses to look at its file more often than every five seconds",
		noKeyless:  "the client refuses an empty key",
	},
}

func openSplit(t *testing.T) (openfeature.FeatureProvider, control) {
	path := filepath.Join(t.TempDir(), "flags.json")
	set := func(t *testing.T, on bool) { replace(t, path, splitFlags(on)) }
	set(t, false)
	cfg := conf.Default()
	cfg.SplitFile = path
	cfg.LocalhostRefreshEnabled = true
	cfg.TaskPeriods.SplitSync = 5
	cfg.LoggerConfig.LogLevel = logging.LevelNone
	factory, err := splitclient.NewSplitFactory(conf.Localhost, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := factory.BlockUntilReady(int(patience.Seconds())); err != nil {
		t.Fatal(err)
	}
	return onSplit{factory, factory.Client()}, set
}

// splitFlags returns the content of the file. Without a seed of its own, a flag gets one at random whenever the file is read.
func splitFlags(on bool) string {
	flags := []string{
		splitFlag("on", splitAll("on")),
		splitFlag("off", splitAll("off")),
		splitFlag("plan", `{"conditionType": "ROLLOUT", "label": "pro", "matcherGroup": {"combiner": "AND", "matchers": [
			{"keySelector": {"trafficType": "user", "attribute": "plan"}, "matcherType": "WHITELIST",
				"whitelistMatcherData": {"whitelist": ["pro"]}}]},
			"partitions": [{"treatment": "gold", "size": 100}]}, `+splitAll("basic")),
		splitFlag("weight", splitAll("0.25")),
		splitFlag("limit", splitAll("100")),
		splitFlag("theme", splitAll("blue")),
		splitFlag("half", splitAll("on", "off")),
		splitFlag("switch", splitAll(onOff(on))),
	}
	all := strings.Join(flags, ",\n")
	return fmt.Sprintf(`{"ff": {"s": -1, "t": 1, "d": [%s]}, "rbs": {"s": -1, "t": -1, "d": []}}`, all)
}

func splitFlag(name, conditions string) string {
	return fmt.Sprintf(`{"name": %q, "trafficTypeName": "user", "trafficAllocation": 100, "trafficAllocationSeed": 1, "seed": 2,
		"algo": 2, "status": "ACTIVE", "killed": false, "defaultTreatment": "off", "changeNumber": 1,
		"configurations": {"blue": "{\"color\": \"blue\", \"size\": 3}"}, "conditions": [%s]}`, name, conditions)
}

// splitAll returns a condition that gives every key one of the treatments, with equal shares.
func splitAll(treatments ...string) string {
	partitions := make([]string, len(treatments))
	for i, treatment := range treatments {
		partitions[i] = fmt.Sprintf(`{"treatment": %q, "size": %d}`, treatment, 100/len(treatments))
	}
	return fmt.Sprintf(`{"conditionType": "ROLLOUT", "label": "all", "partitions": [%s],
		"matcherGroup": {"combiner": "AND", "matchers": [{"keySelector": {"trafficType": "user"}, "matcherType": "ALL_KEYS"}]}}`,
		strings.Join(partitions, ", "))
}
