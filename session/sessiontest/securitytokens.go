package sessiontest

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/midair-go/midair/session"
)

// verified also checks tokens that were made up or changed.
func (s *secured) verified() {
	c := s.client()
	c.login("ann")
	c.put("v")
	for _, token := range []string{"", "ann", c.token + "x", c.token[1:], strings.ToUpper(c.token)} {
		if token != c.token {
			s.wantNothing(token)
		}
	}
	c.wantUser("ann")
}

func (s *secured) dynamic() {
	seen := map[string]bool{}
	for range 20 {
		c := s.client()
		c.login("ann")
		if seen[c.token] {
			s.Error("two sessions have one token")
		}
		seen[c.token] = true
	}
}

// random checks that at least 256 bits of the sealed part differ between tokens. The requirement is 128 bits.
func (s *secured) random() {
	var first []byte
	var differ [4096]bool
	for i := range 200 {
		c := s.client()
		c.put("v")
		_, sealed, _ := strings.Cut(c.token, ".")
		raw, err := base64.RawURLEncoding.DecodeString(sealed)
		if err != nil || len(raw) < 32 {
			s.Fatalf("%d bytes, %v", len(raw), err)
		}
		if i == 0 {
			first = raw
		}
		for bit := range min(len(raw), len(first)) * 8 {
			differ[bit] = differ[bit] || (raw[bit/8]^first[bit/8])>>(bit%8)&1 == 1
		}
	}
	bits := 0
	for _, d := range differ {
		if d {
			bits++
		}
	}
	if bits < 256 {
		s.Errorf("%d bits are random", bits)
	}
}

func (s *secured) loginRenews() {
	planted := s.client()
	planted.put("before")
	c := s.client().with(planted.token)
	for range 2 { // the second time it is an authentication again
		before := c.token
		c.login("ann")
		if c.token == before {
			s.Error("the login kept the token")
		}
		c.put("secret")
		old := c.with(before)
		if _, value := old.user(); value == "secret" && before == planted.token {
			s.Error("the old token reads what came after the login")
		}
		if err := old.ask(func(r *http.Request) error { return session.Put(r.Context(), "k", "mine") }); !errors.Is(err, session.ErrGone) {
			s.Errorf("the old token writes: %v", err)
		}
	}
	planted.wantUser("")
}

// within calls still until the result is false. The test fails if the result is false before least, or still true after 15
// seconds.
func (s *secured) within(what string, least time.Duration, still func() bool) {
	s.Helper()
	begun := time.Now()
	for still() {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-s.Context().Done():
			return
		}
		if time.Since(begun) > 15*time.Second {
			s.Errorf("%s after %v", what, time.Since(begun))
			return
		}
	}
	if took := time.Since(begun); took < least {
		s.Errorf("the end came after %v, want %v at least", took, least)
	}
}

func (s *secured) idle() {
	c := s.client()
	c.login("ann")
	for range 5 { // it lives while it is used
		c.wantUser("ann")
	}
	select { // nothing tells that a session has ended but using it, which prolongs it
	case <-time.After(2500 * time.Millisecond):
	case <-s.Context().Done():
	}
	c.wantUser("")
}

func (s *secured) lifetime() {
	c := s.client()
	c.login("ann")
	token := c.token
	s.within("the session lives", 0, func() bool {
		user, _ := c.with(token).user()
		return user != ""
	})
}

// logout also checks that no request during the logout brings the session back: first a request that has read the session
// before the end, and then writes at any moment.
func (s *secured) logout() {
	c := s.client()
	c.login("ann")
	c.put("secret")
	old := c.token
	err := s.client().with(old).ask(func(r *http.Request) error {
		return session.Update(r.Context(), func(v *session.Values) error {
			if c.token == old {
				c.must(func(r *http.Request) error { return session.Destroy(r.Context()) })
			}
			return v.Put("k", "late")
		})
	})
	if !errors.Is(err, session.ErrGone) {
		s.Errorf("Update = %v", err)
	}
	s.wantNothing(old)
	c.wantUser("")
	for range 5 {
		s.logoutAmongWrites()
	}
}

func (s *secured) logoutAmongWrites() {
	c := s.client()
	c.login("ann")
	old := c.token
	var all sync.WaitGroup
	var out atomic.Bool
	for range 4 {
		all.Go(func() {
			for !out.Load() {
				_ = s.client().with(old).ask(func(r *http.Request) error { return session.Put(r.Context(), "k", "secret") })
			}
		})
	}
	c.must(func(r *http.Request) error { return session.Destroy(r.Context()) })
	out.Store(true)
	all.Wait()
	s.wantNothing(old)
	c.wantUser("")
}

// devices returns three clients of the user ann, and a client of bob.
func (s *secured) devices() (phone, laptop, tv, bob *client) {
	phone, laptop, tv, bob = s.client(), s.client(), s.client(), s.client()
	for _, c := range []*client{phone, laptop, tv} {
		c.login("ann")
		c.put("v")
	}
	bob.login("bob")
	return phone, laptop, tv, bob
}

func (s *secured) disabled() {
	phone, laptop, tv, bob := s.devices()
	if n, err := s.sm.RevokeAll(s.Context(), "ann"); n != 3 || err != nil {
		s.Errorf("RevokeAll = %d, %v", n, err)
	}
	for _, c := range []*client{phone, laptop, tv} {
		s.wantNothing(c.token)
	}
	bob.wantUser("bob")
}

func (s *secured) others() {
	phone, laptop, tv, bob := s.devices()
	phone.must(func(r *http.Request) error {
		n, err := s.sm.RevokeOthers(r.Context())
		if n != 2 {
			s.Errorf("%d revoked", n)
		}
		return err
	})
	phone.wantUser("ann")
	bob.wantUser("bob")
	s.wantNothing(laptop.token)
	s.wantNothing(tv.token)
}

// administrator also checks how to end all sessions of all users: a service with new keys opens no old token.
func (s *secured) administrator() {
	phone, _, _, bob := s.devices()
	bob.must(func(r *http.Request) error {
		_, err := s.sm.RevokeAll(r.Context(), "ann")
		return err
	})
	s.wantNothing(phone.token)
	bob.wantUser("bob")
	other := newSecured(s.T, s.store.Store, session.Options{})
	other.opts.Keys = &session.KeyRing{}
	other.sm = session.NewManager(other.store, other.opts)
	other.wantNothing(bob.token)
}

func (s *secured) list() {
	phone, laptop, tv, _ := s.devices()
	var id string
	laptop.must(func(r *http.Request) error {
		infos, err := s.sm.List(r.Context(), "ann")
		for _, i := range infos {
			if i.Current {
				id = i.ID
			}
		}
		if len(infos) != 3 || id == "" {
			s.Errorf("List = %+v", infos)
		}
		return err
	})
	s.wantNothing(id) // what the list shows opens nothing
	phone.must(func(r *http.Request) error { return s.sm.Revoke(r.Context(), "ann", id) })
	s.wantNothing(laptop.token)
	phone.wantUser("ann")
	tv.wantUser("ann")
}

// sealed changes each byte of a token.
func (s *secured) sealed() {
	c := s.client()
	c.login("ann")
	for i := range len(c.token) {
		changed := []byte(c.token)
		changed[i] = 'A' + (changed[i]-'A'+1)%26
		if user, _ := c.with(string(changed)).user(); user != "" {
			s.Errorf("a token that was changed at %d is taken", i)
		}
	}
	c.wantUser("ann")
}

// algorithm sends a token in each other format, and a JSON Web Token without a signature.
func (s *secured) algorithm() {
	c := s.client()
	c.login("ann")
	cohort, sealed, _ := strings.Cut(c.token, ".")
	raw, err := base64.RawURLEncoding.DecodeString(sealed)
	if err != nil {
		s.Fatal(err)
	}
	own := raw[0]
	for format := range 256 {
		if raw[0] = byte(format); raw[0] == own {
			continue
		}
		if user, _ := c.with(cohort + "." + base64.RawURLEncoding.EncodeToString(raw)).user(); user != "" {
			s.Errorf("format %d is taken", format)
		}
	}
	s.wantNothing("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ.")
}

// foreignKeys sends a token from a service with other keys and the same name of the cookie.
func (s *secured) foreignKeys() {
	foreign := newSecured(s.T, s.store.Store, session.Options{})
	foreign.opts.Keys = &session.KeyRing{}
	foreign.sm = session.NewManager(foreign.store, foreign.opts)
	c := foreign.client()
	c.login("ann")
	c.wantUser("ann")
	s.wantNothing(c.token)
}

func (s *secured) validity() {
	c := s.client()
	cohort := func() (id string) {
		one := c.with(c.token) // an answer would make the token anew
		one.must(func(r *http.Request) error {
			id = s.sm.Cohort(r)
			return nil
		})
		return id
	}
	c.must(func(r *http.Request) error {
		s.sm.Cohort(r)
		return nil
	})
	first := cohort()
	s.within("the token is taken", 0, func() bool { return cohort() == first })
}

// kind sends the parts of a token in each other's place.
func (s *secured) kind() {
	c := s.client()
	c.login("ann")
	cohort, sealed, _ := strings.Cut(c.token, ".")
	for _, token := range []string{cohort, sealed, sealed + "." + cohort, cohort + "." + cohort, sealed + "." + sealed} {
		s.wantNothing(token)
	}
}

// audience checks two services with the same keys and the same store, but different cookies.
func (s *secured) audience() {
	other := newSecured(s.T, s.store.Store, session.Options{Cookie: "__Host-admin"})
	c := s.client()
	c.login("ann")
	other.wantNothing(c.token)
	admin := other.client()
	admin.login("root")
	s.wantNothing(admin.token)
	c.wantUser("ann")
	admin.wantUser("root")
}
