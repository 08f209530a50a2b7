package frameworks

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/session"
)

const (
	patience = 20 * time.Second
	toCanary = "Canary: true"
	toStable = "Canary: false"
)

// half returns the options of a router that draws half of the visitors, and lets a header choose.
func half(rescue *canary.Rescue) canary.Options {
	opts := canary.Options{
		Weight: canary.Fixed(0.5), Cookie: canary.NewCookie("visitor", canary.CookieOptions{}), Rescue: rescue,
		Logger: slog.New(slog.DiscardHandler),
	}
	opts.Choose, opts.Vary = canary.ByHeader("canary")
	return opts
}

// A visitor stays on one side, by a cookie that is set once. Each request comes to one handler, once.
func TestVisitorsStayOnOneSide(t *testing.T) {
	each(t, half(nil), func(t *testing.T, s *site) {
		const visitors, requests = 24, 3
		on := map[string]int{}
		for range visitors {
			c := s.visitor()
			first := s.do(t, c, s.request(t, "GET", "/item/7", nil))
			side, _, _ := strings.Cut(first.body, " ")
			on[side]++
			if first.cookies != 1 || first.body != s.line(side, "/item/{id}") {
				t.Errorf("the first answer is %+v", first)
			}
			for range requests - 1 {
				if a := s.do(t, c, s.request(t, "GET", "/item/7", nil)); a.body != first.body || a.cookies != 0 || a.status != 200 {
					t.Errorf("after %+v comes %+v", first, a)
				}
			}
		}
		stable, canary := s.handled()
		if stable != requests*on["stable"] || canary != requests*on["canary"] || stable*canary == 0 {
			t.Errorf("the handlers have got %d and %d requests, of %v visitors with %d requests each", stable, canary, on, requests)
		}
	})
}

// A header chooses the side. The parameters and the pattern of the framework's route arrive at both handlers.
func TestAHeaderChoosesTheSide(t *testing.T) {
	each(t, half(nil), func(t *testing.T, s *site) {
		for side, line := range map[string]string{"canary": toCanary, "stable": toStable} {
			a := s.get(t, "/item/7", line)
			if a.status != 200 || a.body != s.line(side, "/item/{id}") || a.cookies != 0 {
				t.Errorf("%s: %+v", line, a)
			}
		}
	})
}

// The client of a rescued request gets what stable answers, byte for byte, with the middlewares of the framework around or inside.
// The log of a middleware around has the status that the client has got.
func TestARescuedAnswerIsThatOfStable(t *testing.T) {
	each(t, half(&canary.Rescue{Status: canary.ServerError}), func(t *testing.T, s *site) {
		for _, path := range []string{"/item/7", "/page/7"} {
			for _, encoding := range []string{"identity", "gzip"} {
				accept := "Accept-Encoding: " + encoding
				want := s.get(t, path, toStable, accept)
				if want.status != 200 || want.cookies != 0 {
					t.Fatalf("stable answers %+v", want)
				}
				for _, fail := range []string{"panic", "error"} {
					if got := s.get(t, path, toCanary, accept, "Fail: "+fail); got != want {
						t.Errorf("%s, %s, %s:\n%+v\nwant\n%+v", path, encoding, fail, got, want)
					}
				}
			}
		}
		if stable, canary := s.handled(); stable != 12 || canary != 8 {
			t.Errorf("the handlers have got %d and %d requests, want 12 and 8", stable, canary)
		}
		failures := 0
		if s.place == around {
			failures = 8 // in the log of the canary
		}
		if n := s.log.count(fmt.Sprintf(s.status, 500)); n != failures {
			t.Errorf("the log has %d failures, want %d", n, failures)
		}
	})
}

// A middleware of the canary that recovers from panics makes them answers with 500. Only Rescue.Status rescues these.
func TestAPanicThatTheCanaryRecoversFromIsAStatus(t *testing.T) {
	each(t, half(&canary.Rescue{}), func(t *testing.T, s *site) {
		a := s.get(t, "/item/7", toCanary, "Fail: panic")
		stable, _ := s.handled()
		if s.place == around {
			if a.status != 500 || stable != 0 {
				t.Errorf("the answer is %+v, and stable has got %d requests", a, stable)
			}
			return
		}
		if a.body != s.line("stable", "/item/{id}") || stable != 1 {
			t.Errorf("the answer is %+v, and stable has got %d requests", a, stable)
		}
	})
}

// Requests at once get what each would get alone, although frameworks use their contexts and writers again.
func TestRequestsAtOnceAreKeptApart(t *testing.T) {
	each(t, half(&canary.Rescue{Status: canary.ServerError}), func(t *testing.T, s *site) {
		var all sync.WaitGroup
		for i := range 24 {
			side, lines := "stable", []string{toCanary, "Fail: panic", "Accept-Encoding: identity"}
			switch i % 4 {
			case 1:
				lines[1] = "Fail: error"
			case 2:
				side, lines[1] = "canary", "Other: 1"
			case 3:
				lines[0] = toStable
			}
			want := strings.Replace(s.line(side, "/item/{id}"), "7", fmt.Sprint(i), 1)
			all.Go(func() {
				if a := s.get(t, fmt.Sprint("/item/", i), lines...); a.body != want || a.status != 200 || a.cookies != 0 {
					t.Errorf("%v: %+v, want %q", lines, a, want)
				}
			})
		}
		all.Wait()
	})
}

// A POST runs once, and the framework answers for its panic, unless Also says that it may run twice. Then stable gets the body, if
// the router has kept all of it.
func TestAPostRunsTwiceOnlyByChoice(t *testing.T) {
	small, large := bytes.Repeat([]byte("midair "), 100), bytes.Repeat([]byte("midair "), 30_000)
	also := func(r *http.Request) bool { return r.Header.Get("Idempotent") != "" }
	for _, limit := range []int{64 << 10, 256 << 10} {
		each(t, half(&canary.Rescue{Status: canary.ServerError, Also: also, Body: limit}), func(t *testing.T, s *site) {
			s.posts(t, small, "Other: 1", false)
			s.posts(t, small, "Idempotent: 1", true)
			s.posts(t, large, "Idempotent: 1", limit > len(large))
		})
	}
}

// posts sends a body to the canary, which answers, and again to the canary, which fails. With twice the second answer is stable's.
func (s *site) posts(t *testing.T, body []byte, line string, twice bool) {
	t.Helper()
	stableBefore, canaryBefore := s.handled()
	whole := s.do(t, s.srv.Client(), s.request(t, "POST", "/upload/7", body, toCanary, line))
	if want := s.line("canary", "/upload/{id}") + uploaded(body); whole.body != want {
		t.Errorf("without a failure: %+v, want %q", whole, want)
	}
	a := s.do(t, s.srv.Client(), s.request(t, "POST", "/upload/7", body, toCanary, line, "Fail: panic"))
	stable, canary := s.handled()
	stable, canary = stable-stableBefore, canary-canaryBefore
	switch want := s.line("stable", "/upload/{id}") + uploaded(body); {
	case twice && (a.status != 200 || a.body != want || stable != 1):
		t.Errorf("the answer is %+v, want %q, and stable has got %d requests", a, want, stable)
	case !twice && (a.status == 200 || stable != 0):
		t.Errorf("the answer is %+v, and stable has got %d requests", a, stable)
	}
	if canary != 2 {
		t.Errorf("the canary has got %d requests, want 2", canary)
	}
}

// What a handler flushes arrives at once, also through a middleware that compresses.
func TestStreamsAreFlushed(t *testing.T) {
	each(t, half(&canary.Rescue{Status: canary.ServerError}), func(t *testing.T, s *site) {
		for _, v := range []*version{s.stable, s.canary} {
			for _, encoding := range []string{"identity", "gzip"} {
				r := s.request(t, "GET", "/stream/7", nil, "Canary: "+fmt.Sprint(v == s.canary), "Accept-Encoding: "+encoding)
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				resp, err := s.srv.Client().Do(r.WithContext(ctx))
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				body := bufio.NewReader(decoded(t, resp))
				if line, err := body.ReadString('\n'); line != s.line(v.side, "/stream/{id}") {
					t.Fatalf("%s: the first line is %q, %v", encoding, line, err)
				}
				v.more <- struct{}{}
				if rest, err := io.ReadAll(body); string(rest) != "the end\n" || err != nil {
					t.Errorf("%s: the rest is %q, %v", encoding, rest, err)
				}
			}
		}
	})
}

// After the first byte no other handler gets the request.
func TestNothingIsRescuedAfterTheFirstByte(t *testing.T) {
	each(t, half(&canary.Rescue{Status: canary.ServerError}), func(t *testing.T, s *site) {
		a := s.get(t, "/item/7", toCanary, "Fail: late")
		if s.place == aroundBare && a.status != 0 {
			t.Errorf("the connection was not cut: %+v", a)
		}
		if stable, canary := s.handled(); stable != 0 || canary != 1 {
			t.Errorf("the handlers have got %d and %d requests", stable, canary)
		}
	})
}

// A path without a route is the framework's 404 on both sides, and its answer sets the cookie, too, wherever the router gets the
// request.
func TestUnknownPathsAreNotFound(t *testing.T) {
	each(t, half(&canary.Rescue{Status: canary.ServerError}), func(t *testing.T, s *site) {
		for _, line := range []string{toStable, toCanary} {
			if a := s.get(t, "/nowhere", line); a.status != 404 {
				t.Errorf("%s: %+v", line, a)
			}
		}
		cookies := 1
		if s.place == inside || s.place == use && !s.matchesAll {
			cookies = 0
		}
		for range 8 { // on either side
			if a := s.get(t, "/nowhere"); a.status != 404 || a.cookies != cookies {
				t.Errorf("%+v, want %d cookies", a, cookies)
			}
		}
		if stable, canary := s.handled(); stable+canary != 0 {
			t.Errorf("the handlers have got %d and %d requests", stable, canary)
		}
	})
}

// A route that only the canary has is reached by a router around, and by a middleware of a framework whose middlewares get all
// requests.
func TestARouteOfTheCanaryAlone(t *testing.T) {
	each(t, half(nil), func(t *testing.T, s *site) {
		want := 200
		if s.place == inside || s.place == use && !s.matchesAll {
			want = 404
		}
		if a := s.get(t, "/new/7", toCanary); a.status != want {
			t.Errorf("the answer is %+v, want the status %d", a, want)
		}
		if a := s.get(t, "/new/7", toStable); a.status != 404 {
			t.Errorf("stable has answered %+v", a)
		}
	})
}

// decoded returns the body of an answer, which may be compressed.
func decoded(t *testing.T, resp *http.Response) io.Reader {
	if resp.Header.Get("Content-Encoding") != "gzip" {
		return resp.Body
	}
	body, err := gzip.NewReader(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// A middleware of the framework compresses the answers of both sides.
func TestAnswersAreCompressed(t *testing.T) {
	each(t, half(&canary.Rescue{Status: canary.ServerError}), func(t *testing.T, s *site) {
		if !s.compresses || s.place == aroundBare {
			return
		}
		for side, line := range map[string]string{"canary": toCanary, "stable": toStable} {
			resp, err := s.srv.Client().Do(s.request(t, "GET", "/page/7", nil, line, "Accept-Encoding: gzip"))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if !resp.Uncompressed && resp.Header.Get("Content-Encoding") != "gzip" {
				t.Errorf("%s: the answer is not compressed: %v", side, resp.Header)
			}
			vary := strings.ToLower(strings.Join(resp.Header["Vary"], ", "))
			if !strings.Contains(vary, "canary") || !strings.Contains(vary, "accept-encoding") {
				t.Errorf("%s: Vary is %q", side, vary)
			}
			want := s.line(side, "/page/{id}")
			if body, err := io.ReadAll(decoded(t, resp)); string(body) != strings.Repeat(want, pageLines) || err != nil {
				t.Errorf("%s: the answer has %d bytes, %v", side, len(body), err)
			}
		}
	})
}

// A WebSocket is one of the side that the header chooses.
func TestWebSocketsPass(t *testing.T) {
	each(t, half(&canary.Rescue{Status: canary.ServerError}), func(t *testing.T, s *site) {
		if s.http2 {
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		for side, choice := range map[string]string{"canary": "true", "stable": "false"} {
			conn, _, err := websocket.Dial(ctx, s.srv.URL+"/socket/7", &websocket.DialOptions{
				HTTPClient: s.srv.Client(), HTTPHeader: http.Header{"Canary": {choice}, "Accept-Encoding": {"gzip"}}})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.CloseNow()
			if err := conn.Write(ctx, websocket.MessageText, []byte("hello")); err != nil {
				t.Error(err)
			}
			if _, text, err := conn.Read(ctx); string(text) != s.line(side, "/socket/{id}")+"hello" {
				t.Errorf("%s: %q, %v", side, text, err)
			}
			if err := conn.Close(websocket.StatusNormalClosure, ""); err != nil {
				t.Error(err)
			}
		}
	})
}

// The context of a handler is done when the client has gone, and no other handler gets the request.
func TestAHandlerNoticesThatTheClientHasGone(t *testing.T) {
	each(t, half(&canary.Rescue{Status: canary.ServerError}), func(t *testing.T, s *site) {
		for _, v := range []*version{s.stable, s.canary} {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			r := s.request(t, "GET", "/wait/7", nil, "Canary: "+fmt.Sprint(v == s.canary)).WithContext(ctx)
			go func() { // ends when the request is canceled
				resp, err := s.srv.Client().Do(r)
				if err == nil {
					resp.Body.Close()
				}
				done <- err
			}()
			received(t, v.came, "the handler to begin")
			cancel()
			if err := <-done; err == nil {
				t.Error("the client has got an answer")
			}
			received(t, v.gone, "the handler to notice that the client has gone")
		}
		if stable, canary := s.handled(); stable != 1 || canary != 1 {
			t.Errorf("the handlers have got %d and %d requests", stable, canary)
		}
	})
}

func received(t *testing.T, from <-chan struct{}, what string) {
	t.Helper()
	testutil.Until(t, patience, what, func() bool {
		select {
		case <-from:
			return true
		default:
			return false
		}
	})
}

// The sessions of both sides are one, with the middleware of a session.Manager around, which also keeps the visitor on one side. A
// rescued request counts once.
func TestSidesShareTheSession(t *testing.T) {
	sm := session.NewManager(session.Memory(), session.Options{})
	opts := half(&canary.Rescue{Status: canary.ServerError, Attempt: sm.Attempt})
	opts.Cookie, opts.Key = nil, sm.Cohort
	eachWith(t, opts, sm.Middleware, func(t *testing.T, s *site) {
		c := s.visitor()
		for i, tt := range []struct{ side, choice, fail string }{
			{"stable", toStable, ""}, {"canary", toCanary, ""}, {"stable", toCanary, "panic"}, {"canary", toCanary, ""},
		} {
			want := fmt.Sprintf("%s %d", tt.side, i+1)
			if a := s.do(t, c, s.request(t, "GET", "/visits/7", nil, tt.choice, "Fail: "+tt.fail)); a.status != 200 || a.body != want {
				t.Errorf("the answer is %+v, want %q", a, want)
			}
		}
		sides := map[string]bool{}
		for range 6 {
			side, _, _ := strings.Cut(s.do(t, c, s.request(t, "GET", "/visits/7", nil)).body, " ")
			sides[side] = true
		}
		if len(sides) != 1 {
			t.Errorf("the visitor was on the sides %v", sides)
		}
	})
}
