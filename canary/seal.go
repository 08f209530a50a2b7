package canary

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"sync"
	"time"

	"github.com/midair-go/midair/internal/keyring"
)

// A visitorID identifies a visitor, and never leaves the process unsealed.
type visitorID [idSize]byte

const (
	idSize     = 8
	sealedText = 22 // one AES block in base64 without padding
	mostKeys   = 8  // that a ring holds
)

// A ring holds the keys for sealing ids: an id and as many zero bytes are one block of AES-256. The id is random, so the block
// does not show the id, and a block that was not made with the key opens to these zero bytes once in 2^64. An AEAD would need a
// nonce and a tag for the same, and takes three times as long on the request path.
type ring struct {
	label string // what the keys are for, part of their derivation

	mu   sync.Mutex // for changes of keys
	keys keyring.Rotation[sealKey]
}

type sealKey struct {
	secret string
	block  cipher.Block
}

// Secret makes a sealKey a keyring.Key.
func (k sealKey) Secret() string { return k.secret }

// sealKeys returns the keys of secrets, and leaves out secrets whose length is not that of an AES key.
func sealKeys(secrets ...[]byte) (keys []sealKey) {
	for _, s := range secrets {
		if block, err := aes.NewCipher(s); err == nil {
			keys = append(keys, sealKey{string(s), block})
		}
	}
	return keys
}

// scratch is on the heap because the compiler cannot see that a cipher.Block keeps no argument.
type scratch struct {
	text   [24]byte
	sealed [aes.BlockSize + 2]byte // base64 decodes in threes
	plain  [aes.BlockSize]byte
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// configure derives the keys from secrets. Empty secrets are left out.
func (g *ring) configure(secrets [][]byte) {
	var derived [][]byte
	for _, s := range secrets {
		if len(s) > 0 {
			mac := hmac.New(sha256.New, s)
			mac.Write([]byte(g.label))
			derived = append(derived, mac.Sum(nil))
		}
	}
	g.keys.Insist = true
	g.keys.Limit = max(mostKeys, len(derived))
	g.keys.Configure(sealKeys(derived...), time.Time{})
	if len(derived) > 0 {
		g.keys.Arrange(time.Now())
	}
}

// all returns the keys, the sealing key first. If there are no configured keys, and none came from another process, the first
// call makes a random key. An earlier random key would make the ring grow with every upgrade.
func (g *ring) all() []sealKey {
	if keys := g.keys.Keys(); len(keys) > 0 {
		return keys
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if keys := g.keys.Keys(); len(keys) > 0 {
		return keys
	}
	g.keys.Remember(sealKeys([]byte(keyring.NewSecret()))...) // those of another process come first
	g.keys.Arrange(time.Now())
	return g.keys.Keys()
}

// learn adds the keys of another process. The first of these keys becomes the sealing key, unless secrets were configured: both
// processes then open all ids that either process has sealed, whichever process goes on.
func (g *ring) learn(received [][]byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.keys.Learn(sealKeys(received...), false, time.Now())
	g.keys.Arrange(time.Now())
}

// raw returns the keys for another process.
func (g *ring) raw() [][]byte {
	var list [][]byte
	for _, k := range g.all() {
		list = append(list, []byte(k.secret))
	}
	return list
}

// mint returns a new id, plain and sealed.
func (g *ring) mint() (id visitorID, sealed string) {
	var block [aes.BlockSize]byte
	rand.Read(block[:idSize])
	copy(id[:], block[:])
	g.all()[0].block.Encrypt(block[:], block[:])
	return id, base64.RawURLEncoding.EncodeToString(block[:])
}

// open returns the id if a key of the ring has sealed the id.
func (g *ring) open(sealed string) (id visitorID, ok bool) {
	if len(sealed) != sealedText {
		return id, false
	}
	s := scratches.Get().(*scratch)
	copy(s.text[:], sealed)
	n, err := base64.RawURLEncoding.Decode(s.sealed[:], s.text[:sealedText])
	if err == nil && n == aes.BlockSize {
		id, ok = s.open(g.all())
	}
	scratches.Put(s)
	return id, ok
}

// open tries the keys on the block in sealed.
func (s *scratch) open(keys []sealKey) (id visitorID, ok bool) {
	for _, k := range keys {
		k.block.Decrypt(s.plain[:], s.sealed[:aes.BlockSize])
		if [idSize]byte(s.plain[idSize:]) == [idSize]byte{} {
			return visitorID(s.plain[:idSize]), true
		}
	}
	return id, false
}
