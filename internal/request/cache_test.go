package request_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/midair-go/midair/internal/request"
)

// What a handler says about caches stays, and all of it is in one line if something was added.
func TestPresentLinesStay(t *testing.T) {
	vary := []string{"Canary, Cookie"}
	for _, test := range []struct{ present, vary, cookie, private []string }{
		{nil, []string{"Canary, Cookie"}, []string{"Cookie"}, []string{"private"}},
		{[]string{""}, []string{"Canary, Cookie"}, []string{"Cookie"}, []string{"private"}},
		{[]string{"cookie"}, []string{"cookie, Canary"}, []string{"cookie"}, []string{"cookie, private"}},
		{[]string{"A", "b ,Cookie"}, []string{"A, b ,Cookie, Canary"}, []string{"A, b ,Cookie"}, []string{"A, b ,Cookie, private"}},
		{[]string{"public, max-age=60"}, []string{"public, max-age=60, Canary, Cookie"}, []string{"public, max-age=60, Cookie"},
			[]string{"public, max-age=60, private"}},
		{[]string{"Private"}, []string{"Private, Canary, Cookie"}, []string{"Private, Cookie"}, []string{"Private"}},
		{[]string{`private="X"`}, []string{`private="X", Canary, Cookie`}, []string{`private="X", Cookie`}, []string{`private="X", private`}},
	} {
		for name, c := range map[string]struct {
			header string
			add    func(h http.Header)
			want   []string
		}{
			"AddVary":       {"Vary", func(h http.Header) { request.AddVary(h, vary) }, test.vary},
			"AddVaryCookie": {"Vary", request.AddVaryCookie, test.cookie},
			"AddPrivate":    {"Cache-Control", request.AddPrivate, test.private},
		} {
			h := http.Header{}
			if test.present != nil {
				h[c.header] = slices.Clone(test.present)
			}
			for range 2 { // the second time changes nothing
				c.add(h)
				if !slices.Equal(h[c.header], c.want) {
					t.Errorf("%s with %q gives %q, want %q", name, test.present, h[c.header], c.want)
				}
			}
		}
	}
}

// A line that answers share is not changed by what one of them adds.
func TestSharedLinesAreNotChanged(t *testing.T) {
	shared := []string{"Canary"}
	h := http.Header{}
	request.AddVary(h, shared)
	h.Add("Vary", "Accept")
	request.AddVaryCookie(h)
	other := http.Header{}
	request.AddVary(other, shared)
	if got := other["Vary"]; !slices.Equal(got, []string{"Canary"}) || !slices.Equal(h["Vary"], []string{"Canary, Accept, Cookie"}) {
		t.Errorf("the other answer has %q, this one %q", got, h["Vary"])
	}
}

// A request that another site has made a browser send may not give the visitor another identity.
func TestWhoMayGetAnIdentity(t *testing.T) {
	for _, test := range []struct {
		method, header, value string
		want                  bool
	}{
		{"POST", "", "", true}, // not a browser
		{"POST", "Sec-Fetch-Site", "same-origin", true},
		{"POST", "Sec-Fetch-Site", "none", true},
		{"POST", "Sec-Fetch-Site", "cross-site", false},
		{"POST", "Sec-Fetch-Site", "same-site", false},
		{"POST", "Origin", "http://example.com", true}, // the host of the request
		{"POST", "Origin", "https://other.example", false},
		{"POST", "Origin", "null", false},
		{"PUT", "Sec-Fetch-Site", "cross-site", false},
		{"DELETE", "Sec-Fetch-Site", "cross-site", false},
		{"GET", "Sec-Fetch-Site", "cross-site", true}, // a link
		{"HEAD", "Origin", "https://other.example", true},
		{"OPTIONS", "Origin", "null", true},
	} {
		r := httptest.NewRequest(test.method, "/", nil)
		if test.header != "" {
			r.Header.Set(test.header, test.value)
		}
		if got := request.MaySetIdentity(r); got != test.want {
			t.Errorf("%s with %s: %s = %v", test.method, test.header, test.value, got)
		}
	}
}
