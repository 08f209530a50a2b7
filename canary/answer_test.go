package canary_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"testing"

	"github.com/midair-go/midair/canary"
)

// A request that another site has made a browser send mints no id: the visitor may have a cookie that was left out. The request
// is drawn.
func TestARequestOfAnotherSiteIsDrawn(t *testing.T) {
	rt := router(canary.Options{Weight: half, Cookie: newCookie(canary.CookieOptions{})})
	v := newVisitor(t)
	known := v.visit(rt)
	for _, header := range [][2]string{
		{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://other.example"}, {"Origin", "null"},
	} {
		sides := map[string]bool{}
		for range 200 {
			r, w := request(header[0], header[1]), httptest.NewRecorder()
			r.Method = "POST"
			rt.ServeHTTP(w, r)
			sides[w.Body.String()] = true
			if got := w.Header()["Set-Cookie"]; got != nil {
				t.Fatalf("%s: %q", header, got)
			}
			r, w = request(header[0], header[1], "Cookie", "visitor="+v.cookies["visitor"]), httptest.NewRecorder()
			r.Method = "POST"
			if rt.ServeHTTP(w, r); w.Body.String() != known {
				t.Fatalf("%s: a visitor with a cookie changed sides", header)
			}
		}
		if len(sides) != 2 {
			t.Errorf("%s: all of 200 on one side", header)
		}
	}
	for _, r := range []*http.Request{
		httptest.NewRequest("POST", "/", nil), request("Sec-Fetch-Site", "cross-site"),
	} {
		w := httptest.NewRecorder()
		if rt.ServeHTTP(w, r); len(w.Result().Cookies()) != 1 {
			t.Errorf("%s: no cookie", r.Method)
		}
	}
}

// An answer with a new cookie is private, and what the handler says about caches stays.
func TestANewCookieIsPrivate(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Cache-Control"] = []string{"max-age=60", "no-transform"}
		w.Header()["Vary"] = []string{"Origin", "Accept"}
	})
	rt := canary.NewRouter(h, h, canary.Options{Weight: half, Cookie: newCookie(canary.CookieOptions{})})
	for method, vary := range map[string]string{"GET": "Origin, Accept, Cookie", "POST": "Origin"} {
		w := httptest.NewRecorder()
		rt.ServeHTTP(w, httptest.NewRequest(method, "/", nil))
		got := w.Header()
		if got.Get("Cache-Control") != "max-age=60, no-transform, private" || got.Get("Vary") != vary || len(got["Set-Cookie"]) != 1 {
			t.Errorf("%s: %v", method, got)
		}
	}
}

// Hints are not the answer: the cookie and the Vary line come after them.
func TestHintsCarryNoCookie(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusEarlyHints) })
	srv := httptest.NewServer(canary.NewRouter(h, h, canary.Options{Weight: half, Cookie: newCookie(canary.CookieOptions{})}))
	defer srv.Close()
	hints := 0
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(_ int, h textproto.MIMEHeader) error {
			hints++
			if h.Get("Set-Cookie") != "" || h.Get("Vary") != "" {
				t.Errorf("103 with %v", h)
			}
			return nil
		},
	})
	r, _ := http.NewRequestWithContext(ctx, "GET", srv.URL, nil)
	res, err := srv.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if hints != 1 || len(res.Cookies()) != 1 || res.Header.Get("Vary") != "Cookie" {
		t.Errorf("%d hints, then %v", hints, res.Header)
	}
}

// A cookie whose name cannot be sent puts nothing into the header.
func TestACookieThatCannotBeSentIsNotSet(t *testing.T) {
	rt := router(canary.Options{Weight: half, Cookie: canary.NewCookie("a b;c", canary.CookieOptions{})})
	w := httptest.NewRecorder()
	rt.ServeHTTP(w, request())
	if got, ok := w.Header()["Set-Cookie"]; ok {
		t.Errorf("Set-Cookie: %q", got)
	}
}

// If the handler panics, the answer of a handler further out has the cookie that has decided the side.
func TestANewCookieOutlivesAPanic(t *testing.T) {
	h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a bug") })
	rt := canary.NewRouter(h, h, canary.Options{Weight: half, Cookie: newCookie(canary.CookieOptions{})})
	w := httptest.NewRecorder()
	func() {
		defer func() {
			recover()
			http.Error(w, "sorry", http.StatusInternalServerError)
		}()
		rt.ServeHTTP(w, request())
	}()
	if len(w.Result().Cookies()) != 1 {
		t.Errorf("header %v", w.Header())
	}
}

// A request whose answer is the same on both sides is asked for no key and gets no cookie, whatever its method: a file that
// everybody shares must not cost every visitor an id.
func TestAnswersThatAreTheSameSetNoCookie(t *testing.T) {
	all := func(*http.Request) bool { return true }
	opts := canary.Options{Weight: half, Cookie: newCookie(canary.CookieOptions{}), SameForAll: all}
	opts.Key = func(*http.Request) string { t.Error("asked for a key"); return "" }
	rt := router(opts)
	for _, method := range []string{"GET", "HEAD", "POST"} {
		r, w := request(), httptest.NewRecorder()
		r.Method = method
		rt.ServeHTTP(w, r)
		if len(w.Header()["Set-Cookie"]) != 0 || len(w.Header()["Vary"]) != 0 {
			t.Errorf("%s: header %v", method, w.Header())
		}
	}
}
