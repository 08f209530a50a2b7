package session

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
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
)

// A KeyRing holds the keys that seal cookies: one seals, all open. It is a value for upgrade.Keep, and all its methods
// may be called from any goroutine. The zero value makes a random key when it needs the first one.
//
// Between processes a key is accepted before it seals. UnmarshalBinary takes in the keys of the other process and makes
// that of its own first ones seal which the other one has too, or else the first of the other: so whatever one of
// the two seals, both open, also after an abort. A key that is new in the configuration of this process seals from the
// next upgrade on, or the next start.
//
// A key is good for 2^32 cookies: put a new one in front before that.
type KeyRing struct {
	source func(context.Context) ([]byte, error) // where the first own key comes from; nil: nowhere

	mu    sync.Mutex
	own   []key     // configured, from source, or made here
	peer  []key     // what the other process had last
	older []key     // what other processes had before
	tried time.Time // when source was asked last
	err   error     // its last answer

	settled atomic.Bool // source needs not be asked any more
	inUse   keyring.Ring[key]
}

// A key is a secret and what is derived from it.
type key struct {
	secret string
	id     [4]byte
	aead   cipher.AEAD
}

// Secret makes a key a keyring.Key.
func (k key) Secret() string { return k.secret }

// NewKeyRing makes a ring of secrets of 32 to 1024 bytes each. The first one seals.
func NewKeyRing(secrets ...[]byte) (*KeyRing, error) {
	k := &KeyRing{}
	for i, s := range secrets {
		next, err := newKey(s)
		if err != nil {
			return nil, fmt.Errorf("session: secret %d: %w", i+1, err)
		}
		k.own = append(k.own, next)
	}
	if len(k.own) > maxKeys {
		return nil, fmt.Errorf("session: %d keys, more than %d", len(k.own), maxKeys)
	}
	return k, nil
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
	if k.settled.Load() {
		return k.inUse.Keys()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.settle()
	return k.inUse.Keys()
}

// settle asks the source, if it has not answered yet, and sees to it that there is a key. A source that fails is
// replaced by a random key until it answers, so that visitors are served meanwhile.
func (k *KeyRing) settle() {
	if k.source != nil && !k.settled.Load() && (k.tried.IsZero() || time.Since(k.tried) >= keyRetry) {
		k.ask()
	}
	if len(k.own)+len(k.peer)+len(k.older) == 0 {
		k.own = []key{randomKey()}
	}
	k.arrange()
	k.settled.Store(k.source == nil || k.err == nil)
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
	if k.err = err; err == nil {
		k.own = append([]key{first}, k.own...)
	}
}

// arrange puts the keys into the order in which they are used.
func (k *KeyRing) arrange() {
	sealing := k.peer[:min(len(k.peer), 1)]
	for _, mine := range k.own {
		if keyring.Contains(k.peer, mine) {
			sealing = []key{mine}
			break
		}
	}
	k.inUse.Set(maxKeys, sealing, k.own, k.peer, k.older)
}

// ready is why the source could not be asked.
func (k *KeyRing) ready() error {
	k.keys()
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.err
}

// Two layouts are read: plain, which is the byte 1 and a list of secrets, each after its length in 16 bits; and format,
// which has the same list as its first field, a checksum, and room for more. Plain is written, because builds which know
// nothing else may get the state back on an abort or a rollback.
var format = kept.Format{Name: "session", Magic: "midair-session\x00", Version: 1}

const plain = 1

// MarshalBinary returns all keys. They are secrets.
func (k *KeyRing) MarshalBinary() ([]byte, error) {
	data := []byte{plain}
	for _, one := range k.keys() {
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
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, before := range k.peer {
		if !keyring.Contains(k.older, before) {
			k.older = append([]key{before}, k.older...)
		}
	}
	k.older = k.older[:min(len(k.older), maxKeys)]
	k.peer = peer
	if len(k.own) == 0 && k.source == nil { // it has become ours, and no later process may push it out
		k.own = peer[:1:1]
	}
	k.arrange()
	return nil
}

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
