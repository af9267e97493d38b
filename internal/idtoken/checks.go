// SPDX-License-Identifier: Apache-2.0

package idtoken

// This file has the checks of single claims, each by itself.

import (
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/authentiq/caddy-authentiq/internal/claims"
)

func (v *Verifier) issuer(c claims.Claims) error {
	if got := c.String("iss"); got != v.Issuer {
		return fail("iss", "want %q, got %.200q", v.Issuer, got)
	}
	return nil
}

// audience is stricter than the text of item 3 where a token has several
// audiences: the others are unknown to us, so azp must vouch that the token was
// issued to this client.
func (v *Verifier) audience(c claims.Claims) error {
	var audience []string
	switch aud := c["aud"].(type) {
	case string:
		audience = []string{aud}
	case []any:
		for _, member := range aud {
			s, ok := member.(string)
			if !ok {
				return fail("aud", "has a member that is no string")
			}
			audience = append(audience, s)
		}
	default:
		return fail("aud", "is missing or no string or list of strings")
	}
	if !slices.Contains(audience, v.ClientID) {
		return fail("aud", "want %q, got %.200q", v.ClientID, audience)
	}
	azp, present := c["azp"]
	if present && azp != v.ClientID {
		return fail("azp", "want %q, got %.200q", v.ClientID, fmt.Sprint(azp))
	}
	if len(audience) > 1 && !present {
		return fail("azp", "is missing in a token for several audiences")
	}
	return nil
}

// expiry checks exp, which is required (section 2).
func (v *Verifier) expiry(c claims.Claims) error {
	exp, err := Instant(c, "exp")
	if err != nil {
		return err
	}
	now := v.Now()
	if late := now.Sub(exp); late >= v.Skew && !now.Before(exp) {
		return fail("exp", "expired %s ago, clock_skew allows %s", late.Round(time.Second), v.Skew)
	}
	return nil
}

// issuance checks iat, which is required, and nbf.
func (v *Verifier) issuance(c claims.Claims) error {
	if _, err := Instant(c, "iat"); err != nil {
		return err
	}
	if err := v.notAhead(c, "iat"); err != nil {
		return err
	}
	return v.notAhead(c, "nbf")
}

// notAhead checks a time that must have come, if it is there.
func (v *Verifier) notAhead(c claims.Claims, name string) error {
	if _, present := c[name]; !present {
		return nil
	}
	t, err := Instant(c, name)
	if err != nil {
		return err
	}
	if early := t.Sub(v.Now()); early > v.Skew {
		return fail(name, "is %s ahead of our clock, clock_skew allows %s", early.Round(time.Second), v.Skew)
	}
	return nil
}

// notOver checks exp, iat and nbf, each where it is there.
func (v *Verifier) notOver(c claims.Claims) error {
	if _, ends := c["exp"]; ends {
		if err := v.expiry(c); err != nil {
			return err
		}
	}
	if err := v.notAhead(c, "iat"); err != nil {
		return err
	}
	return v.notAhead(c, "nbf")
}

// subject: at most 255 ASCII characters (section 2). White space and control
// characters are refused because a header would not carry them as they are,
// and two users must never become one on the way to the upstream.
func subject(c claims.Claims) error { return identifier(c, "sub") }

func identifier(c claims.Claims, name string) error {
	value, ok := c[name].(string)
	if !ok || value == "" {
		return fail(name, "is missing, empty or no string")
	}
	if len(value) > 255 {
		return fail(name, "is longer than 255 characters")
	}
	for _, r := range value {
		if r > unicode.MaxASCII || unicode.IsControl(r) {
			return fail(name, "has a character outside printable ASCII")
		}
	}
	if strings.TrimSpace(value) != value {
		return fail(name, "begins or ends with white space")
	}
	return nil
}

// same checks that a refreshed token goes on with the sign-in of the first.
func (e *Earlier) same(c claims.Claims) error {
	if c["sub"] != e.Claims["sub"] {
		return fail("sub", "is another user's than at sign-in")
	}
	if issued, err := Instant(c, "iat"); err != nil {
		return err
	} else if issued.Unix() < e.Issued {
		return fail("iat", "is before that of the first token")
	}
	if _, there := c["auth_time"]; !there {
		return nil
	}
	signedIn, err := Instant(c, "auth_time")
	if err != nil {
		return err
	}
	if before, err := Instant(e.Claims, "auth_time"); err == nil && !before.Equal(signedIn) {
		return fail("auth_time", "is not that of the sign-in")
	}
	return nil
}

func (v *Verifier) freshness(c claims.Claims) error { return v.Fresh(c, v.Now()) }

// Fresh checks auth_time and acr of a sign-in at the time at. It looks at
// MaxAge, ACR and Skew only.
func (v *Verifier) Fresh(c claims.Claims, at time.Time) error {
	if v.MaxAge != nil {
		t, err := Instant(c, "auth_time")
		if err != nil {
			return err
		}
		age := at.Sub(t)
		if age < -v.Skew {
			return fail("auth_time", "is %s ahead of our clock, clock_skew allows %s", (-age).Round(time.Second), v.Skew)
		}
		if age-v.Skew > *v.MaxAge {
			return fail("auth_time", "the user signed in %s ago, max_age is %s", age.Round(time.Second), *v.MaxAge)
		}
	}
	if len(v.ACR) > 0 && !slices.Contains(v.ACR, c.String("acr")) {
		return fail("acr", "want one of %q, got %.200q", v.ACR, c.String("acr"))
	}
	return nil
}

// halfHash checks at_hash or c_hash (sections 3.1.3.8, 3.3.2.10), which are optional
// in the code flow but never ignored when they are there.
func halfHash(c claims.Claims, name, alg, of, what string) error {
	hash, present := c[name]
	if !present {
		return nil
	}
	h := algorithms[alg].New()
	h.Write([]byte(of))
	sum := h.Sum(nil)
	want := base64.RawURLEncoding.EncodeToString(sum[:len(sum)/2])
	if got, _ := hash.(string); subtle.ConstantTimeCompare([]byte(got), []byte(want)) != 1 {
		return fail(name, "does not belong to the %s", what)
	}
	return nil
}

// Instant reads a NumericDate (RFC 7519 section 2), fractions allowed. Values
// outside the years 1970 to 9999 are refused, so that nothing can wrap.
func Instant(c claims.Claims, name string) (time.Time, error) {
	n, ok := c[name].(json.Number)
	if !ok {
		return time.Time{}, fail(name, "is missing or no number")
	}
	f, err := n.Float64()
	if err != nil || f < 0 || f > 253402300799 {
		return time.Time{}, fail(name, "is no time between 1970 and 9999")
	}
	whole, fraction := math.Modf(f)
	return time.Unix(int64(whole), int64(fraction*1e9)), nil
}
