package session_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/midair-go/midair/session"
)

// The counter of a visitor is the number of its requests, whatever of them run at the same time, in whichever of two
// services on one store.
func TestCounterIsExactAcrossServices(t *testing.T) {
	dir := t.TempDir()
	sites := []*site{newSite(session.Dir(dir), session.Options{}), newSite(session.Dir(dir), session.Options{})}
	v := newVisitor(t, sites[0])
	v.get("/cohort")
	const workers, each = 8, 20
	var all sync.WaitGroup
	for n := range workers {
		all.Go(func() {
			mine := v.with(sites[n%2])
			for range each {
				if res := mine.do("/count"); res.StatusCode != http.StatusOK {
					t.Errorf("%s", res.Status)
				}
			}
		})
	}
	all.Wait()
	v.want("/count", fmt.Sprint(workers*each+1))
}

// Values are there in the next request, in their types.
func TestValuesOutliveTheRequest(t *testing.T) {
	type person struct {
		Name string
		Tags []string
	}
	s := dirSite(t)
	s.handle("/typed", func(r *http.Request) (string, error) {
		return "", errors.Join(
			session.Put(r.Context(), "n", 42),
			session.Put(r.Context(), "p", &person{"ann", []string{"<a>"}}))
	})
	s.handle("/check", func(r *http.Request) (string, error) {
		n, nok, err1 := session.Get[int](r.Context(), "n")
		p, pok, err2 := session.Get[person](r.Context(), "p")
		_, none, err3 := session.Get[int](r.Context(), "none")
		return fmt.Sprint(n, nok, p, pok, none), errors.Join(err1, err2, err3)
	})
	v := newVisitor(t, s)
	v.get("/typed")
	v.want("/check", "42 true {ann [<a>]} true false")
	v.get("/put?k=x&v=1")
	v.want("/get?k=x", "1 true")
	v.get("/delete?k=x")
	v.want("/get?k=x", " false")
	v.want("/check", "42 true {ann [<a>]} true false")
}

// A request sees its own changes.
func TestARequestReadsItsOwnWrites(t *testing.T) {
	s := dirSite(t)
	s.handle("/own", func(r *http.Request) (string, error) {
		if _, ok, err := session.Get[int](r.Context(), "k"); ok || err != nil {
			return "", fmt.Errorf("before: %v %v", ok, err)
		}
		if err := session.Put(r.Context(), "k", 1); err != nil {
			return "", err
		}
		n, ok, err := session.Get[int](r.Context(), "k")
		return fmt.Sprint(n, ok), err
	})
	newVisitor(t, s).want("/own", "1 true")
}

// A value that does not fit is an error for its key, not for the session.
func TestAMisfitIsIsolatedToItsKey(t *testing.T) {
	s := dirSite(t)
	s.handle("/number", func(r *http.Request) (string, error) {
		n, _, err := session.Get[int](r.Context(), "text")
		return fmt.Sprint(n), err
	})
	v := newVisitor(t, s)
	v.get("/put?k=text&v=hello")
	v.wantStatus("/number", http.StatusInternalServerError)
	v.want("/get?k=text", "hello true")
	v.want("/count", "1")
}

// A request that does not use its session works without the store and costs one allocation.
func TestAnUntouchedSessionCostsNothing(t *testing.T) {
	store := newSpy(t)
	s := newSite(store, session.Options{})
	v := newVisitor(t, s)
	v.want("/count", "1")
	before := store.calls.Load()
	store.on(func(op, _ string) error { return errors.New("store is down") })
	v.want("/plain", "plain")
	v.want("/plain", "plain")
	if n := store.calls.Load() - before; n != 0 {
		t.Errorf("%d calls of the store", n)
	}

	h := s.sm.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { s.sm.Cohort(r) }))
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Cookie", "other=1; session="+v.value())
	w := httptest.NewRecorder()
	if n := testing.AllocsPerRun(100, func() { h.ServeHTTP(w, r) }); n > 1 {
		t.Errorf("%v allocations", n)
	}
}

// Two first writes of a visitor who has a cookie already, for its cohort, meet in one session.
func TestTwoFirstWritesMeet(t *testing.T) {
	store := newSpy(t)
	s := newSite(store, session.Options{})
	v := newVisitor(t, s)
	v.get("/cohort") // the router has given it a cookie
	g, held := newGate(), false
	store.on(func(op, _ string) error {
		if op == "create" && !held { // the first of the two has seen that there is no session
			held = true
			store.on(nil)
			g.pass()
		}
		return nil
	})
	wait := v.with(s).background("/count")
	<-g.reached
	v.want("/count", "1")
	close(g.open)
	if res := wait(); res.StatusCode != http.StatusOK {
		t.Fatal(res.Status)
	}
	v.want("/count", "3")
}

// If the function of Update fails, its error is returned and nothing is stored.
func TestAFailedUpdateStoresNothing(t *testing.T) {
	s := dirSite(t)
	for _, mine := range []error{errors.New("mine"), session.ErrConflict, session.ErrNotFound} {
		runs := 0
		s.mux.HandleFunc("/fail/"+strings.ReplaceAll(mine.Error(), " ", ""), func(w http.ResponseWriter, r *http.Request) {
			err := session.Update(r.Context(), func(v *session.Values) error {
				runs++
				v.Put("k", "changed")
				return mine
			})
			if err != mine || runs != 1 {
				t.Errorf("Update = %v after %d runs", err, runs)
			}
		})
		v := newVisitor(t, s)
		v.get("/fail/" + strings.ReplaceAll(mine.Error(), " ", ""))
		v.want("/get?k=k", " false")
	}
}

// An Update that changes nothing writes nothing, and makes no session.
func TestAnUpdateWithoutChangeWritesNothing(t *testing.T) {
	store := newSpy(t)
	s := newSite(store, session.Options{})
	s.handle("/same", func(r *http.Request) (string, error) { return "", session.Put(r.Context(), "k", "v") })
	s.handle("/none", func(r *http.Request) (string, error) { return "", session.Delete(r.Context(), "none") })
	v := newVisitor(t, s)
	refuse := func(op, _ string) error {
		if op != "load" {
			t.Errorf("store: %s", op)
		}
		return nil
	}
	store.on(refuse)
	v.get("/none")
	store.on(nil)
	v.get("/same")
	store.on(refuse)
	v.get("/same")
	v.get("/none")
}

// A session has a size limit with an error of its own, and stays as it was.
func TestASessionCannotGrowWithoutLimit(t *testing.T) {
	dir := t.TempDir()
	s := newSite(session.Dir(dir), session.Options{MaxSize: 100})
	s.handle("/big", func(r *http.Request) (string, error) {
		err := session.Put(r.Context(), "big", strings.Repeat("x", 100))
		if !errors.Is(err, session.ErrTooLarge) || !strings.Contains(err.Error(), "MaxSize is 100") {
			t.Errorf("Put = %v", err)
		}
		return "", nil
	})
	v := newVisitor(t, s)
	v.get("/count")
	v.get("/big")
	v.want("/count", "2")

	small := newSite(session.Dir(dir), session.Options{MaxSize: 1}) // another version with another idea of it
	v.get("/put?k=k&v=value")
	v = v.with(small)
	v.wantStatus("/put?k=more&v=more", http.StatusInternalServerError)
	v.get("/renew")
	v.want("/get?k=k", "value true")
	v.get("/delete?k=k")
	v.get("/logout")
}

// What goes wrong with the store is told by the functions and by Ready.
func TestAStoreThatFailsIsReported(t *testing.T) {
	store := newSpy(t)
	s := newSite(store, session.Options{})
	if err := s.sm.Ready(t.Context()); err != nil {
		t.Fatalf("Ready = %v", err)
	}
	v := newVisitor(t, s)
	v.get("/count")
	down := errors.New("store is down")
	store.on(func(op, _ string) error { return down })
	if err := s.sm.Ready(t.Context()); !errors.Is(err, down) {
		t.Errorf("Ready = %v", err)
	}
	for _, path := range []string{"/count", "/get?k=k", "/renew", "/logout", "/login"} {
		v.wantStatus(path, http.StatusInternalServerError)
	}
	store.on(nil)
	v.want("/count", "2")
}

// Ready names a directory that cannot be used; visitors are served meanwhile.
func TestReadyNamesADirectoryThatCannotBeUsed(t *testing.T) {
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSite(session.Dir(file+"/sessions"), session.Options{})
	if err := s.sm.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("Ready = %v", err)
	}
	v := newVisitor(t, s)
	cohort := v.get("/cohort")
	v.want("/cohort", cohort)
	v.wantStatus("/count", http.StatusInternalServerError)
}

// Outside of the middleware there is no session and an error that says so.
func TestWithoutMiddlewareThereIsNoSession(t *testing.T) {
	ctx := context.Background()
	_, _, err := session.Get[int](ctx, "k")
	for _, err := range []error{
		err, session.Put(ctx, "k", 1), session.Delete(ctx, "k"), session.Renew(ctx), session.Destroy(ctx),
	} {
		if !errors.Is(err, session.ErrNoSession) {
			t.Errorf("%v", err)
		}
	}
}

// A middleware inside of another of the same manager changes nothing; two managers do not mix.
func TestMiddlewaresNest(t *testing.T) {
	s := dirSite(t)
	twice := newVisitor(t, s.sm.Middleware(s))
	res := twice.do("/count")
	if n := len(res.Header.Values("Set-Cookie")); n != 1 {
		t.Errorf("%d cookies", n)
	}
	twice.want("/count", "2")

	outer := session.NewManager(session.Dir(t.TempDir()), session.Options{Cookie: "outer"})
	w := httptest.NewRecorder()
	outer.Middleware(s.sm.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a, b := outer.Cohort(r), s.sm.Cohort(r); a == "" || a == b {
			t.Errorf("cohorts %q and %q", a, b)
		}
	}))).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if n := len(w.Result().Cookies()); n != 2 {
		t.Errorf("%d cookies", n)
	}
}

// Goroutines of a handler may use the session at once.
func TestGoroutinesOfOneRequestShareItsSession(t *testing.T) {
	s := dirSite(t)
	s.handle("/many", func(r *http.Request) (string, error) {
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if _, err := count(r.Context()); err != nil {
					t.Error(err)
				}
				session.Get[int](r.Context(), "count")
			})
		}
		all.Wait()
		return "", nil
	})
	v := newVisitor(t, s)
	v.get("/many")
	v.want("/count", "9")
}

// A write that never gets through ends with the context of its caller.
func TestAnUpdateEndsWithItsContext(t *testing.T) {
	store := newSpy(t)
	s := newSite(store, session.Options{})
	s.handle("/busy", func(r *http.Request) (string, error) {
		ctx, cancel := context.WithCancel(r.Context())
		tries := 0
		store.on(func(op, _ string) error {
			if op == "load" {
				return nil
			}
			if tries++; tries == 5 {
				cancel()
			}
			return session.ErrConflict
		})
		err := session.Put(ctx, "k", "v")
		if !errors.Is(err, context.Canceled) || tries != 5 {
			t.Errorf("Put = %v after %d tries", err, tries)
		}
		return "", nil
	})
	newVisitor(t, s).get("/busy")
}

// What the server looks for in its request after the handler is found there.
func TestTheServerFindsWhatItHasToCleanUp(t *testing.T) {
	s := dirSite(t)
	s.handle("POST /upload", func(r *http.Request) (string, error) { return "", r.ParseMultipartForm(1) })
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, _ := form.CreateFormFile("file", "name")
	part.Write(make([]byte, 100))
	form.Close()
	r := httptest.NewRequest("POST", "/upload", &body)
	r.Header.Set("Content-Type", form.FormDataContentType())
	s.ServeHTTP(httptest.NewRecorder(), r)
	if r.MultipartForm == nil || r.Pattern != "POST /upload" {
		t.Fatalf("form %v, pattern %q", r.MultipartForm, r.Pattern)
	}
	r.MultipartForm.RemoveAll()
}

// The attributes of the cookie are safe ones.
func TestTheCookieHasSafeAttributes(t *testing.T) {
	tests := map[string]struct {
		opts   session.Options
		tls    bool
		name   string
		secure bool
	}{
		"Plain":  {name: "session"},
		"TLS":    {name: "session", tls: true, secure: true},
		"Proxy":  {name: "session", opts: session.Options{Secure: true}, secure: true},
		"Prefix": {name: "__Host-id", opts: session.Options{Cookie: "__Host-id"}, secure: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/cohort", nil)
			if test.tls {
				r.TLS = &tls.ConnectionState{}
			}
			w := httptest.NewRecorder()
			newSite(session.Dir(t.TempDir()), test.opts).ServeHTTP(w, r)
			c := w.Result().Cookies()[0]
			if c.Name != test.name || c.Secure != test.secure || !c.HttpOnly || c.Path != "/" || c.Domain != "" ||
				c.SameSite != http.SameSiteLaxMode || c.MaxAge != 30*24*3600 {
				t.Errorf("%+v", c)
			}
			if cc := w.Header().Get("Cache-Control"); cc != "private" {
				t.Errorf("Cache-Control: %s", cc)
			}
		})
	}
}
