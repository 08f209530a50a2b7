package certs

import (
	"encoding"
	"encoding/binary"

	"github.com/midair-go/midair/internal/kept"
	"github.com/midair-go/midair/internal/keyring"
)

var (
	_ encoding.BinaryMarshaler   = (*Certs)(nil)
	_ encoding.BinaryUnmarshaler = (*Certs)(nil)
)

// format is the layout of the state. First comes the number of ticket keys, in 16 bits. Then each key follows: the time at
// which the key begins to encrypt, and its secret.
var format = kept.Format{Name: "certs", Magic: "midair-certs\x00", Version: 1}

// MarshalBinary returns the ticket keys, for upgrade's Keep. Ticket keys are secrets. The private key of the certificate is not
// returned.
func (c *Certs) MarshalBinary() ([]byte, error) { return encode(c.tickets.all()), nil }

// UnmarshalBinary adds the ticket keys of another generation to the present keys. From then on, the newest key that has begun
// encrypts, and all keys that are not too old are accepted. UnmarshalBinary may be called at any time, and several times. If
// the data is damaged or has an unknown format, UnmarshalBinary returns an error and changes nothing.
func (c *Certs) UnmarshalBinary(data []byte) error {
	keys, err := decode(data)
	if err != nil {
		return err
	}
	c.tickets.merge(keys)
	return nil
}

func encode(keys []ticketKey) []byte {
	b := binary.BigEndian.AppendUint16(format.Begin(), uint16(len(keys)))
	for _, k := range keys {
		b = kept.AppendTime(b, k.from)
		b = append(b, k.secret...)
	}
	return format.Seal(b)
}

func decode(data []byte) ([]ticketKey, error) {
	r := format.Open(data)
	var keys []ticketKey
	for n := r.Uint16(); n > 0 && r.Err() == nil; n-- {
		keys = append(keys, ticketKey{r.Time(), string(r.Take(keyring.SecretSize))})
	}
	return keys, r.Err()
}
