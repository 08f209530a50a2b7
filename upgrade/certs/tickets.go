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

// After each rotation a new key begins to encrypt. Each key is accepted until lifetime after its begin. The values are those of
// crypto/tls (ticketKeyRotation and ticketKeyLifetime). So a process has 8 keys, including the key of the next day. It has more
// keys only if it has received keys from another process that had made keys of its own.
const (
	rotation = 24 * time.Hour
	lifetime = 7 * 24 * time.Hour
	maxKeys  = 16
)

// ticketKey is a key for tickets. The field from is the time at which the key begins to encrypt. The key encrypts until the
// next key begins. Tickets of the key are accepted even before its begin.
type ticketKey struct {
	from   time.Time
	secret string // of keyring.SecretSize bytes
}

// Secret returns the secret. A ticketKey is a keyring.Key.
func (k ticketKey) Secret() string { return k.secret }

// ring holds the ticket keys. In the zero value there are no keys, and the first use makes them. So a new process makes no keys
// of its own if the keys of the old process arrive before the first use.
type ring struct {
	holder tls.Config                // has only the keys; never copied, so SetSessionTicketKeys may change it while it is used
	due    atomic.Pointer[time.Time] // when arrange has to be called again, by the monotonic clock; nil: before the first use

	mu   sync.Mutex              // held while keys change
	keys keyring.Ring[ticketKey] // the key that encrypts comes first; then the other keys, the newest first
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
		r.arrange(time.Now(), nil) // after Lock: a key made during the wait must not be newer than now
	}
	return &r.holder
}

// all returns the keys. If there are none, it makes the key that encrypts and the key that follows.
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

// arrange adds the keys of another process. If both processes have the same secret with different times, the key gets the
// earlier time. Then arrange removes the keys that are older than lifetime, and puts the others in order. If the key that
// encrypts or the key that follows is missing, arrange makes this key. The caller holds the lock.
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
		if keys[i].from.After(now.Add(rotation)) { // the clock was fast when the key was made
			keys[i].from = now
		}
	}
	slices.SortFunc(keys, func(a, b ticketKey) int { // the order must be the same in every process
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

// use begins to use the keys, and sets due. The first key encrypts. The caller holds the lock.
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
	return ticketKey{from.Round(0), keyring.NewSecret()} // without the monotonic clock, which another process cannot use
}
