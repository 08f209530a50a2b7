package vendors

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/open-feature/go-sdk/openfeature"
)

// patience is how long a product may take to start, to see a change and to end.
const patience = 20 * time.Second

// A vendor is a product for feature flags that runs in this process, without its server. Every vendor holds the same flags, in
// the format of the product:
//
//	on      a boolean, true for everybody
//	off     a boolean, false for everybody
//	plan    a string: "gold" if the attribute plan is "pro", else "basic"
//	weight  0.25
//	limit   100
//	theme   an object: the color "blue" and the size 3
//	half    a boolean, true for half of the targeting keys
//	switch  a boolean, false until the control turns it on; ConfigCat has none
type vendor struct {
	name string
	// open starts the product and returns its provider. The end of the test ends both.
	open func(t *testing.T) (openfeature.FeatureProvider, control)
	// details are what the vendor says beside the value, by the name of the question.
	details map[string]details
	// differs are the values in which the vendor differs from the others, by the name of the question. A limit tells why.
	differs map[string]any
	// limits are what the product or its provider cannot do, with the reason.
	limits map[limit]string
	// leaks are the functions of the product whose goroutines outlive the provider, with the reason.
	leaks map[string]string
}

// A control turns the flag switch on or off while the provider runs. The call returns at once: the provider sees the change
// later. The control is nil if the product cannot change a flag without its server.
type control func(t *testing.T, on bool)

// A limit is something that a product or its provider cannot do.
type limit string

const (
	noChange   limit = "no flag changes while the provider runs"
	noEvent    limit = "no event tells of a change"
	noNames    limit = "the event of a change names no flags"
	noHurry    limit = "a change is seen after five seconds"
	noStatic   limit = "no reason tells a flag that is the same for everybody from the other flags"
	noKeyless  limit = "an evaluation without a targeting key gives the default"
	noNumber   limit = "the format has text in place of numbers"
	noObject   limit = "the format has text in place of objects"
	noTypes    limit = "a flag that holds text is a boolean as well"
	noProvider limit = "no provider resolves: the adapter is ours"
)

var vendors = []vendor{launchDarkly, configCat, flagd, goFeatureFlag, unleashClient, splitClient}

// An answer is what an API returns for a question.
type answer struct {
	value any
	details
}

// details are what comes beside a value.
type details struct {
	reason  openfeature.Reason
	variant string
	code    openfeature.ErrorCode
}

// A question asks for one flag. The type of def is the type of the getter.
type question struct {
	name  string
	flag  string
	def   any    // not the value of the flag, so that no answer is right by accident
	who   string // the targeting key; empty means none
	attrs map[string]any
}

var questions = []question{
	{name: "on", flag: "on", def: false, who: "ann"},
	{name: "off", flag: "off", def: true, who: "ann"},
	{name: "plan of a pro", flag: "plan", def: "none", who: "ann", attrs: map[string]any{"plan": "pro"}},
	{name: "plan of another", flag: "plan", def: "none", who: "joe", attrs: map[string]any{"plan": "free"}},
	{name: "plan without attribute", flag: "plan", def: "none", who: "joe"},
	{name: "weight", flag: "weight", def: 0.75, who: "ann"},
	{name: "weight without key", flag: "weight", def: 0.75},
	{name: "limit", flag: "limit", def: int64(7), who: "ann"},
	{name: "limit as text", flag: "limit", def: "none", who: "ann"},
	{name: "theme", flag: "theme", def: map[string]any{"color": "red"}, who: "ann"},
	{name: "theme as text", flag: "theme", def: "none", who: "ann"},
	{name: "plan as boolean", flag: "plan", def: false, who: "ann"},
	{name: "no such flag", flag: "nothing", def: true, who: "ann"},
}

// values are the right values. For any other question the right value is the default.
var values = map[string]any{
	"on": true, "off": false, "plan of a pro": "gold", "plan of another": "basic", "plan without attribute": "basic",
	"weight": 0.25, "weight without key": 0.25, "limit": int64(100), "theme": map[string]any{"color": "blue", "size": 3.0},
}

// want returns the right value of the answer to a question.
func (v vendor) want(q question) any {
	for _, m := range []map[string]any{v.differs, values} {
		if value, ok := m[q.name]; ok {
			return value
		}
	}
	return q.def
}

// eachVendor runs a test for every vendor through every API.
func eachVendor(t *testing.T, test func(t *testing.T, v vendor, a asker, set control)) {
	for _, v := range vendors {
		for name, through := range apis {
			t.Run(v.name+" through "+name, func(t *testing.T) {
				t.Parallel()
				provider, set := v.open(t)
				test(t, v, through(t, provider), set)
			})
		}
	}
}

// Every vendor gives the same values for the same flags, with reasons and variants of its own.
func TestVendorsAgree(t *testing.T) {
	eachVendor(t, func(t *testing.T, v vendor, a asker, _ control) {
		for _, q := range questions {
			got, want := a.ask(q), answer{v.want(q), v.details[q.name]}
			if a.bare {
				want.details = details{}
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s:\n got %#v\nwant %#v", q.name, got, want)
			}
		}
	})
}

// The limits in the table are real: a vendor that overcomes one fails, so that the table is changed.
func TestVendorsHaveTheirLimits(t *testing.T) {
	for _, v := range vendors {
		for limit, real := range map[limit]bool{
			noKeyless: v.differs["weight without key"] != nil,
			noNumber:  v.differs["limit as text"] != nil,
			noObject:  v.differs["theme as text"] != nil,
			noTypes:   v.differs["plan as boolean"] != nil,
			noStatic:  v.details["on"].reason != openfeature.StaticReason,
		} {
			if reason := v.limits[limit]; (reason != "") != real {
				t.Errorf("%s: %s: %v in the table of answers, %q in the table of limits", v.name, limit, real, reason)
			}
		}
	}
}

// A share of half puts about half of the keys on each side, and a key stays on its side.
func TestVendorsKeepKeyOnItsSide(t *testing.T) {
	const keys = 1000
	eachVendor(t, func(t *testing.T, _ vendor, a asker, _ control) {
		on := 0
		for i := range keys {
			q := question{flag: "half", def: false, who: fmt.Sprint("user-", i)}
			first := a.ask(q)
			q.def, q.attrs = true, map[string]any{"plan": "pro"}
			if again := a.ask(q); !reflect.DeepEqual(again, first) {
				t.Errorf("%s: %#v, then %#v", q.who, first, again)
			}
			if first.value == true {
				on++
			}
		}
		if on < keys*43/100 || on > keys*57/100 {
			t.Errorf("%d of %d keys are on", on, keys)
		}
	})
}

// A flag changes while the provider runs, and an event tells of the change, for the vendors that can.
func TestVendorsFollowChange(t *testing.T) {
	eachVendor(t, func(t *testing.T, v vendor, a asker, set control) {
		if _, never := v.limits[noChange]; never != (set == nil) {
			t.Fatalf("the table says that flags never change: %v, there is no control: %v", never, set == nil)
		}
		if set == nil {
			t.Skip(v.limits[noChange])
		}
		turns := []bool{true, false, true}
		if _, late := v.limits[noHurry]; late {
			turns = turns[:1]
		}
		for _, on := range turns {
			q := question{flag: "switch", def: on, who: "ann"}
			if got := a.ask(q).value; got != !on {
				t.Fatalf("the switch is %v before it is turned", got)
			}
			q.def = !on
			set(t, on)
			testutil.Until(t, patience, fmt.Sprint("the switch to be ", on), func() bool { return a.ask(q).value == on })
			v.mustTell(t, a.changes)
		}
	})
}

// mustTell fails if no event tells of the change of the switch alone, or if any does although the table says that none comes.
func (v vendor) mustTell(t *testing.T, changes <-chan []string) {
	t.Helper()
	if _, never := v.limits[noEvent]; never {
		if len(changes) > 0 {
			t.Errorf("an event names %q", <-changes)
		}
		return
	}
	want := []string{"switch"}
	if _, nameless := v.limits[noNames]; nameless {
		want = nil
	}
	var seen [][]string // flagd also tells of its first look at the file
	for {
		select {
		case keys := <-changes:
			if slices.Equal(keys, want) {
				return
			}
			seen = append(seen, keys)
		case <-time.After(patience):
			t.Fatalf("events name %q, want %q", seen, want)
		}
	}
}

// replace puts content into the file at path, in one step.
func replace(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// onOff returns the name of the variant in the formats that name the values of a boolean.
func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}
