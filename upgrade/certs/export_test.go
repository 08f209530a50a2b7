package certs

import (
	"crypto/tls"
	"strings"
	"time"

	"github.com/midair-go/midair/internal/keyring"
)

// Look looks at the files now, as the poller does.
func (c *Certs) Look() { c.look(false) }

// Certificate returns the certificate that a handshake gets.
func (c *Certs) Certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.certificate(hello)
}

// Tickets returns the config with the ticket keys that a handshake uses.
func (c *Certs) Tickets() *tls.Config { return c.tickets.current() }

// Due returns the time when the keys have to be arranged again.
func (c *Certs) Due() time.Time { return *c.tickets.due.Load() }

// Key is a ticket key that encrypts from the time From on. Its secret consists of the byte Secret, repeated.
type Key struct {
	From   time.Time
	Secret byte
}

// Encode returns the data that a process with these keys hands over.
func Encode(keys ...Key) []byte {
	in := make([]ticketKey, len(keys))
	for i, k := range keys {
		in[i] = ticketKey{k.From, strings.Repeat(string([]byte{k.Secret}), keyring.SecretSize)}
	}
	return encode(in)
}

// Keys returns the ticket keys in the order of their use. Secret is 0 if the secret of a key is random.
func (c *Certs) Keys() []Key {
	var out []Key
	for _, k := range c.tickets.all() {
		letter := k.secret[0]
		if strings.Count(k.secret, k.secret[:1]) < len(k.secret) {
			letter = 0
		}
		out = append(out, Key{k.from, letter})
	}
	return out
}

// MaxKeys is the greatest number of keys.
const MaxKeys = maxKeys
