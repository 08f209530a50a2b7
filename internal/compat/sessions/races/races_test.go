package races

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// none fails the test for every problem.
func none(t *testing.T, n int, problems map[string]int) {
	t.Helper()
	for _, p := range slices.Sorted(maps.Keys(problems)) {
		t.Errorf("%d of %d races: %s", problems[p], n, p)
	}
	t.Logf("%d races, %d with a problem", n, len(problems))
}

// beside logs the problems of scs.
func beside(t *testing.T, n int, problems map[string]int) {
	t.Helper()
	for _, p := range slices.Sorted(maps.Keys(problems)) {
		t.Logf("scs: %d of %d races: %s", problems[p], n, p)
	}
}

// "0 lost updates": two processes with several requests at a time each increment one number in one session, and the number is
// exact.
func TestNoUpdateIsLost(t *testing.T) {
	onEngines(t, func(t *testing.T, e engine) {
		count, failed := startFleet(t, e, "ours").increment(*increments)
		if t.Logf("%d increments by two processes: %d", *increments, count); count != *increments || failed != 0 {
			t.Errorf("%d increments are stored, %d requests failed", count, failed)
		}
	})
	t.Run("BesideScs", func(t *testing.T) {
		n := min(*increments, 1000)
		count, failed := startFleet(t, engines[0], "scs").increment(n)
		t.Logf("scs: %d increments by two processes: %d, %d failed", n, count, failed)
	})
}

// increment makes n increments of a new session, half of them in each of two processes, and returns what is stored.
func (f *fleet) increment(n int) (count, failed int) {
	cookie := f.ask(f.a, "put", "", "k", "cart", "v", "book").cookie
	half := strconv.Itoa(n / 2)
	other := make(chan answer, 1)
	go func() { other <- f.ask(f.b, "bump", cookie, "n", half) }()
	for _, a := range []answer{f.ask(f.a, "bump", cookie, "n", half), <-other} {
		bad, err := strconv.Atoi(a.body)
		if err != nil || a.err != nil {
			f.t.Errorf("/bump answers %v", a)
		}
		failed += bad
	}
	shown, _ := url.ParseQuery(f.ask(f.a, "show", cookie).body)
	count, _ = strconv.Atoi(shown.Get("count"))
	return count, failed
}

// "0 resurrections": whatever a slow request does while its visitor logs out in another process, the destroyed session is not
// there afterwards: not with the old cookie, nor with one that an answer has set.
func TestALogoutIsFinal(t *testing.T) {
	onEngines(t, func(t *testing.T, e engine) {
		none(t, *meetings/2, startFleet(t, e, "ours").run(*meetings/2, logout))
	})
	t.Run("BesideScs", func(t *testing.T) {
		beside(t, *peer/2, startFleet(t, engines[0], "scs").run(*peer/2, logout))
	})
}

func logout(r *race, i int) {
	o := overlaps[i%len(overlaps)]
	cookie := r.good(r.a, "put", "", "k", "cart", "v", "book").cookie
	slow, fast := r.meet(o, i, cookie, "logout")
	switch {
	case fast.status == http.StatusOK && slow.status == http.StatusOK && o.renews:
		r.report("a request that %s and a logout both succeed", o.name)
	case fast.status == http.StatusConflict && slow.status == http.StatusOK && o.renews: // the session goes on under the other cookie
		r.hidden("a request "+o.name+": the old cookie", cookie, "user")
		return
	case fast.status != http.StatusOK:
		r.report("a request that %s answers %v, and the logout %v", o.name, slow, fast)
	}
	what := "a request " + o.name + " during a logout: "
	r.hidden(what+"the destroyed session", cookie, keys...)
	r.hidden(what+"the cookie of the slow answer", slow.cookie, keys...)
	r.hidden(what+"the cookie of the logout", fast.cookie, keys...)
	r.ask(r.b, "put", cookie, "k", "late", "v", "later")
	r.hidden(what+"the destroyed session, after one more write,", cookie, keys...)
}

// "A token from before a renewal never reaches data written after it", whatever a slow request does while its visitor logs in in
// another process. What the slow request has stored before is in the renewed session.
func TestALoginLeavesTheOldTokenBehind(t *testing.T) {
	onEngines(t, func(t *testing.T, e engine) {
		none(t, *meetings/2, startFleet(t, e, "ours").run(*meetings/2, login))
	})
	t.Run("BesideScs", func(t *testing.T) {
		beside(t, *peer/2, startFleet(t, engines[0], "scs").run(*peer/2, login))
	})
}

func login(r *race, i int) {
	o := overlaps[i%len(overlaps)]
	cookie := r.good(r.a, "put", "", "k", "cart", "v", "book").cookie
	slow, fast := r.meet(o, i, cookie, "login")
	visitor := fast.cookie
	switch {
	case fast.status == http.StatusOK && slow.status == http.StatusOK && o.renews:
		r.report("a request that %s and a login both succeed", o.name)
	case fast.status == http.StatusConflict && slow.status == http.StatusOK && o.renews: // the other one is the renewal
		visitor = slow.cookie
	case fast.status != http.StatusOK:
		r.report("a request that %s answers %v, and the login %v", o.name, slow, fast)
	}
	what := "a request " + o.name + " during a login: "
	r.good(r.b, "put", visitor, "k", "after", "v", "secret")
	r.hidden(what+"the old cookie", cookie, "user", "after")
	r.ask(r.a, "put", cookie, "k", "evil", "v", "evil")
	r.hidden(what+"the old cookie, after one more write,", cookie, "user", "after", "evil")
	shown := r.show(r.b, visitor)
	stored := map[string]bool{"late": o.do == "put", "count": o.do == "count"}
	for _, key := range keys {
		want := key == "cart" || key == "after" || stored[key] && slow.status == http.StatusOK
		if shown.Has(key) != want && key != "user" { // the other request may be a renewal without a login
			r.report("%sthe visitor has %s: %v", what, key, !want)
		}
	}
}

// Who knows the token from before the login, and uses it all the time in another process, reads nothing that was written after
// the login and writes nothing that the visitor sees: not with the token, nor with one that an answer has set.
func TestAFixatedTokenIsWorthless(t *testing.T) {
	onEngines(t, func(t *testing.T, e engine) {
		none(t, *meetings/5, startFleet(t, e, "ours").run(*meetings/5, fixate))
	})
	t.Run("BesideScs", func(t *testing.T) {
		beside(t, *peer/5, startFleet(t, engines[0], "scs").run(*peer/5, fixate))
	})
}

// An attacker uses a planted cookie, and every cookie that it gets for it.
type attacker struct {
	*race
	planted string
	cookies map[string]bool
}

func (a *attacker) attack(round string) {
	all := slices.Collect(maps.Keys(a.cookies))
	for _, cookie := range all {
		for _, do := range []string{"put", "show", "count", "show"} {
			got := a.ask(a.b, do, cookie, "k", "evil", "v", round)
			if strings.Contains(got.body, "ann") {
				a.report("the attacker reads what is the victim's")
			}
			if len(a.cookies) < 8 {
				a.cookies[got.cookie] = true
			}
		}
	}
}

func fixate(r *race, i int) {
	planted := r.good(r.b, "put", "", "k", "cart", "v", "planted").cookie
	a := &attacker{race: &race{fleet: r.fleet}, planted: planted, cookies: map[string]bool{planted: true}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.attack("during")
	}()
	victim := r.good(r.a, "login", planted, "v", "ann").cookie
	r.good(r.a, "put", victim, "k", "after", "v", "ann's secret")
	before := r.show(r.a, victim)
	<-done
	a.attack("after")
	if a.cookies[victim] {
		r.report("the attacker gets the cookie of the victim")
	}
	if after := r.show(r.b, victim); after.Encode() != before.Encode() {
		r.report("the victim sees what the attacker writes after the login")
	}
	if user := before.Get("user"); user != "ann" {
		r.report("the victim is %q", user)
	}
	r.problems = append(r.problems, a.problems...)
}
