package vendors

import (
	"os"
	"path/filepath"
	"testing"

	configcatsdk "github.com/configcat/go-sdk/v9"
	configcat "github.com/open-feature/go-sdk-contrib/providers/configcat/pkg"
	"github.com/open-feature/go-sdk/openfeature"
)

// configCat reads its flags from a file of overrides and from nowhere else.
var configCat = vendor{
	name: "ConfigCat",
	open: openConfigCat,
	details: map[string]details{
		"on":                     {reason: openfeature.DefaultReason, variant: "on-1"},
		"off":                    {reason: openfeature.DefaultReason, variant: "off-1"},
		"plan of a pro":          {reason: openfeature.TargetingMatchReason, variant: "gold-1"},
		"plan of another":        {reason: openfeature.DefaultReason, variant: "basic-1"},
		"plan without attribute": {reason: openfeature.DefaultReason, variant: "basic-1"},
		"weight":                 {reason: openfeature.DefaultReason, variant: "weight-1"},
		"weight without key":     {reason: openfeature.DefaultReason, variant: "weight-1"},
		"limit":                  {reason: openfeature.DefaultReason, variant: "limit-1"},
		"limit as text":          {reason: openfeature.ErrorReason, code: openfeature.TypeMismatchCode},
		"theme":                  {reason: openfeature.DefaultReason, variant: "theme-1"},
		"theme as text":          {reason: openfeature.DefaultReason, variant: "theme-1"},
		"plan as boolean":        {reason: openfeature.ErrorReason, code: openfeature.TypeMismatchCode},
		"no such flag":           {reason: openfeature.ErrorReason, code: openfeature.FlagNotFoundCode},
	},
	differs: map[string]any{"theme as text": `{"color": "blue", "size": 3}`},
	limits: map[limit]string{
		noChange: "the client reads the overrides once, when it is made",
		noObject: "a setting is a boolean, a text or a number",
		noStatic: "the reason is DEFAULT, as where no rule matched",
	},
}

func openConfigCat(t *testing.T) (openfeature.FeatureProvider, control) {
	path := filepath.Join(t.TempDir(), "flags.json")
	if err := os.WriteFile(path, []byte(configCatFlags), 0o600); err != nil {
		t.Fatal(err)
	}
	client := configcatsdk.NewCustomClient(configcatsdk.Config{
		FlagOverrides: &configcatsdk.FlagOverrides{Behavior: configcatsdk.LocalOnly, FilePath: path},
		Offline:       true,
		LogLevel:      configcatsdk.LogLevelNone,
	})
	t.Cleanup(client.Close)
	return configcat.NewProvider(client), nil
}

// In the format f is the settings, t the type (0 boolean, 1 text, 2 whole number, 3 number), v a value, r the rules, p the
// shares, i the id of a variation, and the comparator 28 means "equals".
const configCatFlags = `{"p": {"s": "salt"}, "f": {
	"on":     {"t": 0, "v": {"b": true}, "i": "on-1"},
	"off":    {"t": 0, "v": {"b": false}, "i": "off-1"},
	"plan":   {"t": 1, "v": {"s": "basic"}, "i": "basic-1", "r": [{
		"c": [{"u": {"a": "plan", "c": 28, "s": "pro"}}], "s": {"v": {"s": "gold"}, "i": "gold-1"}}]},
	"weight": {"t": 3, "v": {"d": 0.25}, "i": "weight-1"},
	"limit":  {"t": 2, "v": {"i": 100}, "i": "limit-1"},
	"theme":  {"t": 1, "v": {"s": "{\"color\": \"blue\", \"size\": 3}"}, "i": "theme-1"},
	"half":   {"t": 0, "v": {"b": false}, "p": [
		{"p": 50, "v": {"b": true}, "i": "half-1"}, {"p": 50, "v": {"b": false}, "i": "half-2"}]}
}}`
