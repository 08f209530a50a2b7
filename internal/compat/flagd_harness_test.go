package compat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/midair-go/midair/flags"
	process "github.com/open-feature/go-sdk-contrib/providers/flagd/pkg/service/in_process"
	"github.com/open-feature/go-sdk/openfeature"
)

// flagdProvider evaluates with flagd's provider in its file mode. It is the provider's in-process service, which does all of
// the work; the provider's own shell around the service leaves a goroutine behind after Shutdown.
type flagdProvider struct{ s *process.InProcess }

var _ openfeature.FeatureProvider = flagdProvider{}

// newFlagd follows the file at path until Shutdown of the service. What flagd logs is lost: a line for each rule that fails.
func newFlagd(path string) (flagdProvider, error) {
	stderr := os.Stderr
	os.Stderr = nowhere() // the service takes it when it is made, there is no option
	s := process.NewInProcessService(process.Configuration{OfflineFlagSource: path})
	os.Stderr = stderr
	return flagdProvider{s}, s.Init()
}

// nowhere is a file that forgets what is written. Each write fails, which is cheaper than the null device.
var nowhere = sync.OnceValue(func() *os.File { return os.NewFile(^uintptr(0), "nowhere") })

func (p flagdProvider) Metadata() openfeature.Metadata { return openfeature.Metadata{Name: "flagd"} }
func (p flagdProvider) Hooks() []openfeature.Hook      { return nil }

func (p flagdProvider) BooleanEvaluation(ctx context.Context, key string, def bool, ec openfeature.FlattenedContext) openfeature.BoolResolutionDetail {
	return p.s.ResolveBoolean(ctx, key, def, ec)
}

func (p flagdProvider) StringEvaluation(ctx context.Context, key, def string, ec openfeature.FlattenedContext) openfeature.StringResolutionDetail {
	return p.s.ResolveString(ctx, key, def, ec)
}

func (p flagdProvider) FloatEvaluation(ctx context.Context, key string, def float64, ec openfeature.FlattenedContext) openfeature.FloatResolutionDetail {
	return p.s.ResolveFloat(ctx, key, def, ec)
}

func (p flagdProvider) IntEvaluation(ctx context.Context, key string, def int64, ec openfeature.FlattenedContext) openfeature.IntResolutionDetail {
	return p.s.ResolveInt(ctx, key, def, ec)
}

func (p flagdProvider) ObjectEvaluation(ctx context.Context, key string, def any, ec openfeature.FlattenedContext) openfeature.InterfaceResolutionDetail {
	return p.s.ResolveObject(ctx, key, def, ec)
}

// both are both evaluators on one flag file.
type both struct {
	flags        *flags.Flags
	ours, theirs openfeature.FeatureProvider
	close        func()
}

// writeFlags makes a flag file of what file says.
func writeFlags(t testing.TB, file map[string]any) string {
	t.Helper()
	content, err := json.MarshalIndent(file, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "flags.json")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// openBoth opens the file with both evaluators. close ends them before the test does.
func openBoth(t testing.TB, file map[string]any) (b both, err error) {
	t.Helper()
	path := writeFlags(t, file)
	f, err := flags.Open(path, flags.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return b, err
	}
	if err := f.Ready(t.Context()); err != nil {
		return b, errors.Join(fmt.Errorf("flags refuses the file: %w", err), f.Close())
	}
	theirs, err := newFlagd(path)
	if err != nil {
		return b, errors.Join(fmt.Errorf("flagd refuses the file: %w", err), f.Close())
	}
	return both{flags: f, ours: f.Provider(), theirs: theirs, close: func() { _ = f.Close(); theirs.s.Shutdown() }}, nil
}

// outcome is what an evaluation gave.
type outcome struct {
	value    any
	variant  string
	reason   openfeature.Reason
	code     openfeature.ErrorCode
	metadata openfeature.FlagMetadata
}

// fallback is the caller's default for a getter. No generated variant has one of these values.
var fallback = map[string]any{"boolean": true, "string": "the default", "float": -77.5, "int": int64(-77), "object": map[string]any{"default": true}}

// evaluate asks the provider for the flag through the getter of that name.
func evaluate(p openfeature.FeatureProvider, getter, key string, ec openfeature.FlattenedContext) outcome {
	ctx := context.Background()
	switch getter {
	case "boolean":
		return outcomeOf(p.BooleanEvaluation(ctx, key, fallback[getter].(bool), ec))
	case "string":
		return outcomeOf(p.StringEvaluation(ctx, key, fallback[getter].(string), ec))
	case "float":
		return outcomeOf(p.FloatEvaluation(ctx, key, fallback[getter].(float64), ec))
	case "int":
		return outcomeOf(p.IntEvaluation(ctx, key, fallback[getter].(int64), ec))
	}
	return outcomeOf(openfeature.GenericResolutionDetail[any](p.ObjectEvaluation(ctx, key, fallback[getter], ec)))
}

func outcomeOf[T any](d openfeature.GenericResolutionDetail[T]) outcome {
	r := d.ResolutionDetail()
	return outcome{value: d.Value, variant: d.Variant, reason: d.Reason, code: r.ErrorCode, metadata: d.FlagMetadata}
}

// same reports whether two outcomes agree. After an error the variant is not compared: flagd leaves it in place for a wrong
// type, where OpenFeature's hooks.feature wants none.
func (o outcome) same(other outcome) bool {
	return o.reason == other.reason && o.code == other.code && (o.code != "" || o.variant == other.variant) &&
		reflect.DeepEqual(o.value, other.value) && sameMetadata(o.metadata, other.metadata)
}

func sameMetadata(a, b openfeature.FlagMetadata) bool {
	return len(a) == 0 && len(b) == 0 || reflect.DeepEqual(a, b)
}

// brief is the outcome for messages and for classes: the error code, or the variant, or the reason.
func (o outcome) brief() string {
	switch {
	case o.code != "":
		return string(o.code)
	case o.variant != "" && o.reason == openfeature.TargetingMatchReason:
		return "variant " + o.variant
	}
	return string(o.reason)
}

// asJSON shows a part of a flag file or a context.
func asJSON(x any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(x); err != nil {
		return err.Error()
	}
	return strings.TrimSpace(b.String())
}
