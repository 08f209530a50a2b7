package session_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/midair-go/midair/session"
)

// BenchmarkUntouched compares a plain handler with the same one behind the middleware, whose session it does not use.
func BenchmarkUntouched(b *testing.B) {
	plain := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	s := newSite(session.Dir(b.TempDir()), session.Options{})
	v := newVisitor(b, s)
	v.get("/count")
	cohort := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.sm.Cohort(r) == "" {
			b.Error("no cohort")
		}
		w.WriteHeader(http.StatusNoContent)
	})
	for _, bench := range []struct {
		name string
		h    http.Handler
	}{
		{"Plain", plain}, {"Session", s.sm.Middleware(plain)}, {"SessionAndCohort", s.sm.Middleware(cohort)},
	} {
		b.Run(bench.name, func(b *testing.B) {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Cookie", "session="+v.value())
			w := discard{http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				bench.h.ServeHTTP(w, r)
			}
		})
	}
}

// BenchmarkUse is what a request pays that uses its session in a directory.
func BenchmarkUse(b *testing.B) {
	for _, path := range []string{"/number", "/count", "/renew"} {
		b.Run(path[1:], func(b *testing.B) {
			s := newSite(session.Dir(b.TempDir()), session.Options{})
			s.handle("/number", func(r *http.Request) (string, error) {
				_, _, err := session.Get[int](r.Context(), "count")
				return "", err
			})
			v := newVisitor(b, s)
			v.get("/count")
			b.ReportAllocs()
			for b.Loop() {
				v.get(path)
			}
		})
	}
}

// BenchmarkFirstVisit mints and seals a cookie.
func BenchmarkFirstVisit(b *testing.B) {
	s := newSite(session.Dir(b.TempDir()), session.Options{})
	h := s.sm.Middleware(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	r := httptest.NewRequest("GET", "/", nil)
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(discard{http.Header{}}, r)
	}
}

// BenchmarkContention counts in one session from all processors, where every commit can meet another one.
func BenchmarkContention(b *testing.B) {
	s := newSite(session.Dir(b.TempDir()), session.Options{})
	v := newVisitor(b, s)
	v.get("/count")
	b.RunParallel(func(pb *testing.PB) {
		for mine := v.with(s); pb.Next(); {
			mine.get("/count")
		}
	})
}

// discard is a writer that costs nothing.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) WriteHeader(int)             {}
func (d discard) Write(p []byte) (int, error) { return len(p), nil }

var _ io.Writer = discard{}
