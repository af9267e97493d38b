// SPDX-License-Identifier: Apache-2.0

package authentiq

// session.go is what the browser carries for us: a session, and the state of a
// sign-in that is under way. Both are sealed; one that can't be opened counts as
// none and is never an error.

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"maps"
	"strings"
	"time"

	"github.com/authentiq/caddy-authentiq/internal/claims"
	"github.com/authentiq/caddy-authentiq/internal/idtoken"
	"github.com/authentiq/caddy-authentiq/internal/revocation"
)

// session is a signed-in user. It holds claims and, only where they are to be
// checked again, a refresh token. An opened one is shared by requests and never
// written to.
type session struct {
	id         string // random, ours; what a sign-out here revokes
	signedIn   int64  // Unix seconds of our clock at the callback
	expires    int64  // Unix seconds of our clock
	began      int64  // iat of the first ID token, Unix seconds of the provider's clock
	seen       int64  // Unix seconds of our clock: a request of the user's, of late
	checked    int64  // Unix seconds of our clock: when the provider gave the claims
	generation uint64 // how often the provider gave new ones
	grant      grant
	claims     claims.Claims

	credentials credentials // what header lines hand to the application

	identity []field             // the identity headers, made once
	handed   []field             // those with tokens, while they are good
	user     string              // who the user is by user_claim
	standing *revocation.Session // what is asked whether it was signed out
	instead  *session            // what the cookie had, if this is newer
}

// grant is what the claims can be checked again with.
type grant struct {
	refresh string // the refresh token; empty when it is elsewhere, or there is none
	stored  bool   // it is in the store, being too large for a cookie
	nonce   string // of the sign-in, which a new ID token may repeat
}

func (g *grant) there() bool { return g.refresh != "" || g.stored }

const (
	sessionVersion = 2
	idLength       = 16 // bytes of a session identifier
)

var errPayload = errors.New("malformed payload")

// randomBytes returns n of them. crypto/rand ends the process rather than fail.
func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// protocolClaims belong to the token or to us, not to the user; they are not
// kept. The sources of aggregated and distributed claims are tokens; signedBy says
// what has become of them.
var protocolClaims = []string{
	"iss", "aud", "azp", "exp", "iat", "nbf", "jti", "nonce",
	"at_hash", "c_hash", "s_hash", "_claim_names", "_claim_sources",
}

// keptClaims are the names of the claims that a session holds; nil is all.
type keptClaims map[string]struct{}

// of returns what a session holds of a token's claims.
func (k keptClaims) of(c claims.Claims) claims.Claims {
	kept := make(claims.Claims, len(c))
	for name, value := range c {
		if _, wanted := k[name]; wanted || k == nil {
			kept[name] = value
		}
	}
	for _, name := range protocolClaims {
		delete(kept, name)
	}
	// A name that no tz database knows would be noise in a header; asked here,
	// once, because the answer takes a look at a file.
	if claims.Zoneinfo(c.String("zoneinfo")) == "" {
		delete(kept, "zoneinfo")
	}
	signed := maps.Clone(signaturesOf(c))
	maps.DeleteFunc(signed, func(name string, _ any) bool { _, there := kept[name]; return !there })
	setSignatures(kept, signed)
	return kept
}

// newSession makes the session of a verified ID token's claims, at now.
func newSession(c claims.Claims, keep keptClaims, now time.Time, lifetime time.Duration) *session {
	s := &session{
		id:       base64.RawURLEncoding.EncodeToString(randomBytes(idLength)),
		signedIn: now.Unix(),
		expires:  now.Add(lifetime).Unix(),
		seen:     now.Unix(),
		checked:  now.Unix(),
		claims:   keep.of(c),
	}
	if iat, err := idtoken.Instant(c, "iat"); err == nil {
		s.began = iat.Unix()
	}
	return s
}

// encode writes the payload: version, id, times, generation, grant, credentials if
// there are any, claims.
func (s *session) encode() ([]byte, error) {
	id, err := base64.RawURLEncoding.DecodeString(s.id)
	if err != nil || len(id) != idLength {
		return nil, errPayload
	}
	b := append(make([]byte, 0, 512), sessionVersion)
	b = append(b, id...)
	b = binary.AppendUvarint(b, uint64(s.signedIn))
	for _, t := range []int64{s.expires, s.seen, s.checked} { // close to it, so that they are short
		b = binary.AppendVarint(b, t-s.signedIn)
	}
	b = binary.AppendUvarint(b, uint64(s.began))
	b = binary.AppendUvarint(b, s.generation)
	kind := len(b)
	b = s.grant.append(b)
	if s.credentials.there() {
		b[kind] |= grantWithCredentials
		b = s.credentials.append(b)
	}
	return claims.AppendBinary(b, s.claims)
}

func decodeSession(b []byte) (*session, error) {
	if len(b) < 1+idLength || b[0] != sessionVersion {
		return nil, errPayload
	}
	s := &session{id: base64.RawURLEncoding.EncodeToString(b[1 : 1+idLength])}
	r := reader{rest: b[1+idLength:]}
	s.signedIn = int64(r.number())
	for _, t := range []*int64{&s.expires, &s.seen, &s.checked} {
		*t = s.signedIn + r.difference()
	}
	s.began, s.generation = int64(r.number()), r.number()
	s.grant, s.credentials = readGrant(&r)
	if r.failed {
		return nil, errPayload
	}
	var err error
	s.claims, err = claims.DecodeBinary(r.rest)
	return s, err
}

// How a grant is written: where the token is, then the nonce and the token.
const (
	grantNone = iota
	grantHere
	grantStored

	grantWithCredentials = 4 // is added where those follow
)

func (g *grant) append(b []byte) []byte {
	switch {
	case g.stored:
		b = append(b, grantStored)
	case g.refresh != "":
		b = append(b, grantHere)
	default:
		return append(b, grantNone)
	}
	b = appendToken(b, g.nonce)
	return appendToken(b, g.refresh)
}

func readGrant(r *reader) (g grant, c credentials) {
	first := r.take(1)
	if r.failed {
		return g, c
	}
	if kind := first[0] &^ grantWithCredentials; kind != grantNone {
		g = grant{stored: kind == grantStored, nonce: readToken(r), refresh: readToken(r)}
	}
	if first[0]&grantWithCredentials != 0 {
		c = readCredentials(r)
	}
	return g, c
}

// appendToken writes a token with what is base64url in it unpacked: sealing
// encodes twice more, and a token may be large. Its parts are those between dots.
// One that is not wholly base64url is one part as it is.
func appendToken(b []byte, token string) []byte {
	parts := strings.Split(token, ".")
	raw := make([][]byte, len(parts))
	for i, part := range parts {
		var err error
		if raw[i], err = base64.RawURLEncoding.Strict().DecodeString(part); err != nil || strings.ContainsAny(part, "\r\n") {
			b = binary.AppendUvarint(b, 0)
			b = binary.AppendUvarint(b, uint64(len(token)))
			return append(b, token...)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(raw)))
	for _, part := range raw {
		b = binary.AppendUvarint(b, uint64(len(part)))
		b = append(b, part...)
	}
	return b
}

func readToken(r *reader) string {
	count := r.number()
	if count == 0 {
		return string(r.take(r.number()))
	}
	var token strings.Builder
	for i := uint64(0); i < count && !r.failed; i++ {
		if i > 0 {
			token.WriteByte('.')
		}
		token.WriteString(base64.RawURLEncoding.EncodeToString(r.take(r.number())))
	}
	return token.String()
}

// maxAhead is how far a clock may be put back without signing people out, in
// seconds.
const maxAhead = 24 * 3600

// live reports whether s lasts at now. Its own end is inside the seal; a
// lifetime that was shortened since counts too, and so does how long the user was
// away. An idle of 0 is no limit.
func (s *session) live(now time.Time, lifetime, idle time.Duration) bool {
	return s.over(now, lifetime, idle) == notLost
}

// over says why s does not last any more, if it does not.
func (s *session) over(now time.Time, lifetime, idle time.Duration) lost {
	unix := now.Unix()
	switch {
	case s.signedIn-unix > maxAhead:
		return lostLifetime // our clock was wrong, and the session would last for as long as it was
	case unix >= s.expires || unix-s.signedIn >= int64(lifetime/time.Second):
		return lostLifetime
	case idle > 0 && unix-s.seen >= int64(idle/time.Second):
		return lostIdle
	default:
		return notLost
	}
}

// light is s with its refresh token in the store.
func (s *session) light() *session {
	light := *s
	light.grant.refresh, light.grant.stored = "", true
	return &light
}

func (s *session) subject() string { return s.claims.String("sub") }

// reader takes a payload apart; what it returns counts only if it has not
// failed.
type reader struct {
	rest   []byte
	failed bool
}

func (r *reader) number() uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		r.failed = true
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *reader) difference() int64 {
	n, size := binary.Varint(r.rest)
	if size <= 0 {
		r.failed = true
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *reader) take(n uint64) []byte {
	if r.failed || n > uint64(len(r.rest)) {
		r.failed = true
		return nil
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken
}
