package flagd_test

import (
	"testing"

	"github.com/midair-go/midair/flags/internal/flagd"
	"github.com/open-feature/go-sdk/openfeature"
)

// free are rules that allocate nothing.
var free = []string{
	`{"if":[{"==":[{"var":"s"},"abc"]},"a","b"]}`,
	`{"if":[{"===":[{"var":"n"},2]},"a","b"]}`,
	`{"if":[{"!=":[{"var":"s"},7]},"a","b"]}`,
	`{"if":[{"<":[{"var":"s"},7]},"a","b"]}`,
	`{"if":[{"<":["word",7]},"a","b"]}`,
	`{"if":[{"<=":[1,{"var":"n"},3]},"a","b"]}`,
	`{"if":[{"in":["b",{"var":"s"}]},"a","b"]}`,
	`{"if":[{"in":[{"var":"s"},["x","y","abc"]]},"a","b"]}`,
	`{"if":[{"in":[{"var":"s"},["1","2","3","4","5","6","7","8","abc"]]},"a","b"]}`,
	`{"if":[{"in":["y",{"var":"words"}]},"a","b"]}`,
	`{"if":[{"in":[3,{"var":"nums"}]},"a","b"]}`,
	`{"if":[{"starts_with":[{"var":"s"},"ab"]},"a","b"]}`,
	`{"if":[{"ends_with":[{"var":"s"},"bc"]},"a","b"]}`,
	`{"if":[{"sem_ver":[{"var":"ver"},">=","1.2.0"]},"a","b"]}`,
	`{"if":[{"sem_ver":[{"var":"ver"},"~",{"var":"ver"}]},"a","b"]}`,
	`{"if":[{">":[{"+":[{"var":"n"},1,{"%":[7,2]}]},{"max":[1,{"var":"n"}]}]},"a","b"]}`,
	`{"if":[{"and":[{"or":[false,{"var":"t"}]},{"!":[{"var":"missing"}]}]},"a","b"]}`,
	`{"var":["missing","a"]}`,
	`{"if":[{"var":"o.k"},"a","b"]}`,
	`{"if":[{"var":"items.1.qty"},"a","b"]}`,
	`{"fractional":[["a",10],["b",90]]}`,
	`{"fractional":[{"var":"s"},["a",10],["b",90]]}`,
	`{"fractional":[{"var":"s"},["a",{"var":"n"}],["b",{"*":[{"var":"n"},9]}]]}`,
	`{"fractional":[{"var":"s"},[{"if":[{"var":"t"},"a","b"]},1],["b",9]]}`,
	`{"if":[{"fractional":[[true,1],[false,1]]},"a","b"]}`,
	`{"if":[{">":[{"var":"$flagd.timestamp"},1]},"a","b"]}`,
	`{"if":[{"==":[{"var":"$flagd.flagKey"},"f"]},"a","b"]}`,
}

// Neither a caller of the package nor a client of the SDK pays for these rules with an allocation.
func TestRulesAllocateNothing(t *testing.T) {
	a := attrs{}
	for k, v := range data {
		a[k] = v
	}
	flat := openfeature.FlattenedContext(a)
	flat[openfeature.TargetingKey] = "user-1"
	for _, r := range free {
		for _, bucketing := range []string{flagd.FractionalV1, flagd.FractionalV2, flagd.FractionalV3} {
			f := served(t, parseWith(t, rule(r), flagd.Options{Bucketing: bucketing}), "f")
			for _, e := range []flagd.Env{env("user-1", data), {Flat: flat}} {
				if _, err := f.Target(e); err != nil {
					t.Errorf("%s: %v", r, err)
				}
				if n := testing.AllocsPerRun(100, func() { _, _ = f.Target(e) }); n != 0 {
					t.Errorf("%s with %s: %v allocations", r, bucketing, n)
				}
			}
		}
	}
	for _, r := range []string{`{"fractional":[{"var":"n"},["a",1],["b",1]]}`, `{"fractional":[{"var":"half"},["a",1],["b",1]]}`, `{"fractional":[{"var":"t"},["a",1]]}`} {
		f := served(t, parseWith(t, rule(r), flagd.Options{Bucketing: flagd.FractionalV3}), "f")
		e := env("", data)
		if n := testing.AllocsPerRun(100, func() { _, _ = f.Target(e) }); n != 0 {
			t.Errorf("%s: %v allocations", r, n)
		}
	}
}

func BenchmarkTarget(b *testing.B) {
	for _, c := range []struct{ name, rule string }{
		{"equal", free[0]}, {"in", free[7]}, {"sem_ver", free[13]}, {"fractional", free[20]}, {"computed", free[22]},
		{"cat", `{"fractional":[{"cat":[{"var":"$flagd.flagKey"},{"var":"s"}]},["a",10],["b",90]]}`},
		{"loop", `{"if":[{"some":[{"var":"items"},{"==":[{"var":"name"},"q"]}]},"a","b"]}`},
		{"all", `{"if":[{"and":[{"in":[{"var":"s"},["x","abc"]]},{"sem_ver":[{"var":"ver"},">=","1.2.0"]}]},{"fractional":[["a",10],["b",90]]},"b"]}`},
	} {
		b.Run(c.name, func(b *testing.B) {
			f, e := served(b, parse(b, rule(c.rule)), "f"), env("user-1", data)
			b.ReportAllocs()
			for b.Loop() {
				_, _ = f.Target(e)
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	content := many(10_000)
	b.SetBytes(int64(len(content)))
	b.ReportAllocs()
	for b.Loop() {
		parse(b, string(content))
	}
}
