// Package session keeps what a service knows of a visitor outside of its process, so that it outlives upgrades,
// rollbacks and restarts, and so that two versions of the service can serve one visitor at the same time.
//
//	sm := session.NewManager(session.Dir("sessions"), session.Options{})
//	up.Keep("keys", sm.Keys())
//	up.Check("sessions", sm.Ready)
//	mux.HandleFunc("/count", func(w http.ResponseWriter, r *http.Request) {
//		var n int
//		err := session.Update(r.Context(), func(v *session.Values) error {
//			n = 0 // it may run again
//			if _, err := v.Get("count", &n); err != nil {
//				return err
//			}
//			n++
//			return v.Put("count", n)
//		})
//		// answer with n, or with an error
//	})
//	handler := sm.Middleware(mux)
//
// # Writes go to the store at once
//
// [Put], [Delete], [Update], [Renew] and [Destroy] are in the store when they return nil. Nothing is collected until the
// end of the request: an answer that says "stored" is true even if the process dies with its next instruction, a
// stream can write in its middle, and an error reaches the handler while it can still answer with it. Several changes
// that belong together go into one Update, which is also the way to one write instead of many.
//
// An Update is a compare-and-swap with the values of the session as they are, and runs again if another request came
// first, in this process or another one. So no update is lost.
//
// [Get] loads the session when the request needs it for the first time. A request that needs none costs no access to
// the store, and works while the store does not.
//
// # The cookie
//
// The cookie holds the id of the session, sealed with AES-256-GCM, and the visitor's cohort in clear text; a client can change
// neither. An answer sets the cookie only if the visitor needs one: after a write, a Renew or a Destroy, and when
// [Manager.Cohort] makes a cohort for a visitor without a cookie. All other answers are as the handler made them. So shared
// caches can keep them, and a form POST from another site replaces no session: browsers leave out the cookie there (SameSite),
// and the request looks like that of a new visitor. A handler that writes in such a request does replace the visitor's session,
// as a login has to. Put http.CrossOriginProtection around handlers that write and are not for other sites. When half of the
// life of a cookie is over, an answer to a request that used the session renews the cookie.
//
// An answer that sets the cookie has Cache-Control: private. An answer to a request that read its session or its cohort has
// Vary: Cookie. Both are added when the header is sent, and present lines stay. If a handler panics after a write, a Renew or
// a Destroy, the cookie is in the header for the answer of a handler further out.
//
// A visitor without a cookie has to get one before the header is sent; a later write returns [ErrHeaderSent] and stores nothing.
// Two requests that carry the same cookie may make the first write at the same time and meet in one session: until an hour
// after an id was made it may be created in the store. An id that was not made here, or that the store has lost, expired or
// removed since, is never adopted. A cookie that was changed, or sealed by an unknown key, makes a new visitor and no error.
//
// [Manager.Cohort] is for what must stay on one side: it does not change with Renew, Destroy or expiry. [Manager.Started] tells
// visitors from before a moment from later ones.
//
// # When the store does not work
//
// A call of the store that fails, or that takes longer than [Options].Timeout, is [ErrUnavailable], and the visitor keeps the
// cookie. Requests that use no session do not notice the failure, with Cohort and Started neither. A process needs the store once
// to read cookies at all, for the secret: one that starts without the store serves requests that use no session, makes no new
// cookie for a visitor whose cookie cannot be read yet, and asks again each second.
//
// # Coming from another library
//
// [Options].Import brings the sessions of another library over, each when its visitor needs the session for the first time. The
// old library's cookie stays, so after a rollback the visitor has the old session. A handler for the logout has to end both.
//
// # The end of a session
//
// Renew and Destroy replace the record by a tombstone, with a compare-and-swap too. So a request that is on its
// way cannot bring a destroyed session back, and one that knows the old id of a renewed session sees nothing from
// after the renewal: it reads the values from before for half a minute, and writes get [ErrGone]. A tombstone of Renew
// keeps those values in the store until it expires itself, an hour later at most.
//
// # Users
//
// [Manager.Login] binds a session to a user, and [Manager.List], [Manager.Revoke], [Manager.RevokeAll] and [Manager.RevokeOthers]
// show and end the sessions of a user in every process. A record for each user lists the sessions. Versions of this package
// without Login keep the user of a session, and do not know the list: a session that such a version has renewed is listed, or
// ended if its login was revoked, when a version with Login serves the session the next time.
//
// [Manager.Load] and [Manager.Commit] are for clients without cookies.
//
// # Two versions of a program
//
// A record is a JSON object with the values as encoding/json made them, by key. Keys that a version does not know stay
// byte for byte, and so do members of an object that its struct does not have ([Values.Put]). A value that does not fit
// the type that a version wants is an error for its key alone. Members of such an object that have to go with it
// need a Delete first.
//
// # Goroutines
//
// A [Manager], its [KeyRing] and a [DirStore] may be used from any number of goroutines, and the functions that take the
// context of a request from several at once, also after the handler has returned, as long as the context lives: only
// what needs a cookie fails then, with [ErrHeaderSent]. A function given to Update may answer and may read, and must not
// call Update, Renew or Destroy for the same session, whose change would make it run again. The package starts
// a goroutine only to ask the store for its secret, which ends with the answer, and nothing has to be closed.
package session
