package session

import (
	"context"
	"net/http"
	"time"

	"github.com/midair-go/midair/internal/request"
)

// open makes the visit of a client with the token value.
func (e *explicit) open(ctx context.Context, m *Manager, value string) context.Context {
	e.slot.Init(new(http.Request).WithContext(ctx), nil)
	v := &e.visit
	v.m, v.slot, v.start, v.made = m, &e.slot, time.Now(), e
	if value != "" {
		lines := []string{m.opts.Cookie + "=" + value}
		if m.former != "" {
			lines = append(lines, m.former+"="+value)
		}
		v.recognize(lines)
	}
	e.slot.Set(request.Session, v)
	return &e.slot
}

// commit returns the token if the client needs a new token. Afterwards there is no way to give the client another token.
func commit(v *visit) (value string, changed bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.sent = true
	if v.cookie != due && !(v.cookie == fresh && v.writes > 0) && !(v.cookie == aged && v.used.Load()) {
		return "", false
	}
	v.cookie = held
	return v.m.seal(v.m.opts.Cookie, v.token, time.Now()), true
}

// reload reads the session again, and returns ErrGone if the session has ended.
func reload(ctx context.Context, v *visit) error {
	if err := v.begin(ctx); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.cookie <= fresh {
		return nil
	}
	before := v.known
	v.loaded = false
	if err := v.load(ctx); err != nil {
		return err
	}
	if v.known == nil && before != nil || v.known != nil && !v.known.env.gone.IsZero() {
		return ErrGone
	}
	return nil
}
