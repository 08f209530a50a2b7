package flags_test

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/midair-go/midair/flags"
	"github.com/open-feature/go-sdk/openfeature"
)

func seeds(f *testing.F) {
	for _, s := range []string{
		``, `{`, `{}`, `{"flags":{}}`, `null`, `[[[[`, file("on"), file("purple"), number("1e400"), kinds,
		rule(`{"if":[{"in":[{"var":"s"},["a","b"]]},"a",{"fractional":[["b",1],["c",{"var":"n"}]]}]}`),
		rule(`{"fractional":[{"cat":[{"var":"$flagd.flagKey"},{"var":"o.p"}]},["a",2147483647]]}`),
		`{"$evaluators":{"e":{"<":[1,{"var":"n"},3]}},` + rule(`{"and":[{"$ref":"e"},"a"]}`)[1:],
		`{"$evaluators":{"e":{"$ref":"e"}},` + rule(`{"$ref":"e"}`)[1:],
	} {
		f.Add([]byte(s), "u1", `{"s":"a","n":2,"o":{"p":"x"}}`)
	}
}

// Whatever is in the file and in the context, nothing panics, and what is taken can be evaluated: the handle agrees with
// the SDK's view, and the errors are those that are documented.
func FuzzFile(f *testing.F) {
	path := filepath.Join(f.TempDir(), "flags.json")
	ff := open(f, path, flags.Options{})
	seeds(f)
	f.Fuzz(func(t *testing.T, content []byte, key, attrs string) {
		if len(content) > 1<<16 {
			return
		}
		err := flags.Compile(content)
		if err != nil && strings.Contains(err.Error(), "the library failed") {
			t.Fatal(err)
		}
		replace(t, path, string(content))
		ff.Check()
		state := ff.Status()
		if (err == nil) != (state.State == "ready") {
			t.Fatalf("compile: %v, state: %s", err, state.State)
		}
		if err != nil {
			return
		}
		var m map[string]any
		_ = json.Unmarshal([]byte(attrs), &m)
		ctx := flags.With(context.Background(), key, m)
		for _, name := range []string{"f", "cart", "targeted", "w"} {
			d := ff.StringFlag(name, "default").Details(ctx)
			if errors.Is(d.ResolutionError, flags.ErrPanic) {
				t.Fatal(d.ResolutionError)
			}
			flat := openfeature.FlattenedContext(openfeature.TransactionContext(ctx).Attributes())
			if key != "" {
				flat[openfeature.TargetingKey] = key
			}
			if p := ff.Provider().StringEvaluation(ctx, name, "default", flat); p.Value != d.Value || p.Reason != d.Reason {
				t.Fatalf("%s: %+v and %+v", name, p, d)
			}
		}
	})
}

// Whatever another generation sends, nothing panics, and what is taken is what it sent.
func FuzzKept(f *testing.F) {
	f.Add(kept(f, file("on")))
	f.Add(kept(f, `{"flags":{}}`))
	f.Add([]byte("midair-flags\x00\x01"))
	f.Add([]byte{})
	path := filepath.Join(f.TempDir(), "none.json")
	f.Fuzz(func(t *testing.T, data []byte) {
		ff := open(t, path, flags.Options{})
		for _, d := range [][]byte{data, resum(append(data[:len(data):len(data)], make([]byte, 32)...))} {
			if ff.UnmarshalBinary(d) == nil && ff.Status().Kept && ff.Ready(context.Background()) != nil {
				t.Fatal("taken, but not ready")
			}
		}
	})
}
