package flags_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/flags"
)

type pool struct {
	Size int           `flag:"pool-size"`
	Wait time.Duration `flag:"pool-wait"`
}

type Common struct {
	Name string `flag:"name"`
}

type hidden struct {
	Level int `flag:"level"`
}

// config has all kinds of fields that Bind knows.
type config struct {
	Common
	hidden
	Pool    pool
	Max     int            `flag:"max"`
	Addr    netip.Addr     `flag:"addr"`
	Limit   *int           `flag:"limit"`
	Tags    map[string]int `flag:"tags"`
	Hosts   hosts          `flag:"hosts"`
	DSN     string         `flag:"dsn,secret"`
	Dash    bool           `flag:"-"`
	Other   []int
	private int
}

// hosts are decoded by a method.
type hosts []string

func (h *hosts) UnmarshalText(text []byte) error {
	if *h = strings.Fields(string(text)); len(*h) == 0 {
		return errors.New("no hosts")
	}
	return nil
}

func bound(t *testing.T, f *flags.Flags, def config, opts flags.VarOptions[config]) *flags.Var[config] {
	t.Helper()
	v, err := flags.Bind(f, def, opts)
	check(t, err)
	return v
}

// All fields with a tag follow their flags, also in embedded and in named structs, and all others stay as they are.
func TestBindFillsFields(t *testing.T) {
	f, path := served(t, set(text("name", "shop"), plain("level", "3"), plain("pool-size", "7"), text("pool-wait", "5s"), plain("max", "9"),
		text("addr", "10.0.0.1"), plain("limit", "4"), plain("tags", `{"a": 1}`), text("hosts", "x y"), text("dsn", "secret"), plain("-", "true")), flags.Options{})
	one := 1
	def := config{Common: Common{"def"}, Pool: pool{1, 1}, Limit: &one, Tags: map[string]int{"b": 2}, Hosts: hosts{"z", "z", "z"}, Other: []int{1}, private: 8}
	v := bound(t, f, def, flags.VarOptions[config]{})
	got := v.Get()
	mustBe(t, "the texts", got.Name+" "+got.Addr.String()+" "+strings.Join(got.Hosts, "+")+" "+got.DSN, "shop 10.0.0.1 x+y secret")
	mustBe(t, "the numbers", fmt.Sprint(got.Level, got.Pool, got.Max, *got.Limit, got.Tags, got.Dash), "3 {7 5s} 9 4 map[a:1] true")
	mustBe(t, "fields without a tag", fmt.Sprint(got.Other, got.private), "[1] 8")
	look(t, f, path, set(plain("max", "10")))
	now := v.Get()
	mustBe(t, "the defaults", fmt.Sprintln(now.Name, now.Level, now.Pool, now.Max, *now.Limit, now.Tags, now.Hosts, now.DSN, now.Dash),
		"def 0 {1 1ns} 10 1 map[b:2] [z z z]  false\n")
	mustBe(t, "what a reader still has", fmt.Sprintln(got.Name, got.Pool, *got.Limit, got.Tags, got.Hosts), "shop {7 5s} 4 map[a:1] [x y]\n")
}

// Readers have values of several moments at the same time. None of them shares anything with another one that decoding changes, nor
// with the default: the race detector would tell.
func TestValuesOfBindDoNotShare(t *testing.T) {
	one := 1
	def := config{Limit: &one, Tags: map[string]int{"b": 2}, Hosts: hosts{"z", "z"}}
	content := func(i int) string {
		return set(plain("limit", fmt.Sprint(i)), plain("tags", fmt.Sprintf(`{"k%d": %d}`, i, i)), text("hosts", fmt.Sprint("h", i)), text("pool-wait", fmt.Sprint(i, "s")))
	}
	f, path := served(t, content(1), flags.Options{})
	v := bound(t, f, def, flags.VarOptions[config]{})
	var stop atomic.Bool
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for !stop.Load() {
				c := v.Get()
				i := *c.Limit
				if len(c.Tags) != 1 || c.Tags[fmt.Sprint("k", i)] != i || len(c.Hosts) != 1 || c.Hosts[0] != fmt.Sprint("h", i) || c.Pool.Wait != time.Duration(i)*time.Second {
					t.Errorf("a mixture: %+v, limit %d", c, i)
					return
				}
			}
		})
	}
	for i := range 100 {
		look(t, f, path, content(1+i%7))
	}
	stop.Store(true)
	readers.Wait()
	mustBe(t, "the default", fmt.Sprint(*def.Limit, def.Tags, def.Hosts), "1 map[b:2] [z z]")
}

// The struct changes as a whole, and OnChange is told once. A bad value of one field, and a struct that is not valid, leave all
// fields and all handles as they were, over an upgrade too.
func TestBindChangesAsAWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		content := func(size, wait, max string) string {
			return set(plain("pool-size", size), plain("pool-wait", wait), plain("max", max))
		}
		var r record
		opts := flags.VarOptions[config]{
			Validate: func(c config) error {
				if c.Pool.Size > c.Max {
					return fmt.Errorf("the pool is larger than %d", c.Max)
				}
				return nil
			},
			OnChange: func(old, new config) {
				r.add(fmt.Sprintf("%d/%d>%d/%d", old.Pool.Size, old.Max, new.Pool.Size, new.Max))
			},
		}
		f, path := served(t, content("1", "1", "2"), flags.Options{})
		v := bound(t, f, config{}, opts)
		step := func(content, want, calls, warning string) {
			t.Helper()
			look(t, f, path, content)
			synctest.Wait()
			c := v.Get()
			mustBe(t, content, fmt.Sprint(c.Pool.Size, int64(c.Pool.Wait), c.Max), want)
			get := func(key string) int64 { return f.IntFlag(key, -1).Get(context.Background()) }
			mustBe(t, "handles for "+content, fmt.Sprint(get("pool-size"), get("pool-wait"), get("max")), want)
			mustBe(t, "the calls of OnChange for "+content, r.String(), calls)
			mustHold(t, warned(f), warning)
			r.all = nil
		}
		step(content("3", "3", "4"), "3 3 4", "1/2>3/4", "")
		step(content("5", "5", "4"), "3 3 4", "", "not told, because it may have the value in it") // config has a secret
		step(content("4", `"x"`, "5"), "3 3 4", "", `flag pool-wait: the value "x" is refused`)
		f2 := open(t, path, flags.Options{})
		v2 := bound(t, f2, config{}, flags.VarOptions[config]{Validate: opts.Validate})
		data, err := f.MarshalBinary()
		check(t, err)
		check(t, f2.UnmarshalBinary(data))
		mustBe(t, "the new process", fmt.Sprint(v2.Get().Pool, v2.Get().Max), "{3 3ns} 4")
		mustBe(t, "its handles", f2.Int(context.Background(), "max", -1), 4)
		step(content("5", "5", "6"), "5 5 6", "3/4>5/6", "")
		mustBe(t, "the warnings", warned(f), "")
	})
}

// A struct without secrets tells why it is not valid.
func TestBindTellsWhyAStructIsNotValid(t *testing.T) {
	f := serve(t, set(plain("pool-size", "3")))
	_, err := flags.Bind(f, pool{}, flags.VarOptions[pool]{Validate: func(p pool) error { return fmt.Errorf("a size of %d", p.Size) }})
	check(t, err)
	mustHold(t, warned(f), "the value {Size:3 Wait:0s} is refused: a size of 3")
}

// The log has a line for each field that has changed, and secrets are nowhere.
func TestBindLogsFieldsWithoutSecrets(t *testing.T) {
	var j journal
	f, path := served(t, set(text("dsn", "hunter1"), plain("max", "1")), flags.Options{Logger: j.logger()})
	bound(t, f, config{}, flags.VarOptions[config]{
		Validate: func(c config) error {
			if c.Max < 0 {
				return fmt.Errorf("%+v is bad", c)
			}
			return nil
		},
		OnChange: func(_, c config) { panic(c.DSN) },
	})
	for i, content := range []string{
		set(text("dsn", "hunter2"), plain("max", "2")), set(text("dsn", "hunter3"), plain("max", "-1")), set(plain("dsn", "4711"), plain("max", "3")),
		set(text("dsn", "hunter5"), plain("max", "5"), text("limit", "x")),
	} {
		look(t, f, path, content)
		if all := fmt.Sprintf("%+v", f.Status()); strings.Contains(all, "hunter") || strings.Contains(all, "4711") {
			t.Errorf("Status: %s", all)
		}
		if i > 0 {
			mustHold(t, warned(f), "is refused")
		}
	}
	look(t, f, path, set(text("dsn", "hunter6")))
	check(t, f.Close())
	all := strings.Join(j.lines(), "\n")
	mustHold(t, all, "key=max old=1 new=2", "key=dsn old=(secret) new=(secret)", "key=limit", "OnChange has panicked")
	if strings.Contains(all, "hunter") || strings.Contains(all, "4711") {
		t.Errorf("the log: %s", all)
	}
}

// Tags that make no sense are errors that name the field.
func TestBindRefusesWrongTags(t *testing.T) {
	f := serve(t, set())
	refuses[int](t, f, "it is not a struct")
	refuses[struct{ A int }](t, f, `no field has a tag such as flag:"key"`)
	refuses[struct {
		A int `flag:""`
	}](t, f, "the tag of the field A has no key")
	refuses[struct {
		A int `flag:",secret"`
	}](t, f, "the tag of the field A has no key")
	refuses[struct {
		A int `flag:"a,secrets"`
	}](t, f, `option "secrets"`)
	refuses[struct {
		A int `flag:"a,secret,x"`
	}](t, f, `option "secret,x"`)
	refuses[struct {
		A int `flag:"a,"`
	}](t, f, `option ""`)
	refuses[struct {
		a int `flag:"a"`
	}](t, f, "field a", "not exported")
	refuses[struct {
		in struct {
			A int `flag:"a"`
		}
	}](t, f, "field in.A", "not exported")
	refuses[struct {
		hidden `flag:"a"`
	}](t, f, "field hidden", "not exported")
	refuses[struct {
		A int `flag:"a"`
		B struct {
			A int `flag:"a"`
		}
	}](t, f, `two fields have the flag "a"`)
	refuses[struct {
		A int `flag:"a"`
		*Common
	}](t, f, "field Common.Name", "behind a pointer")
	refuses[struct {
		A   int `flag:"a"`
		In  struct{ P *pool }
		Own *node
	}](t, f, "field In.P.Size", "behind a pointer")
}

type node struct{ Next *node }

func refuses[T any](t *testing.T, f *flags.Flags, parts ...string) {
	t.Helper()
	var def T
	v, err := flags.Bind(f, def, flags.VarOptions[T]{})
	if err == nil || v != nil {
		t.Fatalf("%T is taken", def)
	}
	mustHold(t, err.Error(), append(parts, "flags: Bind of ")...)
}

// 10,000 Vars and as many handles cost little: to make them, and to look at a file in which one flag has changed, and at a file that
// has not changed. The times are printed; the limits are allocations for each flag, because the machine may be busy.
func TestTenThousandVars(t *testing.T) {
	const n = 10_000
	content := func(first int) string {
		all := []string{plain("f0", fmt.Sprint(first))}
		for i := 1; i < n; i++ {
			all = append(all, plain(fmt.Sprint("f", i), fmt.Sprint(i)))
		}
		return set(all...)
	}
	f, path := served(t, content(0), flags.Options{})
	decoded := 0
	opts := flags.VarOptions[int]{Validate: func(int) error { decoded++; return nil }}
	vars := make([]*flags.Var[int], n)
	timed := func(what string, most uint64, fn func()) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		fn()
		took := time.Since(start)
		runtime.ReadMemStats(&after)
		each := (after.Mallocs - before.Mallocs) / n
		if t.Logf("%s: %v, %d allocations for each flag", what, took, each); each > most {
			t.Errorf("%s: %d allocations for each flag", what, each)
		}
	}
	timed("10,000 Vars", 30, func() {
		for i := range vars {
			vars[i] = flags.NewVar(f, fmt.Sprint("f", i), -1, opts)
		}
	})
	timed("10,000 handles", 10, func() {
		for i := range n {
			f.IntFlag(fmt.Sprint("f", i), -1)
		}
	})
	mustBe(t, "the values decoded", decoded, n)
	write(t, path, content(1))
	timed("a change of one", 150, f.Check)
	mustBe(t, "the values decoded", decoded, n+1)
	timed("no change", 0, f.Check)
	mustBe(t, "the values decoded", decoded, n+1)
	for i, v := range vars {
		mustBe(t, "the value", v.Get(), max(i, 1))
	}
}

// A change of other flags leaves the pointers of a value as they are.
func TestAnUnchangedValueKeepsItsPointers(t *testing.T) {
	f, path := served(t, set(plain("limits", `{"a": 1}`)), flags.Options{})
	type limits struct{ A int }
	v := flags.NewVar(f, "limits", &limits{A: 9}, flags.VarOptions[*limits]{})
	before := v.Get()
	mustBe(t, "the value", before.A, 1)
	for _, content := range []string{set(plain("limits", `{"a": 1}`), text("b", "1")), set(plain("limits", `{"a": 1.0}`)), "{", set(plain("limits", `{"a": "x"}`))} {
		look(t, f, path, content)
		if v.Get() != before {
			t.Errorf("%s: another pointer", content)
		}
	}
	look(t, f, path, set(plain("limits", `{"a": 2}`)))
	mustBe(t, "the value", fmt.Sprint(*before, *v.Get()), "{1} {2}")
}
