package flags_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/flags"
)

// positive refuses numbers below 1.
var positive = flags.VarOptions[int]{Validate: func(n int) error {
	if n < 1 {
		return fmt.Errorf("%d is not positive", n)
	}
	return nil
}}

// look writes a content and looks at the file.
func look(t testing.TB, f *flags.Flags, path, content string) {
	t.Helper()
	replace(t, path, content)
	f.Check()
}

// A value is decoded as the type says. What is no value of the type is refused, and the default stays.
func TestVarDecodes(t *testing.T) {
	decodes(t, `3`, 3, -1)
	decodes(t, `3.0`, 3, -1)
	decodes(t, `3e2`, 300, -1)
	decodes(t, `-3`, -3, -1)
	decodes(t, `3.5`, -1, -1)
	decodes(t, `1e300`, -1, -1)
	decodes(t, `true`, -1, -1)
	decodes(t, `"3"`, -1, -1)
	decodes(t, `9007199254740993`, int64(9007199254740993), -1)
	decodes(t, `300`, int8(-1), -1)
	decodes(t, `-3`, uint(1), 1)
	decodes(t, `0.25`, 0.25, -1)
	decodes(t, `3`, 3.0, -1)
	decodes(t, `"x"`, "x", "default")
	decodes(t, `3`, "default", "default")
	decodes(t, `false`, false, true)
	decodes(t, `"1m30s"`, 90*time.Second, -1)
	decodes(t, `1000`, 1000*time.Nanosecond, -1)
	decodes(t, `1e9`, time.Second, -1)
	decodes(t, `"soon"`, -1, time.Duration(-1))
	decodes(t, `"10"`, -1, time.Duration(-1))
	decodes(t, `"10.0.0.1"`, netip.MustParseAddr("10.0.0.1"), netip.Addr{})
	decodes(t, `"10.0.0"`, netip.Addr{}, netip.Addr{})
	type limits struct {
		A, B int
		Wait string
	}
	decodes(t, `{"a": 1, "wait": "x", "more": 3}`, limits{A: 1, Wait: "x"}, limits{B: 7})
	decodes(t, `{"a": "x"}`, limits{B: 7}, limits{B: 7})
}

func decodes[T comparable](t *testing.T, value string, want, def T) {
	t.Helper()
	f := serve(t, set(plain("v", value)))
	v := flags.NewVar(f, "v", def, flags.VarOptions[T]{})
	mustBe(t, value, v.Get(), want)
	refused := strings.Contains(warned(f), "is refused")
	mustBe(t, value+" is refused", refused, want == def)
}

// A Decode of the program decides alone.
func TestVarDecodesByTheProgram(t *testing.T) {
	f, path := served(t, set(text("v", "a,b")), flags.Options{})
	v := flags.NewVar(f, "v", []string{"default"}, flags.VarOptions[[]string]{Decode: func(data []byte) ([]string, error) {
		if list, ok := strings.CutPrefix(string(data), `"`); ok {
			return strings.Split(strings.TrimSuffix(list, `"`), ","), nil
		}
		return nil, errors.New("no list")
	}})
	mustBe(t, "the value", strings.Join(v.Get(), "+"), "a+b")
	look(t, f, path, set(plain("v", "3")))
	mustBe(t, "the value", strings.Join(v.Get(), "+"), "a+b")
	mustHold(t, warned(f), path, "flag v: the value 3 is refused: no list")
}

// A bad value is refused: the last good one stays for the Var and for all handles, and other flags change. Then a good one counts.
func TestABadValueLeavesTheLastGoodOne(t *testing.T) {
	for what, bad := range map[string]string{
		"not valid": plain("n", "-5"), "another type": text("n", "x"), "no whole number": plain("n", "5.5"),
		"targeting": `"n": {"state": "ENABLED", "variants": {"v": 7, "w": 8}, "defaultVariant": "v", "targeting": {"if": [{"==": [{"var": "a"}, 1]}, "w"]}}`,
	} {
		t.Run(what, func(t *testing.T) {
			f, path := served(t, set(plain("n", "3"), text("a", "1")), flags.Options{})
			v, h := flags.NewVar(f, "n", 9, positive), f.IntFlag("n", -1)
			for i := range 3 {
				look(t, f, path, set(bad, text("a", fmt.Sprint(i))))
				must(t, f, "a="+fmt.Sprint(i))
				mustBe(t, "the Var", v.Get(), 3)
				mustBe(t, "a handle", h.Get(context.Background()), 3)
				mustBe(t, "by name", f.Int(context.Background(), "n", -1), 3)
				mustHold(t, warned(f), path, "flag n: ", "refused")
			}
			late := flags.NewVar(f, "n", 9, positive)
			mustBe(t, "a later Var", late.Get(), 3)
			look(t, f, path, set(plain("n", "4")))
			mustBe(t, "the Var", v.Get(), 4)
			mustBe(t, "a handle", h.Get(context.Background()), 4)
			mustBe(t, "the warnings", warned(f), "")
		})
	}
}

// A flag that is missing, disabled or without a default variant is the default of the Var, and no error.
func TestVarWithoutAValue(t *testing.T) {
	f, path := served(t, set(plain("n", "3")), flags.Options{})
	v := flags.NewVar(f, "n", 9, positive)
	for what, content := range map[string]string{
		"missing": set(), "disabled": set(strings.Replace(plain("n", "3"), "ENABLED", "DISABLED", 1)),
		"no default": set(`"n": {"state": "ENABLED", "variants": {"v": 3}}`),
	} {
		look(t, f, path, content)
		mustBe(t, what, v.Get(), 9)
		mustBe(t, what+": the warnings", warned(f), "")
		look(t, f, path, set(plain("n", "3")))
		mustBe(t, "again", v.Get(), 3)
	}
	look(t, f, path, set())
	look(t, f, path, set(plain("n", "-5"))) // what the flag was before stays: it was not there
	mustBe(t, "the Var", v.Get(), 9)
	mustBe(t, "a handle", f.Int(context.Background(), "n", -1), -1)
	look(t, f, path, set(faulty("n")))
	mustBe(t, "the Var of a faulty flag", v.Get(), 9)
}

// A flag with a guard has no value for everybody. Its Var has the default, and the guard stays.
func TestVarOfAGuardedFlag(t *testing.T) {
	var j journal
	f, _ := served(t, file("off"), flags.Options{Logger: j.logger(), Guards: []flags.Guard{flags.Guarded("cart", func() float64 { return 1 })}})
	v := flags.NewVar(f, "cart", true, flags.VarOptions[bool]{})
	mustBe(t, "the Var", v.Get(), true)
	mustHold(t, warned(f), "flag cart: it is refused: it has a guard")
	mustBe(t, "the flag", f.BoolFlag("cart", false).Details(as("ann")).Variant, "on")
	data, err := f.MarshalBinary()
	check(t, err)
	check(t, f.UnmarshalBinary(data))
	mustBe(t, "the flag", f.BoolFlag("cart", false).Details(as("ann")).Variant, "on")
	mustBe(t, "the number of lines", strings.Count(strings.Join(j.lines(), "\n"), "it has a guard"), 1)
}

// All Vars of a flag agree: what one of them refuses, none takes, whatever their order is.
func TestVarsOfTheSameFlagAgree(t *testing.T) {
	f, path := served(t, set(plain("n", "3"), plain("m", "3")), flags.Options{})
	calls := 0
	all := []*flags.Var[int]{
		flags.NewVar(f, "n", 9, flags.VarOptions[int]{OnChange: func(int, int) { calls++ }}), flags.NewVar(f, "n", 9, positive),
		flags.NewVar(f, "n", 9, flags.VarOptions[int]{}),
	}
	type pair struct {
		N int `flag:"n"`
		M int `flag:"m"`
	}
	both, err := flags.Bind(f, pair{}, flags.VarOptions[pair]{})
	check(t, err)
	look(t, f, path, set(plain("n", "-5"), plain("m", "4")))
	for i, v := range all {
		mustBe(t, fmt.Sprint("Var ", i), v.Get(), 3)
	}
	mustBe(t, "the struct", both.Get(), pair{3, 4})
	look(t, f, path, set(plain("n", "5"), plain("m", "5")))
	mustBe(t, "the struct", both.Get(), pair{5, 5})
	mustBe(t, "the first", all[0].Get(), 5)
	check(t, f.Close())
	if calls > 1 {
		t.Errorf("%d calls of OnChange", calls)
	}
}

// The last good value survives an upgrade, also if the file was bad in the new process from its start, whether the Var is made
// before the state of the old process comes or after it.
func TestTheLastGoodValueSurvivesAnUpgrade(t *testing.T) {
	f, path := served(t, set(plain("n", "3"), text("a", "1")), flags.Options{})
	flags.NewVar(f, "n", 9, positive)
	before, err := f.MarshalBinary() // as if the file had changed after that
	check(t, err)
	look(t, f, path, set(plain("n", "-5"), text("a", "2")))
	refused, err := f.MarshalBinary()
	check(t, err)
	for what, data := range map[string][]byte{"the refusal was seen": refused, "the file has changed since": before} {
		for _, late := range []bool{true, false} {
			g := open(t, path, flags.Options{})
			var v *flags.Var[int]
			if !late {
				v = flags.NewVar(g, "n", 9, positive)
				mustBe(t, what+": before", v.Get(), 9)
			}
			check(t, g.UnmarshalBinary(data))
			if late {
				v = flags.NewVar(g, "n", 9, positive)
			}
			for range 2 {
				mustBe(t, what+": the Var", v.Get(), 3)
				mustBe(t, what+": a handle", g.IntFlag("n", -1).Get(context.Background()), 3)
				must(t, g, "a=2")
				check(t, g.UnmarshalBinary(refused))
				check(t, g.Ready(context.Background()))
			}
			third := &tree{Flags: g, t: t, base: path}
			last := third.next(flags.Options{})
			mustBe(t, what+": one more upgrade", flags.NewVar(last, "n", 9, positive).Get(), 3)
			replace(t, path+".2", set(plain("n", "4")))
			look(t, g, path, set(plain("n", "4")))
			mustBe(t, what+": mended", v.Get(), 4)
			replace(t, path, set(plain("n", "-5"), text("a", "2")))
		}
	}
}

// A record keeps the calls of OnChange.
type record struct {
	mu  sync.Mutex
	all []string
}

func (r *record) add(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, text)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.all, " ")
}

func (r *record) of(name string) func(old, new int) {
	return func(old, new int) { r.add(fmt.Sprintf("%s:%d>%d", name, old, new)) }
}

// OnChange is told each change once, in order, with the value of the last call; and nothing if nothing has changed. In a bubble of
// synctest, all calls have ended when Wait returns.
func TestOnChangeIsToldEachChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, path := served(t, set(plain("n", "1"), plain("m", "1")), flags.Options{})
		var r record
		n := flags.NewVar(f, "n", 9, flags.VarOptions[int]{OnChange: r.of("n"), Validate: positive.Validate})
		flags.NewVar(f, "m", 9, flags.VarOptions[int]{OnChange: r.of("m")})
		step := func(content, want string) {
			t.Helper()
			look(t, f, path, content)
			synctest.Wait()
			mustBe(t, content, r.String(), strings.TrimSpace(want))
			r.all = nil
		}
		step(set(plain("n", "1"), plain("m", "1"), text("a", "new")), "")
		step(set(plain("n", "2"), plain("m", "1")), "n:1>2")
		step(set(plain("n", "2.0"), plain("m", "1")), "")
		step(set(plain("n", "-5"), plain("m", "1")), "")
		step(set(plain("n", "-6"), plain("m", "2")), "m:1>2")
		step(set(plain("n", "3"), plain("m", "3")), "n:2>3 m:2>3")
		step(set(), "n:3>9 m:3>9")
		step("{", "")
		step(set(plain("n", "9")), "")
		mustBe(t, "the value", n.Get(), 9)
	})
}

// The first values that there are, are a change too.
func TestOnChangeIsToldTheFirstValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := t.TempDir() + "/flags.json"
		f := open(t, path, flags.Options{})
		var r record
		flags.NewVar(f, "n", 9, flags.VarOptions[int]{OnChange: r.of("n")})
		look(t, f, path, set(plain("n", "1")))
		synctest.Wait()
		mustBe(t, "the calls", r.String(), "n:9>1")
	})
}

// While OnChange runs, changes gather: the next call has the last value only, and none comes for a value that is back. Close waits
// for the call, and there is none after it.
func TestOnChangeThatIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, path := served(t, set(plain("n", "1")), flags.Options{})
		var r record
		release := make(chan struct{})
		flags.NewVar(f, "n", 9, flags.VarOptions[int]{OnChange: func(old, new int) {
			r.of("n")(old, new)
			<-release
		}})
		flags.NewVar(f, "n", 9, flags.VarOptions[int]{OnChange: r.of("second")})
		for _, n := range []string{"2", "3", "4"} {
			look(t, f, path, set(plain("n", n)))
			synctest.Wait()
		}
		mustBe(t, "the calls", r.String(), "n:1>2")
		release <- struct{}{}
		synctest.Wait()
		mustBe(t, "the calls", r.String(), "n:1>2 second:1>4 n:2>4")
		look(t, f, path, set(plain("n", "5")))
		look(t, f, path, set(plain("n", "4")))
		release <- struct{}{}
		synctest.Wait()
		mustBe(t, "the calls", r.String(), "n:1>2 second:1>4 n:2>4")
		look(t, f, path, set(plain("n", "6")))
		synctest.Wait()
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			check(t, f.Close())
		}()
		synctest.Wait()
		select {
		case <-closed:
			t.Fatal("Close has not waited for OnChange")
		default:
		}
		release <- struct{}{}
		<-closed
		mustBe(t, "the calls", r.String(), "n:1>2 second:1>4 n:2>4 n:4>6")
		look(t, f, path, set(plain("n", "7")))
		synctest.Wait()
		mustBe(t, "the calls after Close", r.String(), "n:1>2 second:1>4 n:2>4 n:4>6")
	})
}

// A panic in OnChange costs only the call, and the goroutine goes on.
func TestOnChangeThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		f, path := served(t, set(plain("n", "1")), flags.Options{Logger: j.logger()})
		var r record
		bad := func(int, int) { panic("the pool is gone") }
		flags.NewVar(f, "n", 9, flags.VarOptions[int]{OnChange: bad})
		flags.NewVar(f, "n", 9, flags.VarOptions[int]{OnChange: bad, Secret: true})
		flags.NewVar(f, "n", 9, flags.VarOptions[int]{OnChange: r.of("n")})
		look(t, f, path, set(plain("n", "2")))
		synctest.Wait()
		look(t, f, path, set(plain("n", "3")))
		synctest.Wait()
		mustBe(t, "the calls", r.String(), "n:1>2 n:2>3")
		all := strings.Join(j.lines(), "\n")
		mustHold(t, all, "OnChange has panicked", "key=n")
		mustBe(t, "panics that are told", strings.Count(all, "the pool is gone"), 2)
		mustBe(t, "panics that are hidden", strings.Count(all, "panic=(secret)"), 2)
	})
}

// OnChange may use the Flags like everybody else.
func TestOnChangeMayUseTheFlags(t *testing.T) {
	f, path := served(t, set(plain("n", "1")), flags.Options{})
	done := make(chan error, 10)
	flags.NewVar(f, "n", 9, flags.VarOptions[int]{OnChange: func(_, n int) {
		f.Status()
		f.Weight("w", 0)
		f.IntFlag("n", 0).Get(context.Background())
		data, err := f.MarshalBinary()
		late := flags.NewVar(f, "n", 9, flags.VarOptions[int]{OnChange: func(int, int) {}})
		if got := late.Get(); got != n {
			err = fmt.Errorf("a Var says %d, OnChange %d", got, n)
		}
		done <- errors.Join(err, f.Reload(), f.Ready(context.Background()), f.UnmarshalBinary(data))
	}})
	look(t, f, path, set(plain("n", "2")))
	select {
	case err := <-done:
		check(t, err)
	case <-time.After(10 * time.Second):
		t.Fatal("OnChange does not come to its end")
	}
}

// A panic in Decode and Validate is a refusal.
func TestDecodeAndValidateThatPanic(t *testing.T) {
	f, path := served(t, set(plain("n", "1")), flags.Options{})
	bad := func(n int) {
		if n < 0 {
			panic("below zero")
		}
	}
	v := flags.NewVar(f, "n", 9, flags.VarOptions[int]{Validate: func(n int) error { bad(n); return nil }})
	d := flags.NewVar(f, "n", 9, flags.VarOptions[int]{Decode: func(data []byte) (n int, err error) {
		_, err = fmt.Sscan(string(data), &n)
		bad(n)
		return n, err
	}})
	look(t, f, path, set(plain("n", "-1")))
	mustBe(t, "the Vars", v.Get()+d.Get(), 2)
	mustHold(t, warned(f), "flag n: the value -1 is refused: panic: below zero")
	look(t, f, path, set(plain("n", "2")))
	mustBe(t, "the Vars", v.Get()+d.Get(), 4)
}

// A function that waits for the Flags is a deadlock that the log tells. Evaluations go on.
func TestValidateThatDoesNotReturnIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		f, path := served(t, set(plain("n", "1")), flags.Options{Logger: j.logger(), Name: "shop"})
		release := make(chan struct{})
		v := flags.NewVar(f, "n", 9, flags.VarOptions[int]{Validate: func(n int) error {
			if n == 2 {
				<-release
			}
			return nil
		}})
		done := make(chan struct{})
		go func() {
			defer close(done)
			look(t, f, path, set(plain("n", "2")))
		}()
		time.Sleep(9 * time.Second)
		synctest.Wait()
		mustBe(t, "the lines about it", strings.Count(strings.Join(j.lines(), "\n"), "has not returned"), 0)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		mustHold(t, strings.Join(j.lines(), "\n"), "level=ERROR", "Decode or Validate of a Var has not returned", "name=shop")
		mustBe(t, "the Var", v.Get(), 1)
		mustBe(t, "a flag", f.Int(context.Background(), "n", -1), 1)
		close(release)
		<-done
		mustBe(t, "the Var", v.Get(), 2)
	})
}

// Each change is a line with the old and the new value. A secret is in no line, in no warning and not in Status, and neither are
// texts of errors that have it in them.
func TestChangesAreLoggedWithoutSecrets(t *testing.T) {
	var j journal
	f, path := served(t, set(text("dsn", "hunter1"), plain("n", "1")), flags.Options{Logger: j.logger()})
	bad := func(s string) error {
		if strings.HasPrefix(s, "bad") {
			return fmt.Errorf("cannot use %q", s)
		}
		return nil
	}
	v := flags.NewVar(f, "dsn", "hunter0", flags.VarOptions[string]{Secret: true, Validate: bad})
	flags.NewVar(f, "dsn", "hunter0", flags.VarOptions[string]{Secret: true, Decode: func(data []byte) (string, error) {
		if s := strings.Trim(string(data), `"`); strings.HasPrefix(s, "worse") {
			panic(s)
		}
		return "", fmt.Errorf("cannot read %s", data)
	}})
	flags.NewVar(f, "n", 0, flags.VarOptions[int]{})
	flags.NewVar(f, "wait", time.Second, flags.VarOptions[time.Duration]{Secret: true})
	for _, dsn := range []string{"hunter2", "bad-hunter3", "worse-hunter4", "hunter5"} {
		look(t, f, path, set(text("dsn", dsn), plain("n", fmt.Sprint(len(dsn))), text("wait", "hunter6")))
		if all := fmt.Sprintf("%+v", f.Status()); strings.Contains(all, "hunter") {
			t.Errorf("Status: %s", all)
		}
		mustHold(t, warned(f), "flag dsn: the value (secret) is refused", "flag wait: the value (secret) is refused")
	}
	mustBe(t, "the value", v.Get(), "hunter5") // the second Var refuses all values, so nothing is put back for it
	all := strings.Join(j.lines(), "\n")
	mustHold(t, all, "key=n old=1 new=7", "key=n old=7 new=11", "key=n old=13 new=7")
	if strings.Contains(all, "hunter") {
		t.Errorf("the log: %s", all)
	}
}

// A long value is cut in the log.
func TestLongValuesAreCut(t *testing.T) {
	var j journal
	f, path := served(t, set(text("v", "x")), flags.Options{Logger: j.logger()})
	flags.NewVar(f, "v", "", flags.VarOptions[string]{})
	look(t, f, path, set(text("v", "x"+strings.Repeat("é", 1000))))
	all := strings.Join(j.lines(), "\n")
	mustHold(t, all, "old=x new=xé", "…")
	if strings.Contains(all, strings.Repeat("é", 300)) || strings.Contains(all, "\uFFFD") || strings.Contains(all, `\x`) {
		t.Errorf("the log: %s", all)
	}
}

// Vars, handles and weights may be made while the file changes, while states come, and while others read. Each has the values of the
// file, and no call of OnChange has a value that is in no file.
func TestVarsMayBeMadeDuringReloads(t *testing.T) {
	content := func(n int) string { return set(plain("n", fmt.Sprint(n)), plain("w", fmt.Sprint("0.", n))) }
	f, path := served(t, content(1), flags.Options{})
	state, err := f.MarshalBinary()
	check(t, err)
	good := func(n int) bool { return n == 1 || n == 2 }
	opts := flags.VarOptions[int]{OnChange: func(old, new int) {
		if !good(old) || !good(new) || old == new {
			t.Errorf("OnChange(%d, %d)", old, new)
		}
	}}
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			for i := range 50 {
				v, h := flags.NewVar(f, "n", -1, opts), f.IntFlag(fmt.Sprint("n", i), -1)
				w := f.Weight("w", -1)()
				if !good(v.Get()) || !good(v.In(f.Renew(context.Background()))) || h.Get(context.Background()) != -1 || w != 0.1 && w != 0.2 {
					t.Errorf("the Var %d, the weight %v", v.Get(), w)
				}
				f.Status()
				if err := f.UnmarshalBinary(state); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 100 {
		look(t, f, path, []string{content(1), content(2), set(plain("n", `"x"`), plain("w", "0.1")), "{"}[i%4])
	}
	all.Wait()
	for range 2 {
		all.Go(func() { check(t, f.Close()) })
	}
	all.Wait()
	late := flags.NewVar(f, "n", -1, opts) // after Close, a Var has the last values
	mustBe(t, "a Var after Close", good(late.Get()), true)
}
