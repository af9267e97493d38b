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

// gather returns the claims of a verified ID token, and those of userinfo if the
// token's are not enough and the provider has it. An error is userinfo's.
func (g *Gate) gather(ctx context.Context, m *provider.Metadata, verified claims.Claims, accessToken string, enough func(claims.Claims) bool) (claims.Claims, error) {
	if m.UserinfoEndpoint == "" || enough(verified) {
		return verified, nil
	}
	more, err := g.provider.Userinfo(ctx, accessToken, verified.String("sub"), g.userinfoVerifier(m))
	if err != nil {
		return nil, err
	}
	return merge(verified, more), nil
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
