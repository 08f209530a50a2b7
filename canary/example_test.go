package canary_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/midair-go/midair/canary"
)

// A twentieth of the visitors get the new cart, always the same ones. Without a key or a cookie every request would be
// drawn by itself.
func Example() {
	oldCart := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "old cart") })
	newCart := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "new cart") })
	cart := canary.NewRouter(oldCart, newCart, canary.Options{
		Name:   "cart-v2",
		Weight: canary.Fixed(0.05),
		Cookie: canary.NewCookie("visitor", canary.CookieOptions{}),
	})
	mux := http.NewServeMux()
	mux.Handle("/cart", cart)

	for range 1000 {
		mux.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/cart", nil))
	}
	s := cart.Status()
	fmt.Println(s.Name, s.Weight, "requests", s.Stable.Requests+s.Canary.Requests, "panics", s.Canary.Panics)
	// Output: cart-v2 0.05 requests 1000 panics 0
}

// The middleware is for routers that chain such functions, such as chi:
//
//	r.Use(canary.Middleware(newCart, canary.Options{Weight: canary.Fixed(0.05)}))
func ExampleMiddleware() {
	newCart := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { fmt.Println("new cart") })
	opts := canary.Options{Name: "cart-v2"}
	opts.Choose, opts.Vary = canary.ByHeader("canary")
	use := canary.Middleware(newCart, opts)

	cart := use(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { fmt.Println("old cart") }))
	r := httptest.NewRequest("GET", "/cart", nil)
	cart.ServeHTTP(httptest.NewRecorder(), r)
	r.Header.Set("Canary", "true") // a tester tries it before the weight is raised
	cart.ServeHTTP(httptest.NewRecorder(), r)
	fmt.Println("forced:", cart.(*canary.Router).Status().Canary.Forced)
	// Output:
	// old cart
	// new cart
	// forced: 1
}

// A key that the service knows its users by, such as the id of an account, keeps each on one side. Flags and templates
// ask the context for it.
func ExampleSideFromContext() {
	greet := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		side, _ := canary.SideFromContext(r.Context())
		fmt.Println(r.URL.Query().Get("user"), "is on the side", side)
	})
	rt := canary.NewRouter(greet, greet, canary.Options{
		Name:          "greeting-v2",
		Weight:        canary.Fixed(0.5),
		Key:           func(r *http.Request) string { return r.URL.Query().Get("user") },
		SideInContext: true,
	})
	for _, user := range []string{"ann", "bob", "eve", "ann", "bob", "eve"} {
		rt.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/?user="+user, nil))
	}
	// Output:
	// ann is on the side canary
	// bob is on the side canary
	// eve is on the side stable
	// ann is on the side canary
	// bob is on the side canary
	// eve is on the side stable
}

// An operator stops a rollout, which also holds for who chooses the canary by header.
func ExampleKillSwitch() {
	kill := canary.NewKillSwitch("cart-v2", canary.KillSwitchOptions{Logger: quiet}) // with a File it outlives a restart
	cart := canary.NewRouter(v1, v2, headed(canary.Options{Weight: canary.Fixed(1), Kill: kill}, "canary"))
	fmt.Println(ask(cart), cart.Status().DecidedBy)

	if err := kill.Kill("orders are lost"); err != nil {
		fmt.Println(err) // it is in force in this process all the same
	}
	fmt.Println(ask(cart, "canary", "true"), cart.Status().DecidedBy, kill.Status().Reason)

	if err := kill.Revive("mended"); err != nil {
		fmt.Println(err)
	}
	fmt.Println(ask(cart), cart.Status().DecidedBy)
	// Output:
	// canary weight
	// stable killed orders are lost
	// canary weight
}
