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

// A cookie is the cohort in clear text and a sealed part, with a dot between them. The sealed part covers the cohort and
// the name of the cookie, so a client can change neither; the cohort is not hidden in it, so that reading it from
// the header allocates nothing. It tells nothing but itself.
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
)

var tokenEncoding = base64.RawURLEncoding // the sealed part is a multiple of three bytes: no bit of it is left unchecked

// A token is what a cookie says. Times are to the second.
type token struct {
	id     [16]byte // the name of the session, whether it exists yet or not
	born   uint32   // when the id was made
	issued uint32   // when the cookie was made
	cohort string
}

// newToken is that of a visitor nobody knows.
func newToken(now time.Time) token {
	var cohort [cohortBytes]byte
	rand.Read(cohort[:])
	return token{cohort: tokenEncoding.EncodeToString(cohort[:])}.renewed(now)
}

// renewed is the same visitor with another session.
func (t token) renewed(now time.Time) token {
	rand.Read(t.id[:])
	t.born = seconds(now)
	return t
}

// key is the id for the store: nothing that opens a session leaves the process.
func (t *token) key() string {
	sum := sha256.Sum256(t.id[:])
	return hex.EncodeToString(sum[:])
}

func seconds(t time.Time) uint32 { return uint32(t.Unix()) }

// seal makes the value of a cookie.
func (m *Manager) seal(t token, now time.Time) string {
	k := m.keyring.keys()[0]
	raw := make([]byte, headBytes, sealedBytes)
	raw[0] = tokenFormat
	copy(raw[1:], k.id[:])
	rand.Read(raw[5:headBytes])
	var plain [plainBytes]byte
	n := copy(plain[:], t.id[:])
	binary.BigEndian.PutUint32(plain[n:], t.born)
	binary.BigEndian.PutUint32(plain[n+4:], seconds(now))
	raw = k.aead.Seal(raw, raw[5:headBytes], plain[:], m.bound(nil, raw, t.cohort))
	return t.cohort + "." + tokenEncoding.EncodeToString(raw)
}

// bound is what the seal covers beside the content: it appends the name of the cookie, format, key and cohort to b.
func (m *Manager) bound(b, raw []byte, cohort string) []byte {
	b = append(b, m.opts.Cookie...)
	b = append(b, 0)
	b = append(b, raw[:5]...)
	return append(b, cohort...)
}

// scratch is the memory that opening a cookie needs. It is part of the visit, so that it costs no allocation.
type scratch struct {
	raw   [sealedBytes]byte
	plain [plainBytes]byte
	bound [96]byte
}

// open reads the value of a cookie. stale means that it should be made anew: it is old, or sealed by a key that does not
// seal any more.
func (m *Manager) open(value string, now time.Time, s *scratch) (t token, stale, ok bool) {
	if len(value) != tokenText || value[cohortText] != '.' {
		return token{}, false, false
	}
	var text [sealedText]byte
	copy(text[:], value[cohortText+1:])
	if n, err := tokenEncoding.Decode(s.raw[:], text[:]); err != nil || n != sealedBytes || s.raw[0] != tokenFormat {
		return token{}, false, false
	}
	t.cohort = value[:cohortText]
	bound := m.bound(s.bound[:0], s.raw[:], t.cohort)
	for i, k := range m.keyring.keys() {
		if k.id != [4]byte(s.raw[1:5]) {
			continue
		}
		plain, err := k.aead.Open(s.plain[:0], s.raw[5:headBytes], s.raw[headBytes:], bound)
		if err != nil {
			continue
		}
		n := copy(t.id[:], plain)
		t.born, t.issued = binary.BigEndian.Uint32(plain[n:]), binary.BigEndian.Uint32(plain[n+4:])
		age := now.Sub(time.Unix(int64(t.issued), 0))
		return t, i > 0 || age > m.opts.Lifetime/2, age <= m.opts.Lifetime
	}
	return token{}, false, false
}

// find looks for a cookie that can be opened.
func (m *Manager) find(h http.Header, now time.Time, s *scratch) (t token, stale, ok bool) {
	tries := 0
	for _, line := range h["Cookie"] {
		for len(line) > 0 && tries < maxTries {
			var part string
			part, line, _ = strings.Cut(line, ";")
			name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
			if name != m.opts.Cookie {
				continue
			}
			tries++
			if t, stale, ok = m.open(strings.Trim(value, `"`), now, s); ok {
				return t, stale, true
			}
		}
	}
	return token{}, false, false
}

// cookie is the header line for a value.
func (m *Manager) cookie(value string, tls bool) string {
	c := http.Cookie{
		Name:     m.opts.Cookie,
		Value:    value,
		Path:     "/",
		MaxAge:   int(m.opts.Lifetime / time.Second),
		Secure:   m.opts.Secure || tls,
		HttpOnly: true,
		SameSite: http.SameSiteLaxMode,
	}
	return c.String()
}
