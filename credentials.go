// SPDX-License-Identifier: Apache-2.0

package authentiq

// credentials.go is the tokens that an application may be handed, for an API that
// wants them: kept only where session tokens is on, and told only by header lines
// that name them. A refresh token is none of these: who has it, and the client
// secret or none, is the client.

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/authentiq/caddy-authentiq/internal/claims"
	"github.com/authentiq/caddy-authentiq/internal/idtoken"
	"github.com/authentiq/caddy-authentiq/internal/provider"
)

// What a header line may name in the place of a claim.
const (
	accessTokenSource = "{access_token}"
	expiresSource     = "{access_token_expires_at}"
	idTokenSource     = "{id_token}"
)

func isCredential(source string) bool {
	return source == accessTokenSource || source == expiresSource || source == idTokenSource
}

// checkHeaderSource refuses what no header can be made of.
func checkHeaderSource(source string) error {
	switch {
	case isCredential(source):
		return nil
	case source == "{refresh_token}":
		return errors.New("is handed to nobody: who has it can ask for new tokens, for as long as it lasts")
	case isCredential("{" + source + "}"):
		return fmt.Errorf("is no claim: the token is {%s}, in braces", source)
	default:
		return checkClaimPath(source)
	}
}

// credentials are what a session keeps for the application.
type credentials struct {
	access    string
	expires   int64 // of the access token, Unix seconds of our clock; 0 where the provider does not say
	id        string
	idExpires int64 // Unix seconds of the provider's clock
}

func (c *credentials) there() bool { return c.access != "" || c.id != "" }

// all are the tokens by name.
func (c *credentials) all() map[string]string {
	return map[string]string{"access_token": c.access, "id_token": c.id}
}

func (c *credentials) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(c.expires))
	b = binary.AppendUvarint(b, uint64(c.idExpires))
	b = appendToken(b, c.access)
	return appendToken(b, c.id)
}

func readCredentials(r *reader) credentials {
	return credentials{expires: int64(r.number()), idExpires: int64(r.number()), access: readToken(r), id: readToken(r)}
}

// configureCredentials settles whether tokens are kept. Tokens that nobody asked for
// are not in cookies, and a header that never came would be an API that fails.
func (g *Gate) configureCredentials() error {
	s := g.Session
	if s.Tokens == "" {
		s.Tokens = "off"
	}
	if s.Tokens != "on" && s.Tokens != "off" {
		return fmt.Errorf("session tokens %q: want on or off", s.Tokens)
	}
	if s.Tokens == "off" && len(g.mapping.handed) > 0 {
		h := g.mapping.handed[0]
		return fmt.Errorf("header %s: %s needs session tokens on, which keeps it", h.Name, h.Claim)
	}
	g.wants.tokens = s.Tokens == "on"
	g.wants.idToken = slices.ContainsFunc(g.mapping.handed, func(h HeaderMapping) bool { return h.Claim == idTokenSource })
	return nil
}

var errNotBearer = errors.New("the access token is no bearer token, which session tokens is for (RFC 6750)")

// firstCredentials are those of a session that begins: what this gate hands on, and
// the one that began the sign-in.
func (g *Gate) firstCredentials(tokens *provider.Tokens, d *demand) (credentials, error) {
	if !g.wants.tokens && !d.tokens {
		return credentials{}, nil
	}
	if !strings.EqualFold(tokens.Type, "Bearer") {
		return credentials{}, &provider.Error{Op: "token request", Err: errNotBearer}
	}
	return g.newCredentials(tokens, g.wants.idToken || d.idToken), nil
}

// credentialsAnew are those that a refresh leaves. An ID token is kept only if it
// was verified.
func (g *Gate) credentialsAnew(before *credentials, tokens *provider.Tokens, verified bool) credentials {
	if !g.wants.tokens && !before.there() || !strings.EqualFold(tokens.Type, "Bearer") {
		return credentials{}
	}
	c := g.newCredentials(tokens, (g.wants.idToken || before.id != "") && verified)
	if c.id == "" {
		c.id, c.idExpires = before.id, before.idExpires
	}
	return c
}

func (g *Gate) newCredentials(tokens *provider.Tokens, withID bool) credentials {
	c := credentials{access: tokens.Access}
	switch {
	case tokens.ExpiresIn > 0:
		c.expires = g.app.now.Now().Unix() + tokens.ExpiresIn
	case tokens.ExpiresIn < 0:
		c.expires = 1 // over
	default:
		c.expires = tokens.ExpiresAt
	}
	if withID && tokens.ID != "" {
		c.id, c.idExpires = tokens.ID, expiryOf(tokens.ID)
	}
	return c
}

// expiryOf is the exp of an ID token that was verified; 0, which is long ago, of one
// that has none to read.
func expiryOf(compact string) int64 {
	parts := strings.Split(compact, ".")
	if len(parts) != 3 {
		return 0
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return 0
	}
	c, err := claims.Decode(payload)
	if err != nil {
		return 0
	}
	exp, err := idtoken.Instant(c, "exp")
	if err != nil {
		return 0
	}
	return exp.Unix()
}

// renewAhead is how long before its end an access token is renewed, in seconds: an
// API has to have the time to look at it. Short ones have a quarter of their time.
const renewAhead = 10

// hasNothingToHandOn reports whether the access token of s is over, or nearly, so
// that this gate has it renewed.
func (g *Gate) hasNothingToHandOn(s *session) bool {
	c := &s.credentials
	if !g.wants.tokens || c.access == "" || c.expires <= s.checked {
		return false // not known when; or it was over when it came, and the next would be
	}
	ahead := max(min(renewAhead, (c.expires-s.checked)/4), 0)
	return g.app.now.Now().Unix() >= c.expires-ahead
}

// handOn makes the headers of tokens, which are never encoded. left names what no
// header can carry.
func (m *mapping) handOn(c *credentials) (fields []field, left []string) {
	for _, h := range m.handed {
		value := ""
		switch h.Claim {
		case accessTokenSource:
			value = c.access
		case idTokenSource:
			value = c.id
		case expiresSource:
			if c.access != "" && c.expires > 0 {
				value = strconv.FormatInt(c.expires, 10)
			}
		}
		if value != "" && !plain(value) {
			left = append(left, h.Name)
			value = ""
		}
		if value != "" && h.Name == "Authorization" {
			value = "Bearer " + value // RFC 6750 section 2.1
		}
		fields = append(fields, field{h.Name, value})
	}
	if !c.there() {
		return nil, nil
	}
	return fields, left
}

// handOn sets the headers of tokens that are good at now: an API that gets none can
// tell its user so, and one that gets a stale one may take it for an attack.
func (v *visit) handOn(r *http.Request, m *mapping, s *session, now int64) {
	c := &s.credentials
	for i, f := range s.handed {
		over := c.expires != 0 && now >= c.expires
		if m.handed[i].Claim == idTokenSource {
			over = now >= c.idExpires
		}
		if f.value == "" || over {
			continue
		}
		r.Header[f.name] = []string{f.value}
		v.set = append(v.set, f.name)
	}
}
