// Package migrate is a recipe for programs that come from github.com/alexedwards/scs/v2 or github.com/gorilla/sessions: nobody
// who is logged in there has to log in again. Copy the type that you need.
//
//	old := migrate.SCS{Old: oldManager}
//	sm := session.NewManager(session.Dir("sessions"), session.Options{Cookie: "shop", Import: old.Import})
//	mux.HandleFunc("POST /logout", func(w http.ResponseWriter, r *http.Request) {
//		err := errors.Join(old.Logout(r), session.Destroy(r.Context()))
//		// answer
//	})
//
// # What Import has to do
//
// It reads the old session and leaves it there: two requests of a visitor may come at once and both read it, and a rollback needs
// it. Values become JSON. So a struct has to be one that encoding/json can write and read, and types that were registered for
// encoding/gob stay registered until the last old session has expired.
//
// # A logout has to end both
//
// A browser, or whoever has copied its old cookie, may come with the old cookie alone, and Import would log the visitor in. So
// the logout ends the old session in its store too, before the new one. The token of the old session is among the imported values
// for that.
//
// A session of gorilla's CookieStore is in the cookie and in no store, so nobody can end it. Gorilla remembers the cookies whose
// visitor has logged out. What stays is the limit that the CookieStore had before: it makes another cookie with each Save, and a
// copy of an earlier cookie of the same session is good until its MaxAge. Take Import out of the program when the last old
// session has expired.
//
// # The name of the cookie
//
// Use another name than the old library does, at least until the new version stays. The old build finds its own cookie after a
// rollback then, and the old session as it was; what the new build has written is there when the new build comes back. A logout
// in the old build ends the old session alone. If both use one name, the new cookie takes the place of the old one: a rollback
// logs out those who have visited the new build, because the old build takes the new cookie for a damaged one.
package migrate
