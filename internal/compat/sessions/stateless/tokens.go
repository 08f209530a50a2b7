// Package stateless is an example: sessions that are JSON Web Tokens, made and verified by github.com/golang-jwt/jwt/v5, whose
// keys come from a session.KeyRing. So the keys outlive an upgrade, and are rotated with those of the cookies. Copy the file.
//
//	sm := session.NewManager(session.Dir("sessions"), session.Options{})
//	up.Keep("keys", sm.Keys())
//	tokens := stateless.Tokens{Keys: sm.Keys(), Issuer: "shop", Audience: "api", Lifetime: 10 * time.Minute}
//
// # When a stateless token is the right choice
//
//   - Another service has to know who the visitor is, and cannot or should not ask the store.
//   - A client is no browser: it sends a header and no cookie.
//   - What the token says stays true for as long as the token lives, which should be minutes.
//
// Otherwise take the session.Manager. Both go together well: the visitor has a session, and a page of the session hands out
// tokens of a few minutes. A logout, session.Renew or a revoked user then ends the supply, though not the tokens that exist.
//
// # What a stateless token cannot do
//
//   - End before its time. A logout, a new password and a lost telephone change nothing: who has the token is the visitor
//     until it expires. A list of revoked tokens, or an epoch per user that every request compares, is a store that every request
//     asks, and then the session may be in it as well. The only other way is a new key: it logs everybody out.
//   - Change. A value that was added makes another token, and the old token is valid beside it with the old values. So a
//     counter, a cart or a one-time code in a token can be played back. No update can be made without losing another one.
//   - Keep a secret. A token is signed and not encrypted: who has the token reads it.
//   - Move its expiry with its use, be listed, or be large: browsers keep 4096 bytes a cookie.
//
// Two versions of a program read each other's tokens if claims are added and neither renamed nor given another type. Nobody
// carries over what a version does not know, since no version rewrites a token.
package stateless

import (
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/midair-go/midair/session"
)

// Tokens makes and verifies tokens. Its methods may be called from any goroutine.
type Tokens struct {
	Keys             *session.KeyRing
	Issuer, Audience string
	Lifetime         time.Duration
}

// Sign returns a token for a user, signed with the key that is active now.
func (t Tokens) Sign(user string) (string, error) {
	now := time.Now()
	claims := jwt.RegisteredClaims{
		Issuer: t.Issuer, Audience: jwt.ClaimStrings{t.Audience}, Subject: user,
		IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(t.Lifetime)),
	}
	return jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(t.Keys.Derive("jwt " + t.Audience)[0])
}

// Verify returns the user of a token that any key of the ring has signed.
func (t Tokens) Verify(token string) (user string, err error) {
	var claims jwt.RegisteredClaims
	_, err = jwt.ParseWithClaims(token, &claims, t.keys, jwt.WithValidMethods([]string{"HS256"}), jwt.WithExpirationRequired(),
		jwt.WithIssuer(t.Issuer), jwt.WithAudience(t.Audience), jwt.WithLeeway(time.Minute)) // clocks of two hosts may differ
	if err != nil { // the claims of a bad token are there too
		return "", err
	}
	return claims.Subject, nil
}

func (t Tokens) keys(*jwt.Token) (any, error) {
	var set jwt.VerificationKeySet
	for _, key := range t.Keys.Derive("jwt " + t.Audience) {
		set.Keys = append(set.Keys, key)
	}
	return set, nil
}
