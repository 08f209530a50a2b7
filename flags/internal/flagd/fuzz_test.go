package flagd_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/flags/internal/flagd"
)

func seeds(f *testing.F) {
	for _, s := range []string{
		``, `{`, `{}`, `{"flags":{}}`, `null`, `[[[[`, "flags:\n", "\ufeff{\"flags\":[]}", kinds, with(`{"if":[{}, 1]}`),
		`{"flags":[{"key":"f","state":"ENABLED","variants":{"a":1}},{"key":"f"},3]}`,
		rule(`{"if":[{"in":[{"var":"s"},["a","b"]]},"a",{"fractional":[["b",1],["c",{"var":"n"}]]}]}`),
		rule(`{"fractional":[{"cat":[{"var":"$flagd.flagKey"},{"var":"o.p"}]},["a",2147483647]]}`),
		rule(`{"fractional":[{"var":"o"},["a",-1],["b",1.5],[{"var":"s"}]]}`),
		rule(`{"fractional":{"merge":[[["a",1]],[["b"]]]}}`),
		rule(`{"sem_ver":[{"var":"s"},"^","v1.2.3-a.1+b"]}`),
		rule(`{"if":[{"some":[{"var":"l"},{"all":[{"var":"l"},{">":[{"+":[{"var":""},{"var":"n"}]},{"/":[1,0]}]}]}]},{"substr":["abc",{"var":"n"},-1]}]}`),
		rule(`{"reduce":[{"map":[{"filter":[{"var":"l"},{"var":""}]},{"%":[{"var":""},2]}]},{"cat":[{"var":"accumulator"},{"var":"accumulator"},{"var":"current.x"}]},"a"]}`),
		rule(`{"none":[{"missing":["a","s"]},{"missing_some":[1,["a"]]}]}`),
		rule(`{"max":{"var":"l"}}`), rule(`{"==":{"var":"l"}}`), rule(`{"var":{"var":"l"}}`), rule(`[{"var":""}]`), rule(`"a"`),
		`{"metadata":{"midair.bucketing":"flagd/fractional-v3"},` + rule(`{"fractional":[{"var":""},["a",1],["b",1]]}`)[1:],
		`{"metadata":{"midair.bucketing":"flagd/fractional-v1"},` + rule(`{"fractional":[["a",1],["b",-1]]}`)[1:],
		`{"$evaluators":{"e":{"<":[1,{"var":"n"},3]}},` + rule(`{"and":[{"$ref":"e"},"a"]}`)[1:],
		`{"$evaluators":{"e":{"$ref":"e"}},` + rule(`{"$ref":"e"}`)[1:],
	} {
		f.Add([]byte(s), "u1", `{"s":"a","n":2,"o":{"p":"x"},"l":[1,2,"3",[4]]}`)
	}
}

// Whatever is in the file and in the context, nothing panics, nothing takes long, the errors are those that are
// documented, and a flag can be written down and read again.
func FuzzParse(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, content []byte, key, callers string) {
		if len(content) > 1<<16 || len(callers) > 1<<14 {
			return
		}
		began := time.Now()
		d, err := flagd.Parse(content, flagd.Options{})
		if err != nil {
			if strings.Contains(err.Error(), "the library failed") {
				t.Fatal(err)
			}
			return
		}
		var a attrs
		_ = json.Unmarshal([]byte(callers), &a)
		e := env(key, a)
		for name, flag := range d.Flags {
			if flag.Key != name {
				t.Fatalf("%q is called %q", name, flag.Key)
			}
			again := parse(t, string(flag.Definition()))
			if again.Flags[name] == nil || !again.Flags[name].Same(flag) {
				t.Fatalf("%s is another flag: %v", flag.Definition(), again.Faults)
			}
			if !flag.Targeted() {
				continue
			}
			v, err := flag.Target(e)
			if err != nil && !errors.Is(err, flagd.ErrChoice) && !errors.Is(err, flagd.ErrRule) {
				t.Fatal(err)
			}
			if v != nil && flag.Variant(v.Name) != v {
				t.Fatalf("%q is not a variant of its flag", v.Name)
			}
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Fatalf("it takes %v", took)
		}
	})
}
