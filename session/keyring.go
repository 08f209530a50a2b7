package session

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/midair-go/midair/internal/kept"
	"github.com/midair-go/midair/internal/keyring"
)

const (
	// minSecret and maxSecret bound a secret, in bytes.
	minSecret, maxSecret = 32, 1024
	// maxKeys is how many keys a ring holds; what comes after them is forgotten.
	maxKeys = 16
	// keySettle is how long a new key opens before it seals.
	keySettle = time.Minute
	// keyLate is how long requests use the present keys while another request looks at the file.
	keyLate = 10 * time.Second
)

// A KeyRing holds the keys of cookies: one key seals, all keys open. A KeyRing is a value for upgrade.Keep, and all methods
// may be called from any goroutine. The zero value makes a random key when a key is needed for the first time.
//
// # Rotation
//
// A key opens in every process before the key seals in any process. A key passes through four states, which Status reports:
// accept-only, active, retiring, dropped.
//
//   - Accept-only: the keys that a process has at its start, by NewKeyRing or by the first call of Rotate, may seal at once. A key
//     that comes later, by Rotate or in the file of Follow, only opens for a minute. Within this minute all other processes,
//     also on other hosts, have to get the key: each from the same file, or by its own call of Rotate. A process that is started
//     in place of a crashed process needs the key too. So store a secret where the program reads secrets at its start, and call
//     Rotate afterwards.
//   - Active: the first key that has had its minute seals. During an upgrade and after an upgrade, a key of this process seals
//     only if the other process has the key too. If there is no such key, the first key of the other process seals. So both
//     processes open whatever either of them seals, also after an abort. A key of the configuration that the old process
//     did not have seals from the next upgrade on, or from the next start on. A key that comes after the begin of an upgrade is
//     active after its minute if the old process follows a file, or had a call of Rotate: the old process gets the key too.
//   - Retiring: a key behind the active key, or a key that was removed from the configuration, opens. Removed keys open until
//     the service is started anew, and upgrades pass removed keys on. A removed key goes on sealing until another key has
//     settled. Remove a secret when the cookies that were sealed with the secret have expired, after the longer one of
//     Options.Lifetime and Options.Remember, because a process that is started anew does not open such cookies.
//   - Dropped: a key whose secret has leaked is dropped at once by a line in the file (see [KeyRing.Follow]), or by Drop. Visitors
//     with a cookie of the key are logged out.
//
// A program that calls Rotate for changes should call Rotate at its start too, with the present secrets. After a start by code the
// first secret seals at once, unless another process sends keys. So do not start processes by code within a minute after a
// change, or use a file, whose time tells how new the keys are.
//
// A ring holds 16 keys. If there are more keys, the ring forgets the keys of earlier processes first.
//
// A key is good for 2^32 cookies of all processes together: put a new key in front before. Up to this number, the chance that two
// cookies have the same random nonce of 96 bits is at most 2^-33. A ring does not know how many cookies other processes have
// made, and therefore sets no limit. A service that makes 1,000 cookies a second needs a new key every 50 days.
type KeyRing struct {
	source func(context.Context) ([]byte, error) // where the first own key comes from; nil: nowhere

	mu     sync.Mutex
	keyset keyring.Rotation[key]
	tried  time.Time     // when source has answered last
	err    error         // its last answer
	asking chan struct{} // closed with the answer; nil if source is not being asked
	told   bool          // Rotate was called, or Follow
	// standIn is whether the own key is a random one, which no other process has, in the place of that of the store or the file.
	standIn bool
	file    *keyFile // nil: none

	settled atomic.Bool               // source needs not be asked any more
	due     atomic.Pointer[time.Time] // when tend has to be called next; nil: before the first use; the zero time: never
}

// NewKeyRing makes a ring of secrets of 32 to 1024 bytes each. The first secret seals.
func NewKeyRing(secrets ...[]byte) (*KeyRing, error) {
	keys, err := newKeys(secrets)
	if err != nil {
		return nil, err
	}
	k := &KeyRing{}
	k.init()
	k.keyset.Configure(keys, time.Time{})
	return k, nil
}

// init sets the limits of a zero value. The caller holds the lock, or has the ring alone.
func (k *KeyRing) init() {
	if k.keyset.Limit == 0 {
		k.keyset.Limit, k.keyset.Settle = maxKeys, keySettle
	}
}

// keys returns the keys in use, the sealing key first. There is always a key.
//
// Requests that do not use a session call keys too, so keys waits for the store only while the ring has no key at all, and
// never longer than keyPatience.
func (k *KeyRing) keys() []key {
	due := k.due.Load()
	if due != nil && due.IsZero() {
		return k.keyset.Keys()
	}
	switch now := time.Now(); {
	case due == nil || now.Sub(*due) >= keyLate: // such as after an idle hour: the keys in use may be too old
		k.acquire()
	case now.Before(*due) || !k.mu.TryLock():
		return k.keyset.Keys()
	default:
		k.tend()
	}
	defer k.mu.Unlock()
	return k.keyset.Keys()
}

// acquire takes the lock, and makes sure that there is a key.
func (k *KeyRing) acquire() {
	k.mu.Lock()
	k.init()
	if answered := k.ask(); answered != nil && k.keyset.Empty() {
		k.mu.Unlock()
		patience := time.NewTimer(keyPatience)
		select {
		case <-answered:
		case <-patience.C:
		}
		patience.Stop()
		k.mu.Lock()
	}
	k.tend()
}

// tend does the work that is due: tend asks the store, looks at the file, and puts the keys in order. A ring without a key gets
// a random key, so that visitors are served while the store or the file fails. The caller holds the lock.
func (k *KeyRing) tend() {
	k.init()
	now := time.Now() // after the lock: another request may have done the work
	k.ask()
	if k.file != nil {
		k.file.look(k, now)
	}
	if k.keyset.Empty() {
		k.keyset.Configure([]key{randomKey()}, time.Time{})
		k.standIn = k.file != nil || k.pending()
	}
	next := k.keyset.Arrange(now)
	if k.pending() {
		next = earlier(next, max(k.tried.Add(keyRetry).Sub(now), keyRetry/4), now)
	}
	if k.file != nil {
		next = earlier(next, k.file.looked.Add(keyLook).Sub(now), now)
	}
	k.due.Store(&next)
}

// earlier returns the earlier of a and the moment after a pause. The zero time means never.
func earlier(a time.Time, pause time.Duration, now time.Time) time.Time {
	if b := now.Add(pause); a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// Rotate replaces the configured secrets, while the process serves. The rules of [NewKeyRing] hold: the first secret shall seal,
// and all secrets open. A secret that is new to the ring opens at once, and seals a minute later (see [KeyRing]). If the ring had
// no key before, the first secret seals at once. Keys whose secrets are missing in the list are retiring.
//
// Call Rotate in every process within the same minute, also in a process that drains. Rotate returns an error if a secret is
// invalid, if there is no secret, or if the ring follows a file. Then nothing has changed.
func (k *KeyRing) Rotate(secrets ...[]byte) error {
	keys, err := newKeys(secrets)
	if err == nil && len(keys) == 0 {
		err = errors.New("session: no secret to rotate to")
	}
	if err != nil {
		return err
	}
	if k.source != nil {
		k.acquire() // what the store has given is retiring
	} else {
		k.mu.Lock()
		k.init()
	}
	defer k.mu.Unlock()
	if k.file != nil {
		return fmt.Errorf("session: the keys follow %s: change the file", k.file.file.Path)
	}
	came := time.Now()
	if k.keyset.Empty() || k.standIn {
		came = time.Time{}
	}
	k.told, k.standIn = true, false
	k.configure(keys, came)
	k.tend()
	return nil
}

// configure replaces the own keys. The sealing key goes on until a new key has settled, even if nothing was sealed yet: other
// processes may have begun with the same keys.
func (k *KeyRing) configure(keys []key, came time.Time) {
	if !k.keyset.Empty() {
		k.keyset.Arrange(time.Now())
	}
	k.keyset.Configure(keys, came)
}

// Drop removes a key at once, because its secret has leaked. The ring does not open cookies of the key any more, and does not
// take the key from another process again. Status returns the ids. Drop works in this process only. Drop returns an
// error if no key has the id, if no other key is left, or if the ring follows a file, which has lines for this.
func (k *KeyRing) Drop(id string) error {
	k.keys()
	k.mu.Lock()
	defer k.mu.Unlock()
	has := func(one key) bool { return one.name() == id }
	switch keys := k.keyset.Keys(); {
	case k.file != nil:
		return fmt.Errorf("session: the keys follow %s: change the file", k.file.file.Path)
	case !slices.ContainsFunc(keys, has):
		return fmt.Errorf("session: no key has the id %q", id)
	case !slices.ContainsFunc(keys, func(one key) bool { return !has(one) }):
		return fmt.Errorf("session: %s is the only key", id)
	}
	k.keyset.Drop(has)
	k.tend()
	return nil
}

// Status returns the keys: the id of each, which is 8 hexadecimal digits and no secret, and the state: "active" for the key that
// seals, "accept-only" for a key that will seal later, and "retiring" for a key that only opens older cookies. The active key
// comes first.
func (k *KeyRing) Status() []struct{ ID, State string } {
	k.keys()
	k.mu.Lock()
	defer k.mu.Unlock()
	var list []struct{ ID, State string }
	for _, one := range k.keyset.Keys() {
		list = append(list, struct{ ID, State string }{one.name(), k.keyset.State(one)})
	}
	return list
}

// Two layouts are read: plain, which is the byte 1 and a list of secrets, each after its length in 16 bits; and format,
// which has the same list as its first field, a checksum, and room for more. Plain is written, because builds which know
// nothing else may get the state back on an abort or a rollback.
var format = kept.Format{Name: "session", Magic: "midair-session\x00", Version: 1}

const plain = 1

// MarshalBinary returns the secrets of all keys, the sealing key first.
func (k *KeyRing) MarshalBinary() ([]byte, error) {
	k.acquire()
	defer k.mu.Unlock()
	keys := k.keyset.Keys()
	if k.told { // see decodeKeys
		keys = append(slices.Clone(keys[:min(len(keys), maxKeys-1)]), keys[0])
	}
	data := []byte{plain}
	for _, one := range keys {
		data = kept.Append16(data, []byte(one.secret))
	}
	return data, nil
}

// UnmarshalBinary takes in the keys of another process, and keeps the keys of the ring. UnmarshalBinary may be called again.
func (k *KeyRing) UnmarshalBinary(data []byte) error {
	peer, err := decodeKeys(data)
	if err != nil {
		return err
	}
	follows := len(peer) > 1 && peer[0].secret == peer[len(peer)-1].secret
	if follows {
		peer = peer[:len(peer)-1]
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.init()
	if k.file != nil {
		k.file.look(k, time.Now())
	}
	if len(k.keyset.Own()) == 0 && k.source == nil { // it becomes ours, and no later process may push it out
		k.keyset.Configure(peer[:1:1], time.Time{})
	}
	k.keyset.Learn(peer, follows, time.Now())
	if k.file != nil {
		k.file.drop(k)
	}
	k.tend()
	return nil
}

// hasPeer reports whether the ring has got keys from another process, as in an upgrade.
func (k *KeyRing) hasPeer() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.keyset.HasPeer()
}

// Derive returns keys of 32 bytes for another purpose of the program, for example to sign tokens: one for each key of the ring,
// the sealing key first. Make things with the first key and accept things of all keys. Then a key is accepted before it is
// used, a rotation of the ring rotates the derived keys too, and an upgrade passes the derived keys on with the ring. Call
// Derive for each use, since the result changes. The first call may wait a second for the store of the ring's key.
//
// The same secret and purpose make the same key in each process and build. A derived key tells nothing about the secret and
// nothing about keys of other purposes.
func (k *KeyRing) Derive(purpose string) [][]byte {
	var derived [][]byte
	for _, one := range k.keys() {
		next, err := hkdf.Key(sha256.New, []byte(one.secret), nil, "midair session derived\x00"+purpose, 32)
		if err != nil {
			panic(err) // only a length that no hash can make is an error
		}
		derived = append(derived, next)
	}
	return derived
}
