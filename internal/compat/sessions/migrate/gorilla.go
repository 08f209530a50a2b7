package migrate

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gorilla/sessions"
	"github.com/midair-go/midair/session"
)

// Gorilla brings sessions of github.com/gorilla/sessions over. Old is the store as the old build had it, with its keys, and Name
// the name of the sessions. Store is the one of the new sessions: it remembers for MaxAge whose old cookie is not good any more.
type Gorilla struct {
	Old    sessions.Store
	Name   string
	Store  session.Store
	MaxAge time.Duration
}

// Import is for [session.Options].Import.
func (g Gorilla) Import(r *http.Request) (map[string]any, bool) {
	old, err := g.Old.New(r, g.Name)
	if err != nil || old.IsNew {
		return nil, false
	}
	cookie, _ := r.Cookie(g.Name)
	spent := "spent " + hash(cookie.Value)
	if _, err := g.Store.Load(r.Context(), spent); !errors.Is(err, session.ErrNotFound) {
		return nil, false
	}
	values := map[string]any{"gorilla spent": spent}
	for key, value := range old.Values {
		values[fmt.Sprint(key)] = value
	}
	return values, true
}

// Logout makes the old cookie worthless. Call it before session.Destroy.
func (g Gorilla) Logout(r *http.Request) error {
	spent, imported, err := session.Get[string](r.Context(), "gorilla spent")
	if err != nil || !imported {
		return err
	}
	_, err = g.Store.Create(r.Context(), spent, nil, time.Now().Add(g.MaxAge))
	if errors.Is(err, session.ErrConflict) { // another request has logged out
		return nil
	}
	return err
}

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
