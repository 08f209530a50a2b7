package session

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/midair-go/midair/internal/keyring"
)

// A key is a secret with the derived id and cipher.
type key struct {
	secret string
	id     [4]byte
	aead   cipher.AEAD
}

// Secret makes a key a keyring.Key.
func (k key) Secret() string { return k.secret }

// name is the id for people.
func (k key) name() string { return hex.EncodeToString(k.id[:]) }

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
