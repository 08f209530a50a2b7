package flags_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/midair-go/midair/flags"
	"github.com/midair-go/midair/flags/httpflags"
	"github.com/midair-go/midair/session"
	"github.com/open-feature/go-sdk/openfeature"
)

// twins is a file in which all flags k0 … k99 and the number n have the same value.
func twins(value int) string {
	all := []string{plain("n", strconv.Itoa(value))}
	for i := range 100 {
		all = append(all, text(fmt.Sprint("k", i), strconv.Itoa(value)))
	}
	return set(all...)
}

// nobody is a function of Middleware.
func nobody(*http.Request) (string, map[string]any) { return "ann", nil }

// views are all ways to read a value in a context.
type views struct {
	f      *flags.Flags
	old    flags.Flag[string]
	v      *flags.Var[int]
	client *openfeature.Client
}

func viewsOf(f *flags.Flags) views {
	return views{f, f.StringFlag("k0", "default"), flags.NewVar(f, "n", -1, flags.VarOptions[int]{}), f.Client()}
}

// read returns what each of them says for a context. The keys of some handles are new.
func (v views) read(ctx context.Context, i int) (all []string) {
	young := v.f.StringFlag(fmt.Sprint("k", i%100), "default")
	through, _ := v.client.StringValue(ctx, "k2", "default", openfeature.EvaluationContext{})
	return []string{
		v.f.String(ctx, "k1", "default"), v.old.Get(ctx), young.Get(ctx), strconv.Itoa(v.v.In(ctx)), through,
		strconv.FormatInt(v.f.Int(ctx, "n", -1), 10), v.old.Details(ctx).Value,
	}
}

// agree fails if not all values are the wanted ones. An empty want stands for the first value.
func agree(t *testing.T, what string, all []string, want string) string {
	t.Helper()
	if want == "" {
		want = all[0]
	}
	for _, got := range all {
		if got != want {
			t.Errorf("%s: %q, want %s everywhere", what, all, want)
			break
		}
	}
	return want
}

// Whatever a request asks, and in whatever way, all answers are from one content of the file, while the file changes all the time.
func TestOneRequestSeesOneContent(t *testing.T) {
	f, path := served(t, twins(1), flags.Options{})
	v := viewsOf(f)
	var stop atomic.Bool
	var storm sync.WaitGroup
	storm.Go(func() {
		for i := 0; !stop.Load(); i++ {
			replace(t, path, twins(1+i%2))
			f.Check()
		}
	})
	seen := sync.Map{}
	contents := func() (n int) {
		seen.Range(func(any, any) bool { n++; return true })
		return n
	}
	use := func(what string, i int, ctx context.Context) {
		first := agree(t, what, v.read(ctx, i), "")
		seen.Store(first, true)
		for range 3 {
			agree(t, what, v.read(ctx, i+1), first)
			agree(t, what, v.read(f.With(ctx, "bob", map[string]any{"plan": "pro"}), i+2), first)
		}
		late := flags.NewVar(f, "n", -1, flags.VarOptions[int]{})
		agree(t, what+", a late Var", []string{strconv.Itoa(late.In(ctx))}, first)
	}
	sm := session.NewManager(session.Dir(t.TempDir()), session.Options{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for i := 0; i < 40 || contents() < 2; i++ { // a busy machine may give the storm no turn for long
				i := i % 40
				serveWith(f, nobody, func(w http.ResponseWriter, r *http.Request) {
					use("a request", i, r.Context())
					httpflags.Middleware(f, nobody)(http.HandlerFunc(func(_ http.ResponseWriter, in *http.Request) {
						first := agree(t, "an inner Middleware", v.read(in.Context(), i), "")
						agree(t, "around it", v.read(r.Context(), i), first)
					})).ServeHTTP(w, r)
				})
				serveShared(sm, f, func(_ http.ResponseWriter, r *http.Request) { use("behind a session", i, r.Context()) })
				use("With", i, f.With(context.Background(), "ann", nil))
				use("Renew", i, f.Renew(context.Background()))
			}
		})
	}
	readers.Wait()
	stop.Store(true)
	storm.Wait()
	mustBe(t, "the number of contents that requests have seen", contents(), 2)
	mustBe(t, "the errors", f.Status().EvaluationErrors, 0)
}

func serveShared(sm *session.Manager, f *flags.Flags, h http.HandlerFunc) {
	serveWith(f, nobody, func(w http.ResponseWriter, r *http.Request) {
		sm.Middleware(httpflags.Middleware(f, nobody)(h)).ServeHTTP(w, r)
	})
}

// A context stays at its moment, until Renew; a context without a moment sees each change.
func TestRenewIsTheWayToLaterValues(t *testing.T) {
	f, path := served(t, twins(1), flags.Options{})
	v := viewsOf(f)
	change := func(value int) {
		write(t, path, twins(value))
		f.Check()
	}
	serveWith(f, nobody, func(_ http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		change(2)
		agree(t, "the request", v.read(ctx, 5), "1")
		agree(t, "With in it", v.read(f.With(ctx, "bob", nil), 6), "1")
		agree(t, "outside", v.read(context.Background(), 7), "2")
		again := f.Renew(ctx)
		change(3)
		agree(t, "renewed", v.read(again, 8), "2")
		agree(t, "With in the renewed", v.read(f.With(again, "bob", nil), 9), "2")
		agree(t, "the request", v.read(ctx, 10), "1")
		mustBe(t, "the subject of the renewed", openfeature.TransactionContext(again).TargetingKey(), "ann")
		mustBe(t, "Get", v.v.Get(), 3)
	})
}

// A flag that goes or comes during a request goes and comes for later requests.
func TestRemovedFlagsStayInTheRequest(t *testing.T) {
	f, path := served(t, set(text("a", "1")), flags.Options{})
	a := f.StringFlag("a", "default")
	ctx := f.With(context.Background(), "ann", nil)
	write(t, path, set(text("b", "1")))
	f.Check()
	b := f.StringFlag("b", "default")
	mustBe(t, "a", a.Get(ctx)+f.String(ctx, "a", "default"), "11")
	mustBe(t, "b", b.Get(ctx)+f.String(ctx, "b", "default"), "defaultdefault")
	mustBe(t, "a outside", a.Get(context.Background()), "default")
	mustBe(t, "b outside", b.Get(context.Background()), "1")
}

// A Var that is younger than the context has the value of that moment; where the Var refuses that, its default.
func TestAVarThatIsYoungerThanTheContext(t *testing.T) {
	f, path := served(t, set(plain("n", "1")), flags.Options{})
	first := f.With(context.Background(), "ann", nil)
	write(t, path, set(plain("n", "50")))
	f.Check()
	second := f.With(context.Background(), "ann", nil)
	small := flags.VarOptions[int]{Validate: func(n int) error {
		if n < 10 {
			return fmt.Errorf("%d is less than 10", n)
		}
		return nil
	}}
	v := flags.NewVar(f, "n", 99, small)
	mustBe(t, "the second moment", v.In(second), 50)
	mustBe(t, "the first moment, whose value is refused", v.In(first), 99)
	mustBe(t, "now", v.In(context.Background()), 50)
}

// A request that comes before there are values gets the defaults until its end, and Renew gives it the values.
func TestARequestBeforeTheFirstValues(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flags.json")
	f := open(t, path, flags.Options{})
	v := viewsOf(f)
	defaults := func(ctx context.Context) (all []string) {
		young := f.StringFlag("k7", "-1")
		through, _ := v.client.StringValue(ctx, "k2", "-1", openfeature.EvaluationContext{})
		return []string{f.String(ctx, "k1", "-1"), strconv.Itoa(v.v.In(ctx)), young.Get(ctx), through}
	}
	early := f.With(context.Background(), "ann", nil)
	serveWith(f, nobody, func(_ http.ResponseWriter, r *http.Request) {
		agree(t, "before", defaults(r.Context()), "-1")
		write(t, path, twins(1))
		f.Check()
		for what, ctx := range map[string]context.Context{"the request": r.Context(), "With in it": f.With(r.Context(), "bob", nil), "With": early} {
			agree(t, what, defaults(ctx), "-1")
			agree(t, what+", renewed", v.read(f.Renew(ctx), 3), "1")
		}
		agree(t, "outside", v.read(context.Background(), 3), "1")
	})
}

// A context of the whole program, such as the base context of a server, has a moment too. Requests that come later have their own.
func TestTheMomentOfAServerIsNotThatOfItsRequests(t *testing.T) {
	f, path := served(t, twins(1), flags.Options{})
	v := viewsOf(f)
	program := f.With(context.Background(), "program", nil)
	answer := func(_ http.ResponseWriter, r *http.Request) {
		ctx := f.With(r.Context(), "ann", nil)
		agree(t, "the request", v.read(ctx, 40), "2")
		look(t, f, path, twins(3))
		agree(t, "the request", v.read(f.With(ctx, "bob", nil), 41), "2")
		look(t, f, path, twins(2))
	}
	inMiddleware := httpflags.Middleware(f, nobody)(http.HandlerFunc(answer))
	look(t, f, path, twins(2))
	inMiddleware.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil).WithContext(program))
	for _, h := range []http.Handler{inMiddleware, http.HandlerFunc(answer)} {
		srv := httptest.NewUnstartedServer(h)
		srv.Config.BaseContext = func(net.Listener) context.Context { return program }
		srv.Start()
		resp, err := srv.Client().Get(srv.URL)
		check(t, err)
		check(t, resp.Body.Close())
		srv.Close()
	}
	agree(t, "the program", v.read(program, 42), "1")
	agree(t, "With in the program", v.read(f.With(program, "bob", nil), 42), "1")
}

// Two Flags do not know of each other: each keeps its own moment, in whatever order their Middlewares are.
func TestTwoFlagsInOneRequest(t *testing.T) {
	f, fPath := served(t, twins(1), flags.Options{})
	g, gPath := served(t, twins(11), flags.Options{})
	fv, gv := viewsOf(f), viewsOf(g)
	change := func(by int) {
		write(t, fPath, twins(1+by))
		write(t, gPath, twins(11+by))
		f.Check()
		g.Check()
	}
	bob := func(*http.Request) (string, map[string]any) { return "bob", nil }
	for i, nest := range []func(http.Handler) http.Handler{
		func(h http.Handler) http.Handler {
			return httpflags.Middleware(f, nobody)(httpflags.Middleware(g, bob)(h))
		},
		func(h http.Handler) http.Handler {
			return httpflags.Middleware(g, nobody)(httpflags.Middleware(f, bob)(h))
		},
	} {
		change(0)
		serveWith(f, nobody, func(w http.ResponseWriter, r *http.Request) {
			nest(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				ctx := r.Context()
				change(1)
				agree(t, "the first Flags", fv.read(ctx, 20+i), "1")
				agree(t, "the second Flags", gv.read(ctx, 30+i), "11")
				mustBe(t, "the subject", openfeature.TransactionContext(ctx).TargetingKey(), "bob")
				agree(t, "the first Flags, renewed", fv.read(f.Renew(ctx), 20+i), "2")
				agree(t, "the second Flags beside it", gv.read(f.Renew(ctx), 30+i), "11")
			})).ServeHTTP(w, r)
		})
	}
}
