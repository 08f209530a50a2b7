// Package keyring holds the keys for one purpose, such as the cookies with one name. The first key seals new values, and every
// key opens the values that were sealed with it.
//
// Processes which serve side by side, or after each other, send their keys to each other, so that a process opens whatever
// another process has sealed. When keys arrive, the owner of a [Ring] decides in which order the old and the new keys are used.
// The Ring keeps each key only once, however often the processes send it, and limits the number of keys. Requests can read the
// keys while the owner changes the Ring.
//
// # Goroutines
//
// The method Keys may be called from any goroutine at any time, and takes no lock. The owner of a Ring must use a lock of its
// own, so that only one goroutine at a time calls Set.
package keyring

import (
	"crypto/rand"
	"slices"
	"sync/atomic"
)

// SecretSize is the number of bytes of a secret made by NewSecret.
const SecretSize = 32

// NewSecret returns a random secret.
func NewSecret() string {
	var secret [SecretSize]byte
	rand.Read(secret[:]) // never returns an error: without random data the program crashes
	return string(secret[:])
}

// A Key is a secret, perhaps with other data that the owner of the Ring needs.
type Key interface {
	// Secret returns the secret. Keys with the same secret are the same key.
	Secret() string
}

// A Ring is a list of keys in the order of use. The zero value has no keys.
type Ring[K Key] struct{ keys atomic.Pointer[[]K] }

// Keys returns the keys of the last Set, or nil before the first Set. The caller must not change the slice, and may keep
// the slice. Keys does not allocate.
func (r *Ring[K]) Keys() []K {
	if keys := r.keys.Load(); keys != nil {
		return *keys
	}
	return nil
}

// Set replaces the keys of the Ring by the keys of the lists, in the order of the lists, and returns the new keys. If two keys
// have the same secret, Set leaves out the later key. If there are more keys than limit, Set leaves out the last keys. The
// lists are copied.
func (r *Ring[K]) Set(limit int, lists ...[]K) []K {
	var keys []K
	for _, next := range slices.Concat(lists...) {
		if len(keys) < limit && !Contains(keys, next) {
			keys = append(keys, next)
		}
	}
	r.keys.Store(&keys)
	return keys
}

// Contains reports whether a key with the same secret is in the list.
func Contains[K Key](keys []K, key K) bool {
	return slices.ContainsFunc(keys, func(k K) bool { return k.Secret() == key.Secret() })
}
