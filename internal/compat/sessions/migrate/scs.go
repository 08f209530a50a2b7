package migrate

import (
	"net/http"

	"github.com/alexedwards/scs/v2"
	"github.com/midair-go/midair/session"
)

// SCS brings sessions of github.com/alexedwards/scs/v2 over. Old is the manager as the old build had it, with its store.
type SCS struct{ Old *scs.SessionManager }

// Import is for [session.Options].Import.
func (s SCS) Import(r *http.Request) (map[string]any, bool) {
	cookie, err := r.Cookie(s.Old.Cookie.Name)
	if err != nil {
		return nil, false
	}
	ctx, err := s.Old.Load(r.Context(), cookie.Value)
	if err != nil || len(s.Old.Keys(ctx)) == 0 {
		return nil, false
	}
	values := map[string]any{"scs token": cookie.Value}
	for _, key := range s.Old.Keys(ctx) {
		values[key] = s.Old.Get(ctx, key)
	}
	return values, true
}

// Logout ends the old session. Call it before session.Destroy.
func (s SCS) Logout(r *http.Request) error {
	token, imported, err := session.Get[string](r.Context(), "scs token")
	if err != nil || !imported {
		return err
	}
	ctx, err := s.Old.Load(r.Context(), token)
	if err != nil {
		return err
	}
	return s.Old.Destroy(ctx)
}
