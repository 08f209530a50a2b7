//go:build linux

package canary_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/session"
)

// tagged is a page that caches may keep for a second. After that they ask the service whether the page is still the same.
type tagged string

func (p tagged) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "public, max-age=1")
	w.Header().Set("Etag", `"`+string(p)+`"`)
	w.Header().Set("Side", string(p))
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(p)))
}

// When a page has become stale, and the service confirms it, the visitor gets the page again, with no cookie. A visitor who has
// one of the two pages in the browser gets a confirmation for the page of the own side only.
func TestCachesConfirmTheSideOfTheVisitor(t *testing.T) {
	for _, program := range cachePrograms {
		t.Run(program.name, func(t *testing.T) {
			t.Parallel()
			sm := session.NewManager(session.Dir(t.TempDir()), session.Options{})
			opts, cohorts := halfBy(newCookie(canary.CookieOptions{})), canary.Options{Weight: half, Key: sm.Cohort}
			b := behind(t, program, []cachedSite{
				{name: "a cookie", handler: canary.NewRouter(tagged("stable"), tagged("canary"), opts)},
				{name: "the cohort of the session", handler: sm.Middleware(canary.NewRouter(tagged("stable"), tagged("canary"), cohorts))},
			})
			for i, site := range b.sites {
				t.Run(site.name, func(t *testing.T) { b.mustConfirm(t, i) })
			}
		})
	}
}

func (b *behindCache) mustConfirm(t *testing.T, site int) {
	all := b.visitors(t, site)
	ask := func(i int, header ...string) {
		t.Helper()
		got := all[i].ask(http.MethodGet, header...)
		if want := all[i].compare(http.MethodGet, header...); got != want {
			t.Errorf("visitor %d %q: the cache gives %v, the service %v", i, header, got, want)
		}
	}
	for i, v := range all {
		v.ask(http.MethodGet) // for the cookie
		ask(i)
	}
	if t.Failed() {
		return
	}
	for i := range all {
		testutil.Until(t, time.Minute, "the service confirms the page", func() bool {
			before := b.confirmed[site].Load()
			ask(i)
			return b.confirmed[site].Load() > before
		})
	}
	for i := range all {
		ask(i, "If-None-Match", `"stable"`)
		ask(i, "If-None-Match", `"canary"`)
	}
	mustHaveOwnCookies(t, all)
}
