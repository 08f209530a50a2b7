package versions

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/session"
)

type (
	a    struct{ A int }
	ab   struct{ A, B int }
	base struct{ A int }
	from struct{ Name string }
	to   struct{ Title string }
	id   struct{ ID uint64 }
	note struct {
		Text string
		Next *note
	}
	noted struct {
		Text string
		Seen bool
		Next *noted
	}
	color string
)

// A celsius says itself what is written: {"degrees":n}.
type celsius struct{ Degrees int }

func (c celsius) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, `{"degrees":%d}`, c.Degrees), nil
}

// A coin is written as text.
type coin struct{ cents int }

func (c coin) MarshalText() ([]byte, error) { return strconv.AppendInt(nil, int64(c.cents), 10), nil }

func (c *coin) UnmarshalText(text []byte) (err error) {
	c.cents, err = strconv.Atoi(string(text))
	return err
}

var noon = time.Date(2026, 11, 30, 12, 0, 0, 123456789, time.FixedZone("", 3600))

func changes() []change {
	return []change{
		fits("FieldAdded", a{1}, func(n *ab) { n.B = 2 }),
		fits("FieldRemoved", ab{1, 2}, func(*a) {}),
		fits("FieldRenamed", from{"x"}, func(n *to) { n.Title = "y" }),
		fits("TypeRenamed", a{1}, func(*base) {}),
		fits("IntWidened", int8(7), func(*int64) {}),
		fits("IntToFloat", 7, func(*float64) {}),
		fits("StructToMap", ab{1, 2}, func(n *map[string]any) { (*n)["C"] = true }),
		fits("MapToStruct", map[string]int{"A": 1, "B": 2}, func(*a) {}),
		fits("ToPointer", ab{1, 2}, func(**a) {}),
		fits("FlatToEmbedded", ab{1, 2}, func(*struct {
			base
			B int
			C string `json:"c"`
		}) {
		}),
		fits("NestedFieldAdded", struct{ In a }{a{1}}, func(n *struct{ In ab }) { n.In.B = 2 }),
		fits("DeepFieldAdded", note{"x", &note{"y", nil}}, func(n *noted) { n.Seen, n.Next.Seen = true, true }),
		fits("InMapFieldAdded", map[string]a{"x": {1}, "y": {2}}, func(n *map[string]ab) { (*n)["y"] = ab{2, 3} }),
		fits("OmitEmptyAdded", struct{ A, B int }{0, 1}, func(*struct {
			A, B int `json:",omitempty"`
		}) {
		}),
		fits("NullStays", struct{ P *a }{}, func(n *struct {
			P *ab
			Q int
		}) {
			n.Q = 1
		}),
		fits("BigNumber", id{1<<63 + 1}, func(n *struct {
			ID json.Number
			X  string
		}) {
			n.X = "x"
		}),
		fits("BigNumberUnknown", struct {
			A  int
			ID json.Number
		}{1, "123456789012345678901234567890.10"}, func(*a) {}),
		fits("TimeToText", noon.UTC(), func(*string) {}),
		fits("BytesToText", []byte{0, 255}, func(*string) {}),
		fits("NamedText", "red", func(*color) {}),
		fits("TagInAnotherCase", from{"x"}, func(*struct {
			Name string `json:"name"`
		}) {
		}),
		fits("HTMLInText", struct{ A, Text string }{"", "<a&b>\u2028"}, func(*struct{ A string }) {}),
		fits("CustomToStruct", celsius{20}, func(*struct{ Degrees int }) {}),
		fits("TextToCustom", "250", func(*coin) {}),
		fits("RawKept", json.RawMessage(`{"A":[1,{"x":null}],"Z":1}`), func(*struct{ Z int }) {}),
		misfits("IntToText", 7, "seven"),
		misfits("TextToList", "x", []string{"x", "y"}),
		misfits("ListToMap", []int{1}, map[string]int{"a": 1}),
		misfits("TimeToNumber", noon, int64(1)),
		misfits("StructToCustomText", a{1}, coin{5}),
		misfits("NumberTooLarge", 300, int8(-1)).only(),
		misfits("FloatToInt", 1.5, 1).only(),
	}
}

// only is for a change where the old version reads what the new one writes.
func (c change) only() change {
	c.oneWay = true
	return c
}

// "Old -> new -> old over 20 payload changes: 0 errors to the user, 0 lost keys": keys of each version that the other one does
// not know, and a counter of both, are there after each change, and Renew copies all of them.
func TestTwoVersionsShareASession(t *testing.T) {
	all := changes()
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) {
			store := session.Dir(t.TempDir())
			v := &visitor{t: t}
			old, new := program{session.NewManager(store, quiet), v}, program{session.NewManager(store, quiet), v}
			old.must("a key of the old version", put("old", "1 < 2"))
			new.must("a key of the new version", put("new", []int{1, 2}))
			c.run(t, c, old, new)
			for _, p := range []program{old, new, old} {
				p.must("a counter of both", func(v *session.Values) error {
					var n int
					_, err := v.Get("n", &n)
					return errors.Join(err, v.Put("n", n+1))
				})
			}
			new.must("at the end", func(v *session.Values) error {
				var text string
				var list []int
				var n int
				_, e1 := v.Get("old", &text)
				_, e2 := v.Get("new", &list)
				_, e3 := v.Get("n", &n)
				if got := fmt.Sprint(text, list, n); got != "1 < 2[1 2] 3" {
					t.Errorf("the other keys: %s", got)
				}
				return errors.Join(e1, e2, e3)
			})
		})
	}
	t.Logf("%d changes", len(all))
	if len(all) < 20 {
		t.Error("fewer than 20")
	}
}

// What the text of Values.Put says about lists: an old version that rewrites a list drops the members of its elements that it
// does not know, and nothing of the other version outside of the list.
func TestElementsOfListsAreRewritten(t *testing.T) {
	store := session.Dir(t.TempDir())
	v := &visitor{t: t}
	old, new := program{session.NewManager(store, quiet), v}, program{session.NewManager(store, quiet), v}
	new.must("the new version writes", put("k", struct {
		Items []ab
		Total int
	}{[]ab{{1, 2}}, 3}))
	old.must("the old version rewrites", rewrite[struct{ Items []a }])
	new.must("the new version reads", func(v *session.Values) error {
		var raw json.RawMessage
		_, err := v.Get("k", &raw)
		if !strings.Contains(string(raw), `"Total":3`) {
			t.Errorf("%s", raw)
		}
		return err
	})
}
