package certs

import (
	"crypto/tls"
	"strings"
	"time"

	"github.com/midair-go/midair/internal/keyring"
)

// Look looks at the files now, as the poller does.
func (c *Certs) Look() { c.look() }

// LookWhileWritten is a look during which the files change.
func (c *Certs) LookWhileWritten(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, _ := c.stamp()
	change()
	p, bad := c.read(before)
	c.conclude(p, before, bad)
}

// Certificate is what a handshake asks for.
func (c *Certs) Certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.certificate(hello)
}

// Tickets is what a handshake asks for.
func (c *Certs) Tickets() *tls.Config { return c.tickets.current() }

// Due is when the keys are looked at next.
func (c *Certs) Due() time.Time { return *c.tickets.due.Load() }

// Key is a ticket key that encrypts from a time on. Its secret is one byte, repeated.
type Key struct {
	From   time.Time
	Secret byte
}

// Encode is what a process with these keys hands over.
func Encode(keys ...Key) []byte {
	in := make([]ticketKey, len(keys))
	for i, k := range keys {
		in[i] = ticketKey{k.From, strings.Repeat(string([]byte{k.Secret}), keyring.SecretSize)}
	}
	return encode(in)
}

// Keys are those of a value, in the order of use. Secret is 0 if it is a random one.
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

// MaxKeys is how many keys there are at most.
const MaxKeys = maxKeys

// Settle is how old a change must be before size and time are believed.
const Settle = settle
