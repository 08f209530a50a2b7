package certs

import (
	"bytes"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

var (
	_ encoding.BinaryMarshaler   = (*Certs)(nil)
	_ encoding.BinaryUnmarshaler = (*Certs)(nil)
)

// What passes between generations: a magic, the version of the format, the number of ticket keys (16 bits), each with the
// time from which it encrypts (nanoseconds since 1970) and its secret, whatever a later version may add, and a SHA-256 sum
// of all that. Numbers are big endian.
const (
	keptMagic   = "midair-certs\x00"
	keptVersion = 1
	keptKey     = 8 + 32 // bytes
)

const restart = "stop and start the service once instead of upgrading it"

var errKept = errors.New("certs: what the other generation sent is damaged, or was kept by another value under this name: " + restart)

// MarshalBinary returns the ticket keys, for upgrade's Keep. They are secrets. The certificate's key is not among them.
func (c *Certs) MarshalBinary() ([]byte, error) { return encode(c.tickets.all()), nil }

// UnmarshalBinary adds the ticket keys of another generation to those that there are: the newest one encrypts, and all that
// are not too old are accepted. It may be called at any time, and again. The error is that the data is damaged or not
// understood; nothing has changed then.
func (c *Certs) UnmarshalBinary(data []byte) error {
	keys, err := decode(data)
	if err != nil {
		return err
	}
	c.tickets.merge(keys)
	return nil
}

func encode(keys []ticketKey) []byte {
	b := append([]byte(keptMagic), keptVersion)
	b = binary.BigEndian.AppendUint16(b, uint16(len(keys)))
	for _, k := range keys {
		b = binary.BigEndian.AppendUint64(b, uint64(k.from.UnixNano()))
		b = append(b, k.secret[:]...)
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

func decode(b []byte) ([]ticketKey, error) {
	body := len(b) - sha256.Size
	if body <= len(keptMagic) || string(b[:len(keptMagic)]) != keptMagic {
		return nil, errKept
	}
	if sum := sha256.Sum256(b[:body]); !bytes.Equal(sum[:], b[body:]) {
		return nil, errKept
	}
	if v := b[len(keptMagic)]; v != keptVersion {
		return nil, fmt.Errorf("certs: the other generation sent ticket keys in format %d, this one knows %d: "+restart, v, keptVersion)
	}
	rest := b[len(keptMagic)+1 : body]
	if len(rest) < 2 {
		return nil, errKept
	}
	n := int(binary.BigEndian.Uint16(rest))
	if rest = rest[2:]; n > len(rest)/keptKey {
		return nil, errKept
	}
	keys := make([]ticketKey, n)
	for i := range keys {
		keys[i].from = time.Unix(0, int64(binary.BigEndian.Uint64(rest)))
		copy(keys[i].secret[:], rest[8:])
		rest = rest[keptKey:]
	}
	return keys, nil
}
