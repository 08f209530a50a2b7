package session

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
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
	// keyRetry is how long a store that could not give its secret is left alone.
	keyRetry = time.Second
	// keySettle is how long a new key opens before it seals.
	keySettle = time.Minute
	// keyLate is how long requests use the present keys while another request looks at the file.
	keyLate = 10 * time.Second
)

// A KeyRing holds the keys that seal cookies: one seals, all open. It is a value for upgrade.Keep, and all its methods
// may be called from any goroutine. The zero value makes a random key when it needs the first one.
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
//     settled. Remove a secret when the cookies that were sealed with the secret have expired, after Options.Lifetime, because
//     a process that is started anew does not open such cookies.
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
	tried  time.Time // when source was asked last
	err    error     // its last answer
	told   bool      // Rotate was called, or Follow
	file   *keyFile  // nil: none

	quiet atomic.Bool               // nothing is to be done at a certain time
	due   atomic.Pointer[time.Time] // when tend has to be called next; nil: before the first use
}

// A key is a secret and what is derived from it.
type key struct {
	secret string
	id     [4]byte
	aead   cipher.AEAD
}

// Secret makes a key a keyring.Key.
func (k key) Secret() string { return k.secret }

// name is the id for people.
func (k key) name() string { return hex.EncodeToString(k.id[:]) }

// NewKeyRing makes a ring of secrets of 32 to 1024 bytes each. The first one seals.
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

func newKeys(secrets [][]byte) ([]key, error) {
	var keys []key
	for i, s := range secrets {
		next, err := newKey(s)
		if err != nil {
			return nil, fmt.Errorf("session: secret %d: %w", i+1, err)
		}
		keys = append(keys, next)
	}
	if len(keys) > maxKeys {
		return nil, fmt.Errorf("session: %d keys, more than %d", len(keys), maxKeys)
	}
	return keys, nil
}

// init gives the zero value its limits. The caller holds the lock, or nobody else has the ring.
func (k *KeyRing) init() {
	if k.keyset.Limit == 0 {
		k.keyset.Limit, k.keyset.Settle = maxKeys, keySettle
	}
}

func newKey(secret []byte) (key, error) {
	if len(secret) < minSecret || len(secret) > maxSecret {
		return key{}, fmt.Errorf("%d bytes, want %d to %d", len(secret), minSecret, maxSecret)
	}
	const size = 32
	derived, err := hkdf.Key(sha256.New, secret, nil, "midair session cookie", size+4)
	if err != nil {
		return key{}, err
	}
	block, err := aes.NewCipher(derived[:size])
	if err != nil {
		return key{}, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return key{}, err
	}
	return key{secret: string(secret), id: [4]byte(derived[size:]), aead: aead}, nil
}

func randomKey() key {
	k, err := newKey([]byte(keyring.NewSecret()))
	if err != nil {
		panic(err) // a secret of this length is always a key
	}
	return k
}

// keys returns what is in use, the sealing one first. There is always one.
func (k *KeyRing) keys() []key {
	if k.quiet.Load() {
		return k.keyset.Keys()
	}
	now, due := time.Now(), k.due.Load()
	if due == nil || now.Sub(*due) >= keyLate { // such as after an idle hour: the keys in use may be too old
		k.mu.Lock()
	} else if now.Before(*due) || !k.mu.TryLock() {
		return k.keyset.Keys()
	}
	defer k.mu.Unlock()
	k.tend()
	return k.keyset.Keys()
}

// tend does what is due: it asks the source and looks at the file. Then it sees to it that there is a key, and puts the keys in
// order. A source that fails is replaced by a random key until it answers, so that visitors are served meanwhile. The caller
// holds the lock.
func (k *KeyRing) tend() {
	k.init()
	now := time.Now() // after the lock: another request may have done the work
	if k.source != nil && (k.tried.IsZero() || k.err != nil && now.Sub(k.tried) >= keyRetry) {
		k.ask()
	}
	if k.file != nil {
		k.file.look(k, now)
	}
	if k.keyset.Empty() {
		k.keyset.Configure([]key{randomKey()}, time.Time{})
	}
	next := k.keyset.Arrange(now)
	if k.source != nil && k.err != nil {
		next = earlier(next, k.tried.Add(keyRetry))
	}
	if k.file != nil {
		next = earlier(next, k.file.looked.Add(keyLook))
	}
	k.due.Store(&next)
	k.quiet.Store(next.IsZero())
}

// earlier returns the earlier one of two times. The zero time means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

func (k *KeyRing) ask() {
	ctx, cancel := context.WithTimeout(context.Background(), keyRetry)
	defer cancel()
	k.tried = time.Now()
	secret, err := k.source(ctx)
	var first key
	if err == nil {
		first, err = newKey(secret)
	}
	switch k.err = err; {
	case err != nil:
	case k.told: // the program has other keys, and other processes have this one
		k.keyset.Remember(first)
	default:
		k.keyset.Configure(append([]key{first}, k.keyset.Own()...), time.Time{})
	}
}

// Rotate replaces the configured secrets, while the process serves. The rules of [NewKeyRing] hold: the first secret shall seal,
// and all secrets open. A secret that is new to the ring opens at once, and seals a minute later (see [KeyRing]). If the ring had
// no key before, the first secret seals at once. Keys whose secrets are missing in the list are retiring.
//
// Call Rotate in every process within the same minute, also in a process that drains. Rotate returns an error if a secret is invalid, if there is no secret, or
// if the ring follows a file. Then nothing has changed.
func (k *KeyRing) Rotate(secrets ...[]byte) error {
	keys, err := newKeys(secrets)
	if err == nil && len(keys) == 0 {
		err = errors.New("session: no secret to rotate to")
	}
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.init()
	if k.file != nil {
		return fmt.Errorf("session: the keys follow %s: change the file", k.file.file.Path)
	}
	came := time.Now()
	if k.source != nil {
		k.tend() // what the store has given is retiring
	} else if k.keyset.Empty() {
		came = time.Time{}
	}
	k.told = true
	k.configure(keys, came)
	k.tend()
	return nil
}

// configure replaces the own keys. The key that seals now goes on until a new one has settled, even if nothing was sealed yet:
// other processes may have begun with the same keys.
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

// ready is why the source could not be asked, or what is wrong with the file.
func (k *KeyRing) ready() error {
	k.keys()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.file != nil {
		return k.file.err
	}
	if k.err != nil {
		return fmt.Errorf("session: the store has no key: %w", k.err)
	}
	return nil
}

// Two layouts are read: plain, which is the byte 1 and a list of secrets, each after its length in 16 bits; and format,
// which has the same list as its first field, a checksum, and room for more. Plain is written, because builds which know
// nothing else may get the state back on an abort or a rollback.
var format = kept.Format{Name: "session", Magic: "midair-session\x00", Version: 1}

const plain = 1

// MarshalBinary returns all keys, the one that seals first. They are secrets.
func (k *KeyRing) MarshalBinary() ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tend()
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

// UnmarshalBinary takes in the keys of another process. Those that the ring has stay in it. It may be called again.
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

// decodeKeys reads both layouts. If the first key comes once more at the end of the list, the sender hears of new keys by itself,
// because the sender follows a file or had a call of Rotate. Older builds leave out the second copy of a key.
func decodeKeys(data []byte) ([]key, error) {
	list, ok := bytes.CutPrefix(data, []byte{plain})
	if !ok {
		r := format.Open(data)
		if list = r.Bytes32(); r.Err() != nil {
			return nil, r.Err()
		}
	}
	var keys []key
	for r := format.Body(list); len(keys) == 0 || r.Left() > 0; {
		secret := r.Bytes16()
		if r.Err() != nil {
			return nil, r.Err()
		}
		next, err := newKey(secret)
		if err != nil {
			return nil, r.Damaged(fmt.Errorf("key %d: %w", len(keys)+1, err))
		}
		if keys = append(keys, next); len(keys) > maxKeys {
			return nil, r.Damaged(fmt.Errorf("more than %d keys", maxKeys))
		}
	}
	return keys, nil
}
