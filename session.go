// SPDX-License-Identifier: Apache-2.0

package authentiq

// session.go is what the browser carries for us: a session, and the state of a
// sign-in that is under way. Both are sealed; one that can't be opened counts as
// none and is never an error.

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"go.uber.org/zap"

	"github.com/authentiq/caddy-authentiq/internal/claims"
	"github.com/authentiq/caddy-authentiq/internal/idtoken"
)

// session is a signed-in user. It holds claims and no tokens. An opened one is
// shared by requests and never written to.
type session struct {
	id         string // random, ours; what a sign-out here revokes
	signedIn   int64  // Unix seconds of our clock at the callback
	expires    int64  // Unix seconds of our clock
	began      int64  // iat of the first ID token, Unix seconds of the provider's clock
	generation uint64
	claims     claims.Claims

	identity []field // the identity headers, made once
	user     string  // who the user is by user_claim
}

const (
	sessionVersion = 1
	idLength       = 16 // bytes of a session identifier
	loginVersion   = 1
	secretLength   = 16 // bytes of state and nonce
	verifierLength = 32 // bytes of a PKCE verifier, 43 characters (RFC 7636 section 4.1)
)

var errPayload = errors.New("malformed payload")

// randomBytes returns n of them. crypto/rand ends the process rather than fail.
func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// protocolClaims belong to the token or to us, not to the user; they are not
// kept. The sources of aggregated and distributed claims are tokens.
var protocolClaims = []string{
	"iss", "aud", "azp", "exp", "iat", "nbf", "jti", "nonce",
	"at_hash", "c_hash", "s_hash", "_claim_names", "_claim_sources",
}

// newSession makes the session of a verified ID token's claims, at now.
func newSession(c claims.Claims, now time.Time, lifetime time.Duration) *session {
	s := &session{
		id:       base64.RawURLEncoding.EncodeToString(randomBytes(idLength)),
		signedIn: now.Unix(),
		expires:  now.Add(lifetime).Unix(),
		claims:   make(claims.Claims, len(c)),
	}
	if iat, err := idtoken.Instant(c, "iat"); err == nil {
		s.began = iat.Unix()
	}
	for name, value := range c {
		s.claims[name] = value
	}
	for _, name := range protocolClaims {
		delete(s.claims, name)
	}
	// A name that no tz database knows would be noise in a header; asked here,
	// once, because the answer takes a look at a file.
	if claims.Zoneinfo(c.String("zoneinfo")) == "" {
		delete(s.claims, "zoneinfo")
	}
	return s
}

// encode writes the payload: version, id, times, generation, claims.
func (s *session) encode() ([]byte, error) {
	id, err := base64.RawURLEncoding.DecodeString(s.id)
	if err != nil || len(id) != idLength {
		return nil, errPayload
	}
	b := append(make([]byte, 0, 512), sessionVersion)
	b = append(b, id...)
	b = binary.AppendUvarint(b, uint64(s.signedIn))
	b = binary.AppendUvarint(b, uint64(s.expires))
	b = binary.AppendUvarint(b, uint64(s.began))
	b = binary.AppendUvarint(b, s.generation)
	return claims.AppendBinary(b, s.claims)
}

func decodeSession(b []byte) (*session, error) {
	if len(b) < 1+idLength || b[0] != sessionVersion {
		return nil, errPayload
	}
	s := &session{id: base64.RawURLEncoding.EncodeToString(b[1 : 1+idLength])}
	r := reader{rest: b[1+idLength:]}
	s.signedIn, s.expires, s.began, s.generation = int64(r.number()), int64(r.number()), int64(r.number()), r.number()
	if r.failed {
		return nil, errPayload
	}
	var err error
	s.claims, err = claims.DecodeBinary(r.rest)
	return s, err
}

// live reports whether s lasts at now. Its own end is inside the seal; a
// lifetime that was shortened since counts too.
func (s *session) live(now time.Time, lifetime time.Duration) bool {
	unix := now.Unix()
	return unix < s.expires && unix-s.signedIn < int64(lifetime/time.Second)
}

func (s *session) subject() string { return s.claims.String("sub") }

// login is a sign-in under way, as kept in its cookie.
type login struct {
	started  int64 // Unix seconds
	state    []byte
	nonce    []byte
	verifier []byte
	origin   origin // where it began, and where returnTo is
	returnTo string // a local path
}

// loginLifetime is how long somebody may stay at the provider.
const loginLifetime = 10 * time.Minute

func newLogin(now time.Time, o origin, returnTo string) *login {
	return &login{
		started:  now.Unix(),
		state:    randomBytes(secretLength),
		nonce:    randomBytes(secretLength),
		verifier: randomBytes(verifierLength),
		origin:   o,
		returnTo: returnTo,
	}
}

// live reports whether l may still be finished at now. It may have begun on a
// machine whose clock is a little ahead.
func (l *login) live(now time.Time) bool {
	age := now.Sub(time.Unix(l.started, 0))
	return -time.Minute < age && age < loginLifetime
}

// stateParam is the state of the authorization request: the slot of the cookie
// that has the rest, and what must be equal to it.
func (l *login) stateParam(slot int) string {
	return strconv.Itoa(slot) + base64.RawURLEncoding.EncodeToString(l.state)
}

func (l *login) nonceParam() string { return base64.RawURLEncoding.EncodeToString(l.nonce) }

func (l *login) codeVerifier() string { return base64.RawURLEncoding.EncodeToString(l.verifier) }

func (l *login) encode() []byte {
	b := append(make([]byte, 0, 256), loginVersion)
	b = binary.AppendUvarint(b, uint64(l.started))
	b = append(b, l.state...)
	b = append(b, l.nonce...)
	b = append(b, l.verifier...)
	for _, text := range []string{l.origin.scheme, l.origin.host, l.returnTo} {
		b = binary.AppendUvarint(b, uint64(len(text)))
		b = append(b, text...)
	}
	return b
}

func decodeLogin(b []byte) (*login, error) {
	if len(b) < 1 || b[0] != loginVersion {
		return nil, errPayload
	}
	r := reader{rest: b[1:]}
	l := &login{
		started:  int64(r.number()),
		state:    r.take(secretLength),
		nonce:    r.take(secretLength),
		verifier: r.take(verifierLength),
	}
	l.origin.scheme = string(r.take(r.number()))
	l.origin.host = string(r.take(r.number()))
	l.returnTo = string(r.take(r.number()))
	if r.failed || len(r.rest) > 0 {
		return nil, errPayload
	}
	return l, nil
}

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

func (r *reader) take(n uint64) []byte {
	if r.failed || n > uint64(len(r.rest)) {
		r.failed = true
		return nil
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken
}

// makeBindings makes, for each purpose, the part of a binding that is a gate's own:
// purpose, provider and client.
func (g *Gate) makeBindings() map[purpose]string {
	bindings := make(map[purpose]string, len(purposes))
	for _, p := range purposes {
		h := sha256.New()
		for _, part := range []string{string(p), g.Issuer, g.ClientID} {
			h.Write(binary.AppendUvarint(nil, uint64(len(part))))
			h.Write([]byte(part))
		}
		bindings[p] = base64.RawURLEncoding.EncodeToString(h.Sum(nil))
	}
	return bindings
}

// binding names, inside what is authenticated, all that a sealed value is good
// for: purpose, provider, client and site. A value of another site or client
// that has the same key does not open.
func (g *Gate) binding(p purpose, site string) string { return g.bindings[p] + " " + site + " " }

// seal returns the sealed payload, as a cookie's value can carry it, prefixed
// with the id of its key. chunks is how many cookies it will take.
func (k *key) seal(p purpose, binding string, payload []byte, chunks int) (string, error) {
	sealed, err := k.seals[p].Encode(binding+strconv.Itoa(chunks), payload)
	return k.id + sealed, err
}

// open is the reverse of seal.
func (ring *keyring) open(p purpose, binding, value string, chunks int) ([]byte, bool) {
	if len(value) <= keyIDLength {
		return nil, false
	}
	k, sealed := ring.byID(value[:keyIDLength]), value[keyIDLength:]
	if k == nil || !canonicalBase64(sealed) {
		return nil, false
	}
	var payload []byte
	if k.seals[p].Decode(binding+strconv.Itoa(chunks), sealed, &payload) != nil {
		return nil, false
	}
	return payload, true
}

// canonicalBase64 reports whether the bits that pad the last character are
// zero. The library's decoder passes over them and over line breaks, so that a
// changed value could open.
func canonicalBase64(s string) bool {
	if len(s) < 4 || len(s)%4 != 0 {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' {
			return false
		}
	}
	_, err := base64.URLEncoding.Strict().DecodeString(s[len(s)-4:])
	return err == nil
}

// session returns the live session of the request, or nil. The error says that
// sessions can't be told at all now.
func (g *Gate) session(r *http.Request, v *visit) (*session, error) {
	if len(v.cookies) == 0 {
		return nil, nil
	}
	o, ok := g.origin(r)
	if !ok || g.Session.Domain != "" && !o.within(g.Session.Domain) {
		return nil, nil
	}
	values := assemble(g.cookies.of(o, g.Session.Domain), v.cookies)
	if len(values) == 0 {
		return nil, nil
	}
	var found *session
	for _, value := range values {
		s, err := g.openSession(r.Context(), g.site(o), value)
		if err != nil {
			return nil, err
		}
		if s == nil {
			continue
		}
		// Two that open are one too many: somebody has planted a session of his
		// own, and which of them is the user's can't be told.
		if found != nil && found.id != s.id {
			return nil, nil
		}
		found = s
	}
	return found, nil
}

// openSession returns the live session that a cookie's value holds, or nil.
func (g *Gate) openSession(ctx context.Context, site string, value whole) (*session, error) {
	s := g.sessions.get(site, value)
	if s == nil {
		ring, err := g.keyring(ctx)
		if err != nil {
			return nil, err
		}
		payload, ok := ring.open(purposeSession, g.binding(purposeSession, site), value.value, value.chunks)
		if !ok {
			return nil, nil
		}
		if s, err = decodeSession(payload); err != nil {
			return nil, nil
		}
		var left []string
		if s.identity, left = g.mapping.fields(s.claims); len(left) > 0 {
			g.logger.Info(eventHeaderLeftOut, zap.Strings("headers", left), zap.String("sub", s.subject()))
		}
		if user := g.mapping.user(s.claims); sendable(user) {
			s.user = user // the same as in headers, or nobody
		}
		g.sessions.put(site, value, s)
	}
	if !s.live(g.app.now.Now(), time.Duration(g.Session.Lifetime)) || g.revoked(s) {
		return nil, nil
	}
	return s, nil
}

// keyring returns the keys that the configuration names or the storage holds.
func (g *Gate) keyring(ctx context.Context) (*keyring, error) {
	if g.keys != nil {
		return g.keys, nil
	}
	return g.app.sealingKeys(ctx)
}

// sealSession returns the cookies that carry s.
func (g *Gate) sealSession(ring *keyring, o origin, s *session) ([]carried, *refusal) {
	payload, err := s.encode()
	if err != nil {
		return nil, &refusal{status: http.StatusInternalServerError, check: "sealing", cause: err, page: pageBroken}
	}
	binding := g.binding(purposeSession, g.site(o))
	cookies, err := cut(g.cookies.of(o, g.Session.Domain), len(payload), func(chunks int) (string, error) {
		return ring.sealing().seal(purposeSession, binding, payload, chunks)
	})
	if err != nil {
		return nil, &refusal{status: http.StatusInternalServerError, check: "sealing", cause: err, page: pageBroken}
	}
	if len(cookies) == 0 {
		return nil, &refusal{status: http.StatusBadGateway, check: "size", cause: tooLarge(s.claims, len(payload)), page: pageTooLarge}
	}
	return cookies, nil
}

// sessionCache remembers opened sessions while their cookies repeat: decoding
// is what costs. It is a gate's own, so all but the site is the same for every
// entry, and it is keyed by the whole cookie, as it was cut.
type sessionCache struct {
	entries *lru.Cache[whole, *remembered]
}

type remembered struct {
	site    string
	session *session
}

// cacheSize is how many sessions are remembered, some 3 KiB each.
const cacheSize = 4096

func newSessionCache() (*sessionCache, error) {
	entries, err := lru.New[whole, *remembered](cacheSize)
	return &sessionCache{entries}, err
}

func (c *sessionCache) get(site string, value whole) *session {
	if e, ok := c.entries.Get(value); ok && e.site == site {
		return e.session
	}
	return nil
}

func (c *sessionCache) put(site string, value whole, s *session) {
	value.value = strings.Clone(value.value) // not the whole line that it is a part of
	c.entries.Add(value, &remembered{site, s})
}
