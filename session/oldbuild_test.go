package session_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/session"
)

// oldCookie is what the first builds read in a cookie. It is a copy of their code: it must not follow changes.
type oldCookie struct {
	id           [16]byte
	born, issued int64
	cohort       string
}

func oldOpen(secret []byte, name, value string, now time.Time, lifetime time.Duration) (c oldCookie, ok bool) {
	derived, err := hkdf.Key(sha256.New, secret, nil, "midair session cookie", 36)
	if err != nil || len(value) != 22+1+76 || value[22] != '.' {
		return c, false
	}
	block, err := aes.NewCipher(derived[:32])
	if err != nil {
		return c, false
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return c, false
	}
	raw, err := base64.RawURLEncoding.DecodeString(value[23:])
	if err != nil || raw[0] != 1 || string(raw[1:5]) != string(derived[32:]) {
		return c, false
	}
	plain, err := aead.Open(nil, raw[5:17], raw[17:], []byte(name+"\x00"+string(raw[:5])+value[:22]))
	if err != nil {
		return c, false
	}
	c = oldCookie{[16]byte(plain), int64(binary.BigEndian.Uint32(plain[16:])), int64(binary.BigEndian.Uint32(plain[20:])), value[:22]}
	return c, now.Sub(time.Unix(c.issued, 0)) <= lifetime
}

// goldens are cookies that the first builds have sealed, with the secret "aaa…", one in an even second and one in an odd one.
var goldens = []struct {
	at    int64
	value string
}{
	{946684800, "0DuwAKxfA9nvftSHO_xawQ.Ad6prRSx6BxXka2fQvO-hL9c-1VsbpUcZzwaLp1q8emOZhiaMY-ECkMWePYTQnbJfX7Hqt7zhuMX"},
	{946684801, "0iPMq5OC0o0UNES6MRNRkg.Ad6prRSc0oivIPgvJo0SI3u2uOcNHR4aEBJWQ1EHeyRS4MOOMRTsoJZnmXvorME_rC36bNsAL7ZE"},
}

// Cookies of the first builds are good for as long as they were there, and keep the cohort and the time. They say by chance that
// the session is remembered; a session that is not has the life of the others.
func TestCookiesOfTheFirstBuildsOpen(t *testing.T) {
	for _, golden := range goldens {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(session.Dir(t.TempDir()), session.Options{Keys: ring(t, "a"), Remember: time.Hour})
			v := newVisitor(t, s)
			v.cookie = golden.value
			time.Sleep(30*24*time.Hour - 2*time.Second) // the first builds know no Remember: the cookie was made for a Lifetime
			if began, ok := s.sm.Started(v.request("/")); !ok || began.Unix() != golden.at {
				t.Errorf("began at %v, %v", began, ok)
			}
			v.want("/cohort", golden.value[:22])
			if v.value() == golden.value {
				t.Error("the cookie was not made anew")
			}
			v.want("/count", "1")
			time.Sleep(23 * time.Hour)
			v.want("/count", "2") // not a remembered session
		})
	}
}

// The first builds open every cookie of this one, with the same id and cohort, a time that is off by a second at most, and for as
// long as their own.
func TestTheFirstBuildsOpenOurCookies(t *testing.T) {
	secret := []byte("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
	synctest.Test(t, func(t *testing.T) {
		s := rememberSite(session.Dir(t.TempDir()), session.Options{Keys: ring(t, "a")})
		for range 4 {
			time.Sleep(1300 * time.Millisecond)
			v := newVisitor(t, s)
			var cohort string
			for _, path := range []string{"/cohort", "/put?k=k&v=v", "/renew", "/remember", "/renew", "/logout"} {
				v.get(path)
				c, ok := oldOpen(secret, "session", v.value(), time.Now(), 30*24*time.Hour)
				if off := time.Now().Unix() - c.issued; !ok || off < -1 || off > 1 || cohort != "" && cohort != c.cohort {
					t.Fatalf("%s: %+v, %v, off by %d s", path, c, ok, off)
				}
				cohort = c.cohort
			}
		}
	})
}

// A remembered session stays remembered when a first build has made its cookie anew, without the mark.
func TestARememberedSessionOutlivesAFirstBuild(t *testing.T) {
	secret := []byte("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
	synctest.Test(t, func(t *testing.T) {
		opts := session.Options{Keys: ring(t, "a"), Lifetime: 10 * time.Hour, Idle: time.Hour, Remember: 100 * time.Hour, BrowserCookie: true}
		s := rememberSite(session.Dir(t.TempDir()), opts)
		v := newVisitor(t, s)
		v.get("/put?k=k&v=v")
		v.get("/remember")
		c, ok := oldOpen(secret, "session", v.value(), time.Now(), time.Hour)
		if !ok {
			t.Fatal("not opened")
		}
		time.Sleep(9 * time.Hour)
		v.cookie = session.Seal(s.sm, "session", c.id, uint32(c.born), uint32(time.Now().Unix()&^1), c.cohort)
		res := v.do("/get?k=k")
		if !setsCookie(res) || res.Cookies()[0].MaxAge != 100*3600 {
			t.Fatalf("cookies %v", res.Cookies())
		}
		time.Sleep(90 * time.Hour)
		v.want("/get?k=k", "v true")
	})
}
