package vendors

import (
	"fmt"
	"path/filepath"
	"testing"

	flagdprovider "github.com/open-feature/go-sdk-contrib/providers/flagd/pkg"
	"github.com/open-feature/go-sdk/openfeature"
)

// flagd reads its flags from a file, which it watches.
var flagd = vendor{
	name: "flagd",
	open: openFlagd,
	details: map[string]details{
		"on":                     {reason: openfeature.StaticReason, variant: "on"},
		"off":                    {reason: openfeature.StaticReason, variant: "off"},
		"plan of a pro":          {reason: openfeature.TargetingMatchReason, variant: "gold"},
		"plan of another":        {reason: openfeature.DefaultReason, variant: "basic"},
		"plan without attribute": {reason: openfeature.DefaultReason, variant: "basic"},
		"weight":                 {reason: openfeature.StaticReason, variant: "quarter"},
		"weight without key":     {reason: openfeature.StaticReason, variant: "quarter"},
		"limit":                  {reason: openfeature.StaticReason, variant: "hundred"},
		"limit as text":          {reason: openfeature.ErrorReason, code: openfeature.TypeMismatchCode, variant: "hundred"},
		"theme":                  {reason: openfeature.StaticReason, variant: "blue"},
		"theme as text":          {reason: openfeature.ErrorReason, code: openfeature.TypeMismatchCode, variant: "blue"},
		"plan as boolean":        {reason: openfeature.ErrorReason, code: openfeature.TypeMismatchCode, variant: "basic"},
		"no such flag":           {reason: openfeature.ErrorReason, code: openfeature.FlagNotFoundCode},
	},
	leaks: map[string]string{"(*Provider).handleEvents": "it waits for events of the service, which never closes their channel"},
}

func openFlagd(t *testing.T) (openfeature.FeatureProvider, control) {
	path := filepath.Join(t.TempDir(), "flags.json")
	set := func(t *testing.T, on bool) { replace(t, path, fmt.Sprintf(flagdFlags, onOff(on))) }
	set(t, false)
	provider, err := flagdprovider.NewProvider(flagdprovider.WithFileResolver(), flagdprovider.WithOfflineFilePath(path),
		flagdprovider.WithDeadline(int(patience.Milliseconds())))
	if err != nil {
		t.Fatal(err)
	}
	return provider, set
}

const flagdFlags = `{"flags": {
	"on":     {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "on"},
	"off":    {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off"},
	"plan":   {"state": "ENABLED", "variants": {"gold": "gold", "basic": "basic"}, "defaultVariant": "basic",
		"targeting": {"if": [{"==": [{"var": "plan"}, "pro"]}, "gold"]}},
	"weight": {"state": "ENABLED", "variants": {"quarter": 0.25}, "defaultVariant": "quarter"},
	"limit":  {"state": "ENABLED", "variants": {"hundred": 100}, "defaultVariant": "hundred"},
	"theme":  {"state": "ENABLED", "variants": {"blue": {"color": "blue", "size": 3}}, "defaultVariant": "blue"},
	"half":   {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
		"targeting": {"fractional": [["on", 50], ["off", 50]]}},
	"switch": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": %q}
}}`
