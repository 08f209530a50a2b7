package certs

import (
	"cmp"
	"crypto/tls"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/midair-go/midair/internal/keyring"
)

// A new key encrypts every rotation and each is accepted for lifetime, as with crypto/tls (ticketKeyRotation and
// ticketKeyLifetime there). So there are 8 keys, the key of the next day included, and more only where processes meet that made
// keys of their own.
const (
	rotation = 24 * time.Hour
	lifetime = 7 * 24 * time.Hour
	maxKeys  = 16
)

// ticketKey encrypts from a time on, until the next key does. A ticket key is accepted before.
type ticketKey struct {
	from   time.Time
	secret string // of keyring.SecretSize bytes
}

// Secret makes a ticketKey a keyring.Key.
func (k ticketKey) Secret() string { return k.secret }

// ring holds ticket keys. The zero value makes keys when the first key is needed, so a new process has no key before the keys
// of the old process arrive.
type ring struct {
	holder tls.Config                // only has the keys in the order of use; never copied, so that it can be changed while it serves
	due    atomic.Pointer[time.Time] // when they have to be arranged anew, whatever the clock is set to until then; nil: now

	mu   sync.Mutex              // for changes of keys
	keys keyring.Ring[ticketKey] // the one that encrypts, then the others, newest first
}

func (r *ring) wrap(cs tls.ConnectionState, s *tls.SessionState) ([]byte, error) {
	return r.current().EncryptTicket(cs, s)
}

func (r *ring) unwrap(ticket []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
	return r.current().DecryptTicket(ticket, cs)
}

func (r *ring) current() *tls.Config {
	if due := r.due.Load(); due == nil || !time.Now().Before(*due) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.arrange(time.Now(), nil) // not the time before the lock: another goroutine has made a key meanwhile
	}
	return &r.holder
}

// all returns the keys, of which there are two at least.
func (r *ring) all() []ticketKey {
	r.merge(nil)
	return r.keys.Keys()
}

// merge adds the keys of another process.
func (r *ring) merge(others []ticketKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.arrange(time.Now(), others)
}

// arrange adds keys, forgets keys that are over, makes the key that encrypts and the next key if there is none, and puts the
// keys in order. A key that is there twice is as old as the older copy says. The caller holds the lock.
func (r *ring) arrange(now time.Time, others []ticketKey) {
	keys := slices.Clone(r.keys.Keys())
	for _, k := range others {
		i := slices.IndexFunc(keys, func(own ticketKey) bool { return own.secret == k.secret })
		if i < 0 {
			keys = append(keys, k)
		} else if k.from.Before(keys[i].from) {
			keys[i].from = k.from
		}
	}
	keys = slices.DeleteFunc(keys, func(k ticketKey) bool { return !now.Before(k.from.Add(lifetime)) })
	for i := range keys {
		if keys[i].from.After(now.Add(rotation)) { // the clock was ahead when it was made
			keys[i].from = now
		}
	}
	slices.SortFunc(keys, func(a, b ticketKey) int { // in the same way in every process
		return cmp.Or(b.from.Compare(a.from), cmp.Compare(a.secret, b.secret))
	})
	at := slices.IndexFunc(keys, func(k ticketKey) bool { return !k.from.After(now) })
	if at < 0 {
		at = len(keys)
		keys = append(keys, newTicketKey(now))
	} else if now.Sub(keys[at].from) >= rotation {
		keys = slices.Insert(keys, at, newTicketKey(now))
	}
	if at == 0 {
		keys = slices.Insert(keys, 0, newTicketKey(keys[0].from.Add(rotation)))
		at = 1
	}
	r.use(r.keys.Set(maxKeys, keys[at:at+1], keys), now)
}

// use makes tickets with the keys from now on. The caller holds the lock.
func (r *ring) use(keys []ticketKey, now time.Time) {
	due := keys[0].from.Add(rotation)
	secrets := make([][keyring.SecretSize]byte, len(keys))
	for i, k := range keys {
		copy(secrets[i][:], k.secret)
		if k.from.After(now) && k.from.Before(due) {
			due = k.from
		}
		if end := k.from.Add(lifetime); end.Before(due) {
			due = end
		}
	}
	r.holder.SetSessionTicketKeys(secrets)
	due = now.Add(due.Sub(now))
	r.due.Store(&due)
}

func newTicketKey(from time.Time) ticketKey {
	return ticketKey{from.Round(0), keyring.NewSecret()} // by the wall clock: it means something to other processes
}
