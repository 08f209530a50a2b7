package session_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/session"
)

// A session lives at least as long as its Lifetime and its Idle say, and at most a millisecond longer, wherever in its second it
// begins. The browser keeps the cookie for at least as long: whole seconds, rounded up.
func TestShortLivesMeanWhatTheySay(t *testing.T) {
	for _, life := range []time.Duration{
		1, 90, time.Millisecond, 500 * time.Millisecond, time.Second, 1500 * time.Millisecond, 2 * time.Second, 3 * time.Second,
	} {
		for _, opts := range []session.Options{{Lifetime: life}, {Idle: life}} {
			for _, offset := range []time.Duration{0, 1, 400 * time.Microsecond, 333 * time.Millisecond, 999_999_999} {
				t.Run(fmt.Sprint(opts.Lifetime, opts.Idle, offset), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { livesFor(t, opts, max(life, time.Millisecond), offset) })
				})
			}
		}
	}
}

func livesFor(t *testing.T, opts session.Options, life, offset time.Duration) {
	time.Sleep(offset)
	s := newSite(session.Dir(t.TempDir()), opts)
	for _, at := range []time.Duration{life - 1, life + time.Millisecond} {
		b := newBrowser(t)
		b.want(s, "/put?k=k&v=v", "")
		if want := int((life + time.Second - 1) / time.Second); opts.Lifetime > 0 && b.jar["session"].MaxAge != want {
			t.Errorf("Max-Age %d, want %d", b.jar["session"].MaxAge, want)
		}
		time.Sleep(at)
		b.want(s, "/get?k=k", map[bool]string{true: "v true", false: " false"}[at < life])
	}
}

// A cookie that was made for the cohort is made anew with the session if the session may outlive it.
func TestTheCookieLivesAsLongAsTheSession(t *testing.T) {
	for _, before := range []time.Duration{157 * time.Millisecond, 1999 * time.Millisecond, 3 * time.Second, 4500 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			const life = 10 * time.Second
			s := newSite(session.Dir(t.TempDir()), session.Options{Lifetime: life})
			b := newBrowser(t)
			b.do(s, httptest.NewRequest("GET", "/cohort", nil))
			time.Sleep(before)
			b.want(s, "/put?k=k&v=v", "")
			time.Sleep(life - time.Millisecond)
			b.want(s, "/get?k=k", "v true")
			time.Sleep(time.Millisecond)
			b.want(s, "/get?k=k", " false")
		})
	}
}

// Without Max-Age the browser forgets the cookie when it is closed. A remembered session has a Max-Age all the same.
func TestABrowserCookieEndsWithTheBrowser(t *testing.T) {
	s := rememberSite(session.Dir(t.TempDir()), session.Options{BrowserCookie: true})
	b := newBrowser(t)
	b.want(s, "/put?k=k&v=v", "")
	if c := b.jar["session"]; c.MaxAge != 0 || !c.Expires.IsZero() {
		t.Errorf("%+v", c)
	}
	b.want(s, "/get?k=k", "v true")
	b.close()
	b.want(s, "/get?k=k", " false")
	b.want(s, "/put?k=k&v=v", "")
	b.want(s, "/remember", "")
	b.close()
	b.want(s, "/get?k=k", "v true")
}

// rememberSite has a login with remember on, which is made of a write and a renewal.
func rememberSite(store session.Store, opts session.Options) *site {
	s := newSite(store, opts)
	s.handle("/remember", func(r *http.Request) (string, error) {
		if err := session.Remember(r.Context()); err != nil {
			return "", err
		}
		return "", session.Renew(r.Context())
	})
	return s
}

// A remembered session lives for Remember, used or not, through renewals and cookies that are made anew, and ends then. After a
// logout nothing of that is left.
func TestARememberedSessionLivesForRemember(t *testing.T) {
	for name, opts := range map[string]session.Options{
		"longer":  {Idle: time.Hour, Lifetime: 4 * time.Hour, Remember: 40 * time.Hour},
		"shorter": {Idle: 90 * time.Hour, Lifetime: 100 * time.Hour, Remember: 40 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { rememberedLife(t, opts) })
		})
	}
}

func rememberedLife(t *testing.T, opts session.Options) {
	time.Sleep(700 * time.Millisecond)
	store := session.Dir(t.TempDir())
	s := rememberSite(store, opts)
	b := newBrowser(t)
	keeps := int(max(opts.Remember, opts.Lifetime) / time.Second)
	remember := func() {
		b.want(s, "/put?k=k&v=v", "")
		b.want(s, "/remember", "")
		if c := b.jar["session"]; c.MaxAge != keeps {
			t.Fatalf("Max-Age %d", c.MaxAge)
		}
	}
	remember()
	time.Sleep(40*time.Hour - time.Millisecond) // not used at all
	b.want(s, "/get?k=k", "v true")
	time.Sleep(2 * time.Millisecond)
	b.want(s, "/get?k=k", " false")

	remember()
	for range 39 {
		time.Sleep(time.Hour)
		b.do(s, httptest.NewRequest("GET", "/cohort", nil)) // does not know the session
		b.want(s, "/get?k=k", "v true")
		if c := b.jar["session"]; c.MaxAge != keeps {
			t.Fatalf("made anew with Max-Age %d", c.MaxAge)
		}
	}
	b.want(s, "/renew", "") // a new life
	time.Sleep(39 * time.Hour)
	b.want(s, "/get?k=k", "v true")
	time.Sleep(time.Hour)
	b.want(s, "/get?k=k", " false")

	remember()
	b.want(s, "/logout", "")
	b.want(s, "/put?k=k&v=v", "")
	if c := b.jar["session"]; c.MaxAge != int(opts.Lifetime/time.Second) {
		t.Errorf("after a logout: Max-Age %d", c.MaxAge)
	}
}
