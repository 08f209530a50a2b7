//go:build linux

package canary_test

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

// A behindCache is a service with several sites, each with a path of its own, and a cache in front of it. The service is there a
// second time without the cache.
type behindCache struct {
	sites         []cachedSite
	cache, direct string         // the URLs
	asked         []atomic.Int64 // how many requests came through the cache, by site
	confirmed     []atomic.Int64 // how many of them were answered with 304
	transport     *http.Transport
}

// behind starts a service and a cache.
func behind(t *testing.T, program cacheProgram, sites []cachedSite) *behindCache {
	t.Helper()
	b := &behindCache{sites: sites, asked: make([]atomic.Int64, len(sites)), confirmed: make([]atomic.Int64, len(sites))}
	b.transport = &http.Transport{DisableCompression: true}
	plain, counting := http.NewServeMux(), http.NewServeMux()
	for i, site := range sites {
		plain.Handle(fmt.Sprint("/", i), site.handler)
		counting.Handle(fmt.Sprint("/", i), b.count(i, site.handler))
		if site.login != nil {
			counting.Handle(fmt.Sprint("/", i, "/login"), site.login)
		}
	}
	direct, origin := httptest.NewServer(plain), httptest.NewServer(counting)
	t.Cleanup(direct.Close)
	t.Cleanup(origin.Close)
	t.Cleanup(b.transport.CloseIdleConnections)
	b.direct, b.cache = direct.URL, program.start(t, origin.Listener.Addr().String())
	return b
}

func (b *behindCache) count(site int, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := &statusWriter{ResponseWriter: w}
		h.ServeHTTP(s, r)
		b.asked[site].Add(1)
		if s.status == http.StatusNotModified {
			b.confirmed[site].Add(1)
		}
	})
}

// visitors returns new visitors of a site.
func (b *behindCache) visitors(t *testing.T, site int) (all []*cacheVisitor) {
	for i := range visitors {
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		v := &cacheVisitor{t: t, client: http.Client{Transport: b.transport, Jar: jar}}
		v.cache, v.direct = fmt.Sprint(b.cache, "/", site), fmt.Sprint(b.direct, "/", site)
		if header := b.sites[site].header; header != nil {
			v.header = header(i)
		}
		all = append(all, v)
	}
	return all
}

// A statusWriter knows the status of the answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// A cacheVisitor is a browser: it asks for one page through a cache, keeps the cookies, and can ask without the cache.
type cacheVisitor struct {
	t             *testing.T
	client        http.Client // keeps cookies
	cache, direct string      // the URLs of the page
	header        http.Header // of every request
	given         []string    // the cookies that answers of the cache have set
}

// A cacheAnswer is what a visitor sees.
type cacheAnswer struct {
	status     int
	side, body string
	cookies    int // how many cookies the answer sets
}

func (a cacheAnswer) String() string {
	return fmt.Sprintf("%d, side %q, body %q, %d cookies", a.status, a.side, a.body, a.cookies)
}

// ask sends a request for the page through the cache.
func (v *cacheVisitor) ask(method string, header ...string) cacheAnswer {
	v.t.Helper()
	return v.do(v.request(method, v.cache, header))
}

// login sends a POST through the cache, to another path: a POST to the page would remove the page from the cache.
func (v *cacheVisitor) login() {
	v.t.Helper()
	if got := v.do(v.request(http.MethodPost, v.cache+"/login", nil)); got.status != http.StatusOK || got.cookies != 1 {
		v.t.Errorf("the login gives %v", got)
	}
}

func (v *cacheVisitor) do(r *http.Request) cacheAnswer {
	v.t.Helper()
	res, err := v.client.Do(r)
	if err != nil {
		v.t.Fatal(err)
	}
	for _, c := range res.Cookies() {
		v.given = append(v.given, c.String())
	}
	return v.read(res)
}

// compare sends the request that ask would send to the service itself. The cookies of the answer are not kept.
func (v *cacheVisitor) compare(method string, header ...string) cacheAnswer {
	v.t.Helper()
	r := v.request(method, v.direct, header)
	for _, c := range v.client.Jar.Cookies(r.URL) {
		r.AddCookie(c)
	}
	res, err := v.client.Transport.RoundTrip(r)
	if err != nil {
		v.t.Fatal(err)
	}
	return v.read(res)
}

func (v *cacheVisitor) request(method, url string, header []string) *http.Request {
	r, err := http.NewRequestWithContext(v.t.Context(), method, url, nil)
	if err != nil {
		v.t.Fatal(err)
	}
	for name, values := range v.header {
		r.Header[name] = values
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

func (v *cacheVisitor) read(res *http.Response) cacheAnswer {
	v.t.Helper()
	defer res.Body.Close()
	body := io.Reader(res.Body)
	if res.Header.Get("Content-Encoding") == "gzip" && res.Request.Method != http.MethodHead {
		z, err := gzip.NewReader(res.Body)
		if err != nil {
			v.t.Fatal(err)
		}
		body = z
	}
	text, err := io.ReadAll(body)
	if err != nil {
		v.t.Fatal(err)
	}
	return cacheAnswer{
		status: res.StatusCode, side: res.Header.Get("Side"), body: string(text), cookies: len(res.Cookies()),
	}
}
