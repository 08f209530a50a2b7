package session_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/session"
)

// An older version keeps what a newer one has written, key by key and member by member, in old/new/old mixes.
func TestVersionsKeepWhatTheyDoNotKnow(t *testing.T) {
	type oldAddress struct{ City string }
	type oldUser struct {
		Name    string     `json:"name"`
		Address oldAddress `json:"address"`
	}
	type newAddress struct {
		oldAddress
		Zip string
	}
	type newUser struct {
		Name    string     `json:"name"`
		MFA     bool       `json:"mfa"`
		Address newAddress `json:"address"`
	}
	store := session.Dir(t.TempDir())
	older, newer := newSite(store, session.Options{}), newSite(store, session.Options{})
	older.handle("/user", func(r *http.Request) (string, error) {
		return "", session.Update(r.Context(), func(v *session.Values) error {
			var u oldUser
			if _, err := v.Get("user", &u); err != nil {
				return err
			}
			u.Name += "o"
			u.Address.City = "Ulm"
			return v.Put("user", u)
		})
	})
	newer.handle("/user", func(r *http.Request) (string, error) {
		return "", session.Update(r.Context(), func(v *session.Values) error {
			var u newUser
			if _, err := v.Get("user", &u); err != nil {
				return err
			}
			u.Name += "n"
			u.MFA = true
			u.Address.Zip = "1 < 2"
			return v.Put("user", &u)
		})
	})
	newer.handle("/check", func(r *http.Request) (string, error) {
		u, _, err := session.Get[newUser](r.Context(), "user")
		text, _ := json.Marshal(u)
		return string(text), err
	})
	v := newVisitor(t, older)
	for _, s := range []*site{older, newer, older, older, newer, older} {
		v = v.with(s)
		v.get("/user")
		v.get("/count")
	}
	v = v.with(newer)
	v.get("/renew") // Renew copies, it does not re-encode
	v.want("/check", `{"name":"onoono","mfa":true,"address":{"City":"Ulm","Zip":"1 \u003c 2"}}`)
	v.want("/count", "7")
}

// A custom value says itself what is written.
type custom struct{ A int }

func (c *custom) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, `{"a":%d}`, c.A), nil }

// What a struct does not know is carried over, what it knows and leaves out is gone.
func TestMembersAreCarriedOver(t *testing.T) {
	type inner struct{ A int }
	type embedded struct{ E int }
	type known struct {
		embedded
		A     int `json:"a,omitempty"`
		B     *inner
		C     map[string]inner
		Dash  int `json:"-"`
		L     []inner
		T     time.Time
		low   int
		Other inner `json:"other"`
	}
	_ = known{}.low
	type loop struct {
		*loop
		A int
	}
	_ = loop{}.loop
	tests := map[string]struct {
		old, fresh, want string
		value            any
	}{
		"Unknown":    {`{"x":1,"a":2}`, `{"a":3}`, `{"a":3,"x":1}`, known{}},
		"Pointer":    {`{"x":1}`, `{}`, `{"x":1}`, &known{}},
		"LeftOut":    {`{"a":2}`, `{}`, `{}`, known{}},
		"AnyCase":    {`{"A":2,"E":1}`, `{}`, `{}`, known{}},
		"Nested":     {`{"B":{"x":1,"A":2}}`, `{"B":{"A":3}}`, `{"B":{"A":3,"x":1}}`, known{}},
		"InMap":      {`{"C":{"k":{"x":1},"gone":{}}}`, `{"C":{"k":{}}}`, `{"C":{"k":{"x":1}}}`, known{}},
		"Dash":       {`{"Dash":1}`, `{}`, `{"Dash":1}`, known{}},
		"Unexported": {`{"low":1}`, `{}`, `{"low":1}`, known{}},
		"List":       {`{"L":[{"x":1}]}`, `{"L":[{"A":1}]}`, `{"L":[{"A":1}]}`, known{}},
		"Marshaler":  {`{"x":1}`, `"2006-01-02T15:04:05Z"`, `"2006-01-02T15:04:05Z"`, time.Time{}},
		"Custom":     {`{"x":1}`, `{"a":1}`, `{"a":1}`, &custom{}},
		"CustomIn":   {`{"k":{"x":1}}`, `{"k":{"a":1}}`, `{"k":{"a":1}}`, map[string]custom{}},
		"Raw":        {`{"x":1}`, `{}`, `{}`, json.RawMessage{}},
		"Map":        {`{"x":1}`, `{}`, `{}`, map[string]int{}},
		"AnyMap":     {`{"x":{"y":1}}`, `{"x":{}}`, `{"x":{}}`, map[string]any{}},
		"Null":       {`{"x":1}`, `null`, `null`, (*known)(nil)},
		"Nil":        {`{"x":1}`, `null`, `null`, nil},
		"WasNull":    {`null`, `{"a":1}`, `{"a":1}`, known{}},
		"WasText":    {`"text"`, `{"a":1}`, `{"a":1}`, known{}},
		"Number":     {`1`, `2`, `2`, 2},
		"Recursive":  {`{"x":1,"A":1}`, `{"A":2}`, `{"A":2,"x":1}`, loop{}},
		"Exact":      {`{"x":123456789012345678901234567890.10}`, `{}`, `{"x":123456789012345678901234567890.10}`, known{}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := session.Carry(test.old, test.fresh, test.value); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

// To drop what a struct does not know, delete the key first.
func TestADeletedKeyCarriesNothing(t *testing.T) {
	s := dirSite(t)
	s.handle("/replace", func(r *http.Request) (string, error) {
		if err := session.Put(r.Context(), "k", map[string]int{"A": 1, "B": 2}); err != nil {
			return "", err
		}
		err := session.Update(r.Context(), func(v *session.Values) error {
			v.Delete("k")
			return v.Put("k", struct{ A int }{3})
		})
		if err != nil {
			return "", err
		}
		m, _, err := session.Get[map[string]int](r.Context(), "k")
		if !reflect.DeepEqual(m, map[string]int{"A": 3}) {
			t.Errorf("%v", m)
		}
		return "", err
	})
	newVisitor(t, s).get("/replace")
}

// An envelope of a format that this version does not read is an error, an addition to it is kept.
func TestEnvelopesAreVersioned(t *testing.T) {
	kept := `{"created":12,"format":1,"gone":5,"later":{"b":"<&>","a":1.0},"renewed":true,"values":{"k":[1, 2],"n":1e400}}`
	got, err := session.Recode([]byte(kept))
	if want := strings.Replace(kept, "[1, 2]", "[1,2]", 1); string(got) != want || err != nil {
		t.Errorf("%s, %v", got, err)
	}
	for _, bad := range []string{
		"", "null", "[]", "{}", `{"format":2}`, `{"format":0}`, `{"format":"1"}`, `{"format":1,"values":[]}`, `{"format":1`,
		`{"format":1,"created":"x"}`, `{"format":1} x`,
	} {
		if _, err := session.Recode([]byte(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

// What can be read once can be read again, with the same members.
func FuzzEnvelope(f *testing.F) {
	for _, seed := range []string{
		`{"format":1,"created":1,"values":{"a":1}}`, `{"format":1,"x":{},"values":null}`, `{"format":1,"gone":-5}`, `{`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		once, err := session.Recode(data)
		if err != nil {
			return
		}
		twice, err := session.Recode(once)
		if err != nil || string(once) != string(twice) {
			t.Fatalf("%s became %s, %v", once, twice, err)
		}
		var before, after map[string]json.RawMessage
		json.Unmarshal(data, &before)
		json.Unmarshal(once, &after)
		for name := range before {
			if _, ok := after[name]; !ok && name != "gone" && name != "renewed" {
				t.Fatalf("%q was lost from %s", name, data)
			}
		}
	})
}
