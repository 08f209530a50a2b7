package vendors

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	unleash "github.com/Unleash/unleash-go-sdk/v5"
	"github.com/open-feature/go-sdk/openfeature"
)

// unleashClient starts from a bootstrap while its server refuses every connection. For a change the server answers at last.
var unleashClient = vendor{
	name: "Unleash",
	open: openUnleash,
	details: map[string]details{
		"on":                     {reason: openfeature.UnknownReason},
		"off":                    {reason: openfeature.UnknownReason},
		"plan of a pro":          {reason: openfeature.UnknownReason, variant: "gold"},
		"plan of another":        {reason: openfeature.UnknownReason, variant: "basic"},
		"plan without attribute": {reason: openfeature.UnknownReason, variant: "basic"},
		"weight":                 {reason: openfeature.UnknownReason, variant: "quarter"},
		"weight without key":     {reason: openfeature.UnknownReason, variant: "quarter"},
		"limit":                  {reason: openfeature.UnknownReason, variant: "hundred"},
		"limit as text":          {reason: openfeature.UnknownReason, variant: "hundred"},
		"theme":                  {reason: openfeature.UnknownReason, variant: "blue"},
		"theme as text":          {reason: openfeature.UnknownReason, variant: "blue"},
		"plan as boolean":        {reason: openfeature.UnknownReason},
		"no such flag":           {reason: openfeature.ErrorReason, code: openfeature.FlagNotFoundCode},
	},
	differs: map[string]any{"limit as text": "100", "theme as text": `{"color": "blue", "size": 3}`, "plan as boolean": true},
	limits: map[limit]string{
		noProvider: "the provider of OpenFeature has no checksum that the checksum database knows",
		noNumber:   "the payload of a variant is text",
		noObject:   "the payload of a variant is text",
		noTypes:    "the client tells of any flag whether it is on",
		noStatic:   "the client gives no reason",
		noNames:    "the client says that there was an update, not of which flags",
	},
}

func openUnleash(t *testing.T) (openfeature.FeatureProvider, control) {
	server := &unleashServer{}
	provider := &onUnleash{events: make(chan openfeature.Event, 1)}
	client, err := unleash.NewClient(
		unleash.WithUrl("http://unleash.invalid/api"),
		unleash.WithHttpClient(&http.Client{Transport: server}),
		unleash.WithAppName("compat"),
		unleash.WithStorage(&unleash.BootstrapStorage{Reader: strings.NewReader(fmt.Sprintf(unleashFlags, false))}),
		unleash.WithBackupPath(t.TempDir()),
		unleash.WithRefreshInterval(20*time.Millisecond),
		unleash.WithDisableMetrics(true),
		unleash.WithListener(provider),
	)
	if err != nil {
		t.Fatal(err)
	}
	provider.client = client
	return provider, func(_ *testing.T, on bool) {
		content := fmt.Sprintf(unleashFlags, on)
		server.content.Store(&content)
	}
}

// An unleashServer stands for the server of Unleash, without a connection: it refuses as long as it has no content.
type unleashServer struct {
	content atomic.Pointer[string]
}

func (s *unleashServer) RoundTrip(r *http.Request) (*http.Response, error) {
	content := s.content.Load()
	if content == nil {
		return nil, syscall.ECONNREFUSED
	}
	etag := fmt.Sprintf("%p", content)
	if r.Header.Get("If-None-Match") == etag {
		return &http.Response{StatusCode: http.StatusNotModified, Body: http.NoBody}, nil
	}
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Etag": {etag}}, Body: io.NopCloser(strings.NewReader(*content)),
	}, nil
}

const unleashFlags = `{"version": 2, "features": [
	{"name": "on", "enabled": true, "strategies": [{"name": "default"}]},
	{"name": "off", "enabled": false, "strategies": [{"name": "default"}]},
	{"name": "plan", "enabled": true, "strategies": [
		{"name": "flexibleRollout", "parameters": {"rollout": "100", "stickiness": "default", "groupId": "plan"},
			"constraints": [{"contextName": "plan", "operator": "IN", "values": ["pro"]}],
			"variants": [{"name": "gold", "weight": 1000, "payload": {"type": "string", "value": "gold"}}]},
		{"name": "flexibleRollout", "parameters": {"rollout": "100", "stickiness": "default", "groupId": "plan"},
			"variants": [{"name": "basic", "weight": 1000, "payload": {"type": "string", "value": "basic"}}]}]},
	{"name": "weight", "enabled": true, "strategies": [{"name": "default"}],
		"variants": [{"name": "quarter", "weight": 1000, "payload": {"type": "number", "value": "0.25"}}]},
	{"name": "limit", "enabled": true, "strategies": [{"name": "default"}],
		"variants": [{"name": "hundred", "weight": 1000, "payload": {"type": "number", "value": "100"}}]},
	{"name": "theme", "enabled": true, "strategies": [{"name": "default"}],
		"variants": [{"name": "blue", "weight": 1000,
			"payload": {"type": "json", "value": "{\"color\": \"blue\", \"size\": 3}"}}]},
	{"name": "half", "enabled": true, "strategies": [
		{"name": "flexibleRollout", "parameters": {"rollout": "50", "stickiness": "userId", "groupId": "half"}}]},
	{"name": "switch", "enabled": %v, "strategies": [{"name": "default"}]}
]}`
