package canary

import (
	"net/http"
	"strings"
	"time"
)

// year is how long a browser keeps the cookie; most do not keep one longer than 400 days.
const year = 365 * 24 * time.Hour

// CookieOptions of a Cookie. The zero value works.
type CookieOptions struct {
	// Secrets seal the ids: the first seals new ones, and all of them open. Hosts that share visitors need the same
	// ones, and so does a service whose visitors shall be known again after a restart. To change a secret on several
	// hosts, add the new one behind the old, then move it to the front, then take the old one away. Each should
	// have at least 16 random bytes. Default: one random secret, which an upgrade passes on with the state of the
	// Router, and which a restart forgets.
	Secrets [][]byte
	// MaxAge is how long browsers keep the cookie. Negative: until they are closed. Default: 365 days.
	MaxAge time.Duration
	// Secure sets the attribute Secure even if the request did not come over TLS, as it is behind a proxy that ends
	// it. Default: only over TLS.
	Secure bool
}

// A Cookie gives visitors a random id, sealed so that nobody else can make one, and knows them again by it. Several
// routers, also nested ones, may share a Cookie: a visitor then has one id for all of them. It has to be made by
// NewCookie.
//
// It is not a function for Options.Key because it needs what such a function does not have: the answer, where the
// cookie is put, and a way for the Router to pass the secret on.
type Cookie struct {
	prefix string // the name and "="
	opts   CookieOptions
	ring   ring
}

// NewCookie returns a Cookie with that name, or "canary" if it is empty. A name that no cookie can have is never set,
// and every request is drawn by itself then.
func NewCookie(name string, opts CookieOptions) *Cookie {
	if name == "" {
		name = defaultName
	}
	if opts.MaxAge == 0 {
		opts.MaxAge = year
	}
	c := &Cookie{prefix: name + "=", opts: opts}
	c.ring.label = "midair canary cookie " + name
	c.ring.configure(opts.Secrets)
	return c
}

func (c *Cookie) name() string { return c.prefix[:len(c.prefix)-1] }

// visitor returns the id of the visitor. One that is new gets an id here, which decides this request already and comes
// back with the next one.
func (c *Cookie) visitor(w http.ResponseWriter, r *http.Request) visitorID {
	if id, ok := c.find(r.Header["Cookie"]); ok {
		return id
	}
	if id, ok := c.find(w.Header()["Set-Cookie"]); ok { // from another router, before this one in the same request
		return id
	}
	id, sealed := c.ring.mint()
	http.SetCookie(w, c.cookie(sealed, r.TLS != nil))
	return id
}

// find returns the first id that can be opened. The lines are those of a Cookie or of a Set-Cookie header.
func (c *Cookie) find(lines []string) (visitorID, bool) {
	for _, line := range lines {
		for at := strings.Index(line, c.prefix); at >= 0; at = strings.Index(line, c.prefix) {
			begins := at == 0 || line[at-1] == ' ' || line[at-1] == ';'
			line = line[at+len(c.prefix):]
			if !begins {
				continue // the end of another name
			}
			sealed, _, _ := strings.Cut(line, ";")
			if id, ok := c.ring.open(sealed); ok {
				return id, true
			}
		}
	}
	return visitorID{}, false
}

func (c *Cookie) cookie(sealed string, tls bool) *http.Cookie {
	return &http.Cookie{
		Name: c.name(), Value: sealed, Path: "/",
		MaxAge: max(int(c.opts.MaxAge/time.Second), 0), // 0 writes no Max-Age
		Secure: c.opts.Secure || tls, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
}
