package session

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"net/http"
	"strings"
	"time"
)

// A cookie is the cohort in clear text and a sealed part, with a dot between them. The sealed part covers the cohort and the
// name of the cookie, so a client can change neither. The cohort is not hidden, because a random id tells nothing else, and so
// reading it from the header allocates nothing.
const (
	tokenFormat = 1
	cohortBytes = 16
	nonceBytes  = 12
	headBytes   = 1 + 4 + nonceBytes                 // format, key id, nonce
	plainBytes  = len(token{}.id) + 4 + 4            // id, born, issued
	sealedBytes = headBytes + plainBytes + 16        // and the tag of GCM
	cohortText  = (cohortBytes*8 + 5) / 6            // length in base64
	sealedText  = (sealedBytes*8 + 5) / 6            // length in base64
	tokenText   = cohortText + len(".") + sealedText // length of a cookie's value
	// maxTries is how many cookies of one name are looked at: a neighbour domain may set another one.
	maxTries = 8
	// cookieSlack is how far the time of a cookie may be behind that of its making: the second is cut, and its lowest bit too.
	cookieSlack = 2 * time.Second
	// startedBytes is how much of an id says that it is started.
	startedBytes = 3
)

var tokenEncoding = base64.RawURLEncoding // the sealed part is a multiple of three bytes: no bit of it is left unchecked

// A token is the content of a cookie. Times are to the second.
type token struct {
	id     [16]byte // the name of the session, whether it exists yet or not
	born   uint32   // when the id was made
	issued uint32   // when the cookie was made
	cohort string
	// remembered is the lowest bit of issued on the wire: builds that do not know it read a time that is off by a second.
	remembered bool
}

// newToken makes the token of an unknown visitor.
func newToken(now time.Time) token {
	var cohort [cohortBytes]byte
	rand.Read(cohort[:])
	t := token{cohort: tokenEncoding.EncodeToString(cohort[:]), born: seconds(now)}
	rand.Read(t.id[:])
	return t
}

// renewed is the same visitor with another session.
func (t token) renewed(now time.Time) token {
	rand.Read(t.id[:])
	t.start()
	t.born = seconds(now)
	return t
}

// start marks the id of a visitor whose session was imported, renewed or ended here, so that nothing is imported for the
// visitor any more. An id without the mark was made for a cohort or a first write. The mark is in the id because the cookie has
// no room for another field that all builds pass on. 13 random bytes are left.
func (t *token) start() {
	sum := sha256.Sum256(t.id[startedBytes:])
	copy(t.id[:startedBytes], sum[:])
}

// started reports whether the id has the mark.
func (t *token) started() bool {
	sum := sha256.Sum256(t.id[startedBytes:])
	return [startedBytes]byte(t.id[:]) == [startedBytes]byte(sum[:])
}

// key is the id for the store: nothing that opens a session leaves the process.
func (t *token) key() string {
	sum := sha256.Sum256(t.id[:])
	return hex.EncodeToString(sum[:])
}

func seconds(t time.Time) uint32 { return uint32(t.Unix()) }

// seal makes the value of the named cookie.
func (m *Manager) seal(name string, t token, now time.Time) string {
	k := m.keyring.keys()[0]
	raw := make([]byte, headBytes, sealedBytes)
	raw[0] = tokenFormat
	copy(raw[1:], k.id[:])
	rand.Read(raw[5:headBytes])
	var plain [plainBytes]byte
	n := copy(plain[:], t.id[:])
	binary.BigEndian.PutUint32(plain[n:], t.born)
	issued := seconds(now) &^ 1
	if t.remembered {
		issued |= 1
	}
	binary.BigEndian.PutUint32(plain[n+4:], issued)
	raw = k.aead.Seal(raw, raw[5:headBytes], plain[:], bound(nil, name, raw, t.cohort))
	return t.cohort + "." + tokenEncoding.EncodeToString(raw)
}

// bound appends to b the data covered by the seal beside the content: the name of the cookie, format, key and cohort.
func bound(b []byte, name string, raw []byte, cohort string) []byte {
	b = append(b, name...)
	b = append(b, 0)
	b = append(b, raw[:5]...)
	return append(b, cohort...)
}

// scratch is the memory for opening a cookie, and a part of the visit to save an allocation.
type scratch struct {
	raw   [sealedBytes]byte
	plain [plainBytes]byte
	bound [96]byte
}

// A found is the result of reading the cookies of a request.
type found struct {
	token token // the zero one if none is good
	ok    bool
	stale bool // the cookie should be made anew: it is old, sealed by a key that does not seal any more, or of the former name
	// refused is whether a cookie is there that no key opens.
	refused bool
}

// open reads the value of the named cookie. A cookie that is too old is neither good nor refused.
func (m *Manager) open(name, value string, now time.Time, s *scratch) found {
	refused := found{refused: true}
	if len(value) != tokenText || value[cohortText] != '.' {
		return refused
	}
	var text [sealedText]byte
	copy(text[:], value[cohortText+1:])
	if n, err := tokenEncoding.Decode(s.raw[:], text[:]); err != nil || n != sealedBytes || s.raw[0] != tokenFormat {
		return refused
	}
	t := token{cohort: value[:cohortText]}
	with := bound(s.bound[:0], name, s.raw[:], t.cohort)
	for i, k := range m.keyring.keys() {
		if k.id != [4]byte(s.raw[1:5]) {
			continue
		}
		plain, err := k.aead.Open(s.plain[:0], s.raw[5:headBytes], s.raw[headBytes:], with)
		if err != nil {
			continue
		}
		n := copy(t.id[:], plain)
		t.born, t.issued = binary.BigEndian.Uint32(plain[n:]), binary.BigEndian.Uint32(plain[n+4:])
		t.remembered = t.issued&1 == 1
		return m.aged(t, i > 0, now)
	}
	return refused
}

// aged judges an opened token by its age. A cookie is made anew after half of the shorter one of Lifetime and Remember, because
// builds without Remember set the bit for remembered by chance.
func (m *Manager) aged(t token, stale bool, now time.Time) found {
	age := now.Sub(time.Unix(int64(t.issued&^1), 0))
	if age > m.cookieLife(t)+cookieSlack {
		return found{}
	}
	return found{token: t, ok: true, stale: stale || age > min(m.opts.Lifetime, m.opts.Remember)/2}
}

// cookieLife is how long a cookie is good. A build without Remember may have set the bit for remembered by chance.
func (m *Manager) cookieLife(t token) time.Duration {
	if t.remembered {
		return max(m.opts.Lifetime, m.opts.Remember)
	}
	return m.opts.Lifetime
}

// find looks for a cookie that can be opened. A cookie of the present name goes before a cookie of the former name, unless a
// build that knows only the former name has set the other cookie since, for the same visitor.
func (m *Manager) find(lines []string, now time.Time, s *scratch) found {
	f := m.findNamed(m.opts.Cookie, lines, now, s)
	if m.former == "" {
		return f
	}
	before := m.findNamed(m.former, lines, now, s)
	one, other := &f.token, &before.token
	switch {
	case before.ok && (!f.ok || one.cohort == other.cohort && one.id != other.id && one.issued&^1 <= other.issued):
		before.stale = true
		return before
	case !f.ok:
		f.refused = f.refused || before.refused
	}
	return f
}

func (m *Manager) findNamed(wanted string, lines []string, now time.Time, s *scratch) (best found) {
	tries := 0
	for _, line := range lines {
		for len(line) > 0 && tries < maxTries {
			var part string
			part, line, _ = strings.Cut(line, ";")
			name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
			if name != wanted {
				continue
			}
			tries++
			f := m.open(name, strings.Trim(value, `"`), now, s)
			if f.ok {
				return f
			}
			best.refused = best.refused || f.refused
		}
	}
	return best
}

// addCookies adds the Set-Cookie lines for the token.
func (m *Manager) addCookies(h http.Header, t token, now time.Time, tls bool) {
	for _, name := range [...]string{m.former, m.opts.Cookie} {
		if name == "" {
			continue
		}
		c := http.Cookie{
			Name:     name,
			Value:    m.seal(name, t, now),
			Path:     "/",
			Secure:   m.opts.Secure || tls,
			HttpOnly: true,
			SameSite: http.SameSiteLaxMode,
		}
		if t.remembered || !m.opts.BrowserCookie {
			c.MaxAge = int((m.cookieLife(t)-1)/time.Second) + 1 // rounded up
		}
		h.Add("Set-Cookie", c.String())
	}
}
