package otelcanary_test

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/canary/otelcanary"
	"github.com/midair-go/midair/internal/testutil"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// TestMain fails if a goroutine, a descriptor or a child is left when all tests are over.
func TestMain(m *testing.M) { testutil.Main(m, nil) }

// A span keeps its attributes.
type span struct {
	noop.Span
	recording bool
	attrs     map[string]any
}

func (s *span) IsRecording() bool { return s.recording }

func (s *span) SetAttributes(attrs ...attribute.KeyValue) {
	for _, a := range attrs {
		s.attrs[string(a.Key)] = a.Value.AsInterface()
	}
}

// serve passes a request with a span through the router, and returns the attributes of the span.
func serve(rt http.Handler, recording bool) map[string]any {
	s := &span{recording: recording, attrs: map[string]any{}}
	r := httptest.NewRequest("GET", "/", nil)
	rt.ServeHTTP(httptest.NewRecorder(), r.WithContext(trace.ContextWithSpan(r.Context(), s)))
	return s.attrs
}

// The span of a request says which side has answered it, in which version and generation of the program.
func TestSpanNamesTheSideThatAnswered(t *testing.T) {
	fine := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	bad := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("bad") })
	for name, c := range map[string]struct {
		weight     float64
		canary     http.Handler
		rollout    string
		version    string
		generation int
		want       map[string]any
	}{
		"stable": {0, fine, "cart", "v2", 3, map[string]any{"midair.side": "stable", "midair.rollout": "cart", "midair.version": "v2", "midair.generation": int64(3), "midair.rescued": false}},
		"canary": {1, fine, "cart", "", 0, map[string]any{"midair.side": "canary", "midair.rollout": "cart", "midair.rescued": false}},
		"rescued": {1, bad, "cart", "v2", 1, map[string]any{"midair.side": "stable", "midair.rollout": "cart", "midair.version": "v2",
			"midair.generation": int64(1), "midair.rescued": true}},
	} {
		t.Run(name, func(t *testing.T) {
			rt := canary.NewRouter(fine, c.canary, canary.Options{
				Weight: canary.Fixed(c.weight), Rescue: &canary.Rescue{}, Observe: otelcanary.Spans(c.rollout, c.version, c.generation),
			})
			if got := serve(rt, true); !maps.Equal(got, c.want) {
				t.Errorf("the span has %v, want %v", got, c.want)
			}
			if got := serve(rt, false); len(got) != 0 {
				t.Errorf("a span that is not recorded has %v", got)
			}
		})
	}
}

// A request without a recorded span costs no allocation.
func TestRequestWithoutASpanCostsNoAllocation(t *testing.T) {
	observe := otelcanary.Spans("cart", "v2", 1)
	o := canary.Outcome{Request: httptest.NewRequest("GET", "/", nil)}
	if n := testing.AllocsPerRun(100, func() { observe(o) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// The attributes of a span belong together: with two routers in a request, the rescue of one is not that of the other.
func TestSpanOfTwoRoutersMixesNoRollouts(t *testing.T) {
	fine := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	bad := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("bad") })
	inner := canary.NewRouter(fine, bad, canary.Options{
		Weight: canary.Fixed(1), Rescue: &canary.Rescue{}, Observe: otelcanary.Spans("inner", "", 0),
	})
	outer := canary.NewRouter(inner, fine, canary.Options{Observe: otelcanary.Spans("outer", "", 0)})
	got := serve(outer, true)
	if got["midair.rollout"] == "outer" && got["midair.rescued"] != false {
		t.Errorf("the span says that outer was rescued: %v", got)
	}
}
