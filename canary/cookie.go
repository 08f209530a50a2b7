package canary

import (
	"net/http"
	"time"

	"github.com/midair-go/midair/internal/request"
)

// year is how long a browser keeps the cookie; most browsers keep no cookie longer than 400 days.
const year = 365 * 24 * time.Hour

// CookieOptions of a Cookie. The zero value works.
type CookieOptions struct {
	// Secrets seal the ids: the first seals new ones, and all of them open. Hosts that share visitors need the same secrets, and
	// so does a service whose visitors shall be known again after a restart. To change a secret on several hosts, add the new
	// secret behind the old, then move the new secret to the front, then take the old secret away. A secret should have at
	// least 16 random bytes. Default: one random secret, which an upgrade passes on with the state of the Router, and which a
	// restart forgets.
	Secrets [][]byte
	// MaxAge is how long browsers keep the cookie. Negative: until the browser is closed. Default: 365 days.
	MaxAge time.Duration
	// Secure sets the attribute Secure even if the request did not come over TLS, as behind a proxy that ends
	// TLS. Default: only over TLS.
	Secure bool
}

// A Cookie gives each visitor a random id, and knows the visitor again by the id. The id is sealed, so nobody else can make
// ids. Several routers, also nested routers, may share a Cookie: a visitor then has the same id for all routers. A Cookie has
// to be made by NewCookie.
//
// A Cookie is not a function for Options.Key, because such a function has no access to the answer, where the cookie is set, and
// gives the Router no way to pass the secret on.
type Cookie struct {
	prefix string // the name and "="
	opts   CookieOptions
	ring   ring
}

// NewCookie returns a Cookie with the given name, or "canary" if the name is empty. If no cookie can have the name, the Cookie
// is never set, and every request is drawn by itself.
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

// A visit is the new id of a visitor without a cookie, with the Set-Cookie line for the answer.
type visit struct {
	id   visitorID
	from *Cookie
	line string // the Set-Cookie line
}

// BeforeHeader adds the cookie to an answer, which a shared cache must not give to other visitors.
func (v *visit) BeforeHeader(h http.Header, _ uint64) {
	h.Add("Set-Cookie", v.line)
	request.AddPrivate(h)
}

// visitor returns the id of the visitor, and false if there is no id. A visitor without a cookie gets a new id, which already
// decides the request; if the returned visit is not nil, the answer has to set the cookie of the visit. There is no id if the
// cookie is missing and cannot be set.
func (c *Cookie) visitor(r *http.Request) (id visitorID, v *visit, ok bool) {
	if id, ok := c.find(r.Header["Cookie"]); ok {
		return id, nil, true
	}
	for s := request.From(r.Context()); s != nil; s = s.Outer() { // another router further out may have made one
		if v, ok := s.Get(request.Visitor).(*visit); ok && v.from == c {
			return v.id, nil, true
		}
	}
	if !request.MaySetIdentity(r) {
		return id, nil, false
	}
	id, sealed := c.ring.mint()
	line := c.cookie(sealed, r.TLS != nil).String()
	if line == "" { // no cookie can have the name
		return id, nil, false
	}
	return id, &visit{id: id, from: c, line: line}, true
}

// find returns the first id in the lines of a Cookie header that can be opened.
func (c *Cookie) find(lines []string) (id visitorID, ok bool) {
	eachCookie(lines, c.prefix, func(sealed string) bool {
		id, ok = c.ring.open(sealed)
		return ok
	})
	return id, ok
}

func (c *Cookie) cookie(sealed string, tls bool) *http.Cookie {
	return &http.Cookie{
		Name: c.name(), Value: sealed, Path: "/",
		MaxAge: max(int(c.opts.MaxAge/time.Second), 0), // 0 writes no Max-Age
		Secure: c.opts.Secure || tls, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
}
