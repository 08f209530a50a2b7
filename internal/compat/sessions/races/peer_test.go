package races

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/midair-go/midair/internal/compat/sessions/scsstore"
	"github.com/midair-go/midair/session"
)

// theirs is scs with the same engine.
type theirs struct{ sm *scs.SessionManager }

func newPeer(store session.Store, idle time.Duration) service {
	sm := scs.New()
	sm.Store = scsstore.Store{Sessions: store}
	sm.IdleTimeout = idle
	return theirs{sm}
}

func (p theirs) middleware(h http.Handler) http.Handler { return p.sm.LoadAndSave(h) }

func (p theirs) get(ctx context.Context, key string) (string, error) {
	if v := p.sm.Get(ctx, key); v != nil {
		return fmt.Sprint(v), nil
	}
	return "", nil
}

func (p theirs) put(ctx context.Context, key, value string) error {
	p.sm.Put(ctx, key, value)
	return nil
}

func (p theirs) count(ctx context.Context) error {
	p.sm.Put(ctx, "count", p.sm.GetInt(ctx, "count")+1)
	return nil
}

func (p theirs) renew(ctx context.Context) error   { return p.sm.RenewToken(ctx) }
func (p theirs) destroy(ctx context.Context) error { return p.sm.Destroy(ctx) }
