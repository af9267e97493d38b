// SPDX-License-Identifier: Apache-2.0

package authentiq

// userinfo.go gathers what a provider says of a user: in the ID token, and, where
// that is not enough, at userinfo.

import (
	"context"
	"slices"

	"github.com/authentiq/caddy-authentiq/internal/claims"
	"github.com/authentiq/caddy-authentiq/internal/provider"
)

// userinfoWords are when it is asked; the first is the default.
var userinfoWords = []string{"auto", "always", "never"}

// need is whether userinfo has to be asked.
type need int

const (
	notNeeded need = iota
	wanted         // if the provider has it
	needed         // or there is no session
)

// needs tells what is needed besides a verified ID token at a sign-in: here, where
// it ends, and at the gate that began it.
func (g *Gate) needs(verified claims.Claims, d *demand) need {
	switch {
	case g.Userinfo == "always" || d.always:
		return needed
	case g.Userinfo != "never" && len(decide(g.keep.of(verified), g.scopes, g.rules)) > 0, !d.never && d.lacks(verified):
		return wanted
	default:
		return notNeeded
	}
}

// needsAnew is the same for the ID token of a refresh.
func (g *Gate) needsAnew(found claims.Claims, s *session) need {
	switch {
	case g.Userinfo == "always":
		return needed
	case g.Userinfo != "never" && g.lacks(found, s):
		return wanted
	default:
		return notNeeded
	}
}

// gather returns the claims of a verified ID token, and those of userinfo if that
// has to be asked, with what trusted signers say. before is what a session had. asked
// says whether userinfo was; an error is userinfo's.
func (g *Gate) gather(ctx context.Context, m *provider.Metadata, verified, before claims.Claims, accessToken string, needs func(claims.Claims) need) (said claims.Claims, asked bool, err error) {
	h := g.hearing(before)
	said = h.hear(ctx, verified)
	if more := needs(said); more == needed || more == wanted && m.UserinfoEndpoint != "" {
		besides, err := g.provider.Userinfo(ctx, g.client, accessToken, verified.String("sub"), g.userinfoVerifier(m))
		if err != nil {
			return nil, true, err
		}
		said, asked = h.hear(ctx, verified, besides), true
	}
	h.report()
	return said, asked, nil
}

// merge adds userinfo's claims to those of the ID token, whose own stay: they
// are signed. Verified-ness goes with its value, so that a token's email is not
// called verified by what userinfo says of another one.
func merge(token, userinfo claims.Claims) claims.Claims {
	merged := make(claims.Claims, len(token)+len(userinfo))
	for name, value := range userinfo {
		if slices.Contains(protocolClaims, name) || name == "sid" || name == "auth_time" || name == "acr" || name == "amr" {
			continue
		}
		// A name with dots would be found before what the token has at that path.
		if _, signed := token.Lookup(name); signed {
			continue
		}
		merged[name] = value
	}
	for value, companion := range map[string]string{"email": "email_verified", "phone_number": "phone_number_verified"} {
		signed, there := token[value]
		if _, said := token[companion]; there && !said && userinfo[value] != signed {
			delete(merged, companion)
		}
		if _, said := token[companion]; said && !there {
			delete(merged, value)
		}
	}
	for name, value := range token {
		merged[name] = value
	}
	return merged
}
