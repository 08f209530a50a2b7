package session

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/midair-go/midair/internal/request"
)

// An inheritance holds the result of Options.Import for a visit.
type inheritance struct {
	r    *http.Request // nil if nothing is ever imported
	once sync.Once     // Import is called
	err  error         // why it brought nothing; set in once
	// broken is set if Import has panicked: nothing is written then, because a new session would hide the old one for ever.
	broken error
	// values are what Import has brought and no store has yet. They are set in once, and changed under the lock of the visit.
	values members
}

// bring calls Options.Import once. No lock is held, because Import is code of the program, and may panic.
func (i *inheritance) bring(o *Options) error {
	i.once.Do(func() {
		i.broken = errors.New("session: Options.Import has not returned")
		values, ok := o.Import(i.r)
		i.broken = nil
		if !ok || len(values) == 0 {
			return
		}
		encoded := Values{m: members{}}
		for name, value := range values {
			if i.err = encoded.Put(name, value); i.err != nil {
				return
			}
		}
		if size := (&envelope{values: encoded.m}).size(); size > o.MaxSize {
			i.err = fmt.Errorf("%w: imported values of %d bytes, MaxSize is %d", ErrTooLarge, size, o.MaxSize)
			return
		}
		i.values = encoded.m
	})
	return i.err
}

// importID is the id of the session for imported values. Requests of a browser with the same cookies get the same id and meet
// in one session. Without the secret the id cannot be known.
func importID(secret string, cookies []string) (id [16]byte) {
	mac := hmac.New(sha256.New, []byte(secret))
	io.WriteString(mac, "midair session import")
	for _, line := range cookies {
		io.WriteString(mac, "\x00"+line)
	}
	copy(id[:], mac.Sum(nil))
	return id
}

// begin is called without mu before the session is used. It finds the cookie again if the keys were not known when the request
// came, and calls Options.Import if the visitor has no session here.
func (v *visit) begin(ctx context.Context) error {
	v.use()
	if imports, err := v.imports(ctx); !imports || err != nil {
		return err
	}
	return v.inherited.bring(&v.m.opts)
}

// imports reports whether the visitor may have a session of another library, and none here.
func (v *visit) imports(ctx context.Context) (bool, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.unlock(ctx); err != nil || v.inherited.r == nil {
		return false, err
	}
	if v.cookie == none {
		return true, nil
	}
	if v.token.started() {
		return false, nil
	}
	err := v.load(ctx)
	return err == nil && v.known == nil, err
}

// unlock is called with mu held. If no key has opened the cookie yet, unlock waits for the key of the store and looks for the
// cookie again.
func (v *visit) unlock(ctx context.Context) error {
	if v.cookie != shut {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, v.m.opts.Timeout)
	defer cancel()
	if err := v.m.keyring.ready(ctx); err != nil {
		return err
	}
	v.cookie = none
	if f := v.m.find(v.cookies, v.start, &v.memory); f.ok {
		v.take(f)
	} else {
		v.m.journal.refused.Add(1)
	}
	v.try.rebase(v)
	return nil
}

// adopt is called with mu held, before the header is sent or with a token that the client has. Imported values are stored as
// the session of the visit. If another request of the same browser came first, the session of the other request is taken.
func (v *visit) adopt(ctx context.Context) error {
	if len(v.inherited.values) == 0 {
		return v.inherited.broken
	}
	now := time.Now()
	t, state := newToken(now), due
	if v.cookie != none {
		t.cohort = v.token.cohort
	}
	t.id = importID(v.m.keyring.keys()[0].secret, v.cookies)
	t.start()
	if v.late() { // no other id can reach the client
		if !v.adoptable(now) {
			return ErrHeaderSent
		}
		t, state = v.token, v.cookie
	}
	env := newEnvelope(now)
	env.values = v.inherited.values
	known, err := v.m.save(ctx, t.key(), nil, env, v.m.expiry(env, now))
	switch {
	case err == nil:
		v.m.journal.note(ctx, eventImported, t.key())
	case errors.Is(err, ErrConflict):
		if known, err = v.m.load(ctx, t.key()); err == nil && known == nil { // it has just expired
			err = ErrConflict
		} else if err == nil && !known.env.gone.IsZero() && state == due {
			state = held // the answer that has ended it carries the cookie that counts
		}
	}
	if err != nil {
		return err
	}
	v.become(t, known, state)
	v.inherited.values = nil
	v.try.rebase(v)
	return nil
}

// borrowed is called with mu held. The imported values are returned if the request cannot begin a session with them, because
// the client cannot get a cookie any more, or must not, because another site has made the request.
func (v *visit) borrowed() members {
	if v.late() || !request.MaySetIdentity(v.inherited.r) {
		return v.inherited.values
	}
	return nil
}
