// Package canary sends a share of the requests to a new handler and the others to the old handler, within one process, and keeps
// each visitor on one side.
//
//	cart := canary.NewRouter(oldCart, newCart, canary.Options{
//		Name:   "cart-v2",
//		Weight: canary.Fixed(0.05),
//		Cookie: canary.NewCookie("visitor", canary.CookieOptions{}),
//	})
//	mux.Handle("/cart", cart)
//
// # Words
//
// A rollout has two sides, stable and canary. The weight is the share of the traffic that the canary gets, from 0 to 1.
// What stays together is a unit, named by its key; the cohort are the units on the canary side.
//
// # How a request is decided
//
//  1. Without a canary handler every request is stable.
//  2. While [Options.Kill] is killed or latched every request is stable.
//  3. [Options.Choose] may choose the side, whatever the weight: by a header such as "canary: true" ([ByHeader]), by a cookie
//     ([ByCookie]), by method and path ([ByRoute]), or by when the visitor's session began.
//  4. At weight 0 every request is stable, at weight 1 all go to the canary. No key is asked for then, and no
//     cookie is set.
//  5. [Options.Key] gives the key, or else [Options.Cookie] does. The key and the salt give a point in [0, 1), and the
//     request goes to the canary if the point is below the weight.
//  6. Where neither gives a key, the request is drawn at random.
//
// A request for which Options.Weight, Choose or Key panics is stable. [Status] counts these panics, and the first of each function
// is logged.
//
// # Blue and green
//
// A [Switch] changes all requests over to the canary handler at once, and back. It tells when the other handler has no request
// left, and does not change over before a warm-up has succeeded.
//
// # Rescue
//
// With [Options.Rescue] the stable handler answers a request whose canary panics, or by choice answers 5xx, before anything was
// sent. Only requests that may run twice are rescued.
//
// # Outcomes
//
// [Options.Observe] is called with the [Outcome] of each request: side, weight, status, bytes, duration, and whether the handler
// has panicked, was out of time, or the client has gone. [Outcome.Unit] is the key by which the side was drawn. [Options.Begin]
// is called before the handler gets the request, so that a program also sees requests that do not end. [Options.Bad] says which
// outcomes are bad; by default these are failures of the server ([Outcome.Failed]). [Status] counts the outcomes of each side and
// has quantiles of their durations.
//
// # Kill and latch
//
// A [KillSwitch] stops a rollout at once, whatever the weight function goes on to return:
//
//	kill := canary.NewKillSwitch("cart-v2", canary.KillSwitchOptions{File: "cart-v2.kill", Broadcast: up.Broadcast})
//	up.Keep("cart-v2.kill", kill)
//	cart := canary.NewRouter(oldCart, newCart, canary.Options{Weight: weight, Kill: kill})
//
// and later, in a handler of the admin listener:
//
//	err := kill.Kill("orders are lost")
//
// An operator kills, a judge latches. After either, every request is stable, also a request for which Choose chooses the canary.
// A weight of 0 is weaker: there Choose still decides. The table shows what happens to a request:
//
//	                      drawn by the weight   chooses canary   chooses stable
//	weight 0              stable                canary           stable
//	weight between        in its share          canary           stable
//	weight 1              canary                canary           stable
//	latched or killed     stable                stable           stable
//
// A judge that holds the rollout lets its weight function return the held weight, so the row is that of the weight.
//
// The switch stays killed until [KillSwitch.Revive]. It passes to the next process by Keep, comes back on an abort, reaches the
// other living processes by Broadcast, and outlives a crash, a kill -9 and a restart in its File. Wherever two states meet, killed
// wins: a revival clears the kills and latches that its process knew, and no other.
//
// # What a visitor can rely on
//
// A key has the same point for ever, under the same salt, in each process and on each host. So a visitor on the canary side at
// 5 % is there at 25 % too; after a rollback and a new ramp, the same visitors are on the canary side; a restart or an upgrade
// changes nothing. All this needs the same [Options.Salt], which is the Name of the rollout by default, and for cookies the same
// secret: the secret passes to the next process with the state of the [Router], while hosts and restarts need
// [CookieOptions.Secrets]. When the weight rises, visitors go from stable to canary, and while two processes with different
// weights serve at once, such a visitor sees both sides.
//
// A cookie is never set in the answer to a request that another site made a browser send with an unsafe method, such as a form
// POST: browsers leave out the visitor's cookie there (SameSite), and a new cookie would replace it. Such a request without a
// cookie is drawn by itself.
//
// # Caches
//
// While the weight is between 0 and 1, or if [Options.Choose] is set, the answer to a GET or HEAD depends on the side, and the
// router says so in the header, when the header is sent. Present lines stay.
//   - Vary has what the side depends on: Cookie for [Options.Cookie] and for the cohort of a session, the names in [Options.Vary]
//     for [Options.Choose] and [Options.Key].
//   - If the side depends on something else, a key from nowhere in the header or a draw, Vary is * and Cache-Control is private.
//   - An answer that sets a cookie has Cache-Control: private.
//
// [Options.SameForAll] is for pages that both sides answer alike: they stay as the handler made them.
//
// # Handlers
//
// Handlers get the request of the server itself, unless [Options.SideInContext] is set, the answer sets a cookie, or the request may be
// rescued. They get the ResponseWriter of the server itself, unless the router adds header lines, looks at outcomes, or may rescue
// the request. Otherwise they get a writer that flushes, hijacks, copies and pushes as the server's does, and has Unwrap for
// http.ResponseController. A panic is counted and goes on, unless [Options.Rescue] catches it.
//
// # Goroutines
//
// All functions and methods may be called from any number of goroutines. The functions of Options and of Rescue are called in the
// goroutine of each request, so in several at once. The package starts a goroutine for each write of the file of a
// KillSwitch; the goroutine ends when the disk has answered.
package canary
