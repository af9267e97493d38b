// SPDX-License-Identifier: Apache-2.0

package authentiq

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"strconv"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
)

// seal.go seals what the browser carries and opens it again, and finds the
// session in a request. What can't be opened counts as none and is never an error.

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

// open opens a value that a cookie or the store holds. The error says that
// nothing can be told at all now.
func (g *Gate) open(ctx context.Context, p purpose, site, value string, chunks int) ([]byte, bool, error) {
	ring, err := g.keyring(ctx)
	if err != nil {
		return nil, false, err
	}
	if g.keys == nil && len(value) > keyIDLength && ring.byID(value[:keyIDLength]) == nil {
		ring = g.app.keysWith(ctx, value[:keyIDLength])
	}
	if ring == nil {
		return nil, false, errNoKeys
	}
	payload, ok := ring.open(p, g.binding(p, site), value, chunks)
	return payload, ok, nil
}

// session returns the live session of the request, or nil. The error says that
// sessions can't be told at all now.
func (g *Gate) session(r *http.Request, v *visit) (*session, error) {
	v.lost = notLost
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
		s, why, err := g.examine(r.Context(), g.site(o), value)
		if err != nil {
			return nil, err
		}
		if s == nil {
			v.lost = why
			continue
		}
		// Two that open are one too many: somebody has planted a session of his
		// own, and which of them is the user's can't be told.
		if found != nil && found.id != s.id {
			v.lost = lostSeveral
			return nil, nil
		}
		if found == nil || found.generation < s.generation || found.generation == s.generation && found.seen < s.seen {
			found = s
		}
	}
	return found, nil
}

// current returns the session of the request as the provider has last vouched for
// it, or nil.
func (g *Gate) current(r *http.Request, v *visit) (*session, error) {
	v.waited = false // at an earlier gate, maybe
	s, err := g.session(r, v)
	if s == nil || err != nil {
		return nil, err
	}
	if s = g.recheck(r, v, s); s == nil {
		v.lost = lostRecheck
	}
	return s, nil
}

// openSession returns the live session that a cookie's value holds, or nil.
func (g *Gate) openSession(ctx context.Context, site string, value whole) (*session, error) {
	s, _, err := g.examine(ctx, site, value)
	return s, err
}

// examine is openSession, and says why it returns none.
func (g *Gate) examine(ctx context.Context, site string, value whole) (*session, lost, error) {
	s, err := g.unseal(ctx, site, value)
	if s == nil || err != nil {
		return nil, lostUnopened, err
	}
	if why := s.over(g.app.now.Now(), time.Duration(g.Session.Lifetime), g.idle()); why != notLost {
		return nil, why, nil
	}
	if err := g.knowsSignOuts(ctx); err != nil {
		return nil, lostUnknown, err
	}
	if g.revoked(s) {
		return nil, lostSignedOut, nil
	}
	return s, notLost, nil
}

// unseal returns the session that a cookie's value holds, or nil. It may be over.
func (g *Gate) unseal(ctx context.Context, site string, value whole) (*session, error) {
	s := g.sessions.get(site, value)
	if s == nil || !g.keyThere(ctx, value.value) {
		ctx, span := startSpan(ctx, spanOpen, trace.SpanKindInternal)
		defer span.End()
		payload, ok, err := g.open(ctx, purposeSession, site, value.value, value.chunks)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, nil
		}
		if s, err = decodeSession(payload); err != nil {
			return nil, nil
		}
		g.present(s)
		g.sessions.put(site, value, s)
	}
	return s, nil
}

// keyThere reports whether the key that sealed a value is still in use: what it
// sealed is worth nothing once it was taken away, opened before or not.
func (g *Gate) keyThere(ctx context.Context, value string) bool {
	ring, err := g.keyring(ctx)
	return err == nil && ring.byID(value[:keyIDLength]) != nil
}

// present makes what this gate tells of s.
func (g *Gate) present(s *session) {
	s.standing = g.standing(s)
	s.claims = g.trust.believed(s.claims)
	var left []string
	s.identity, left = g.mapping.fields(s.claims)
	if g.mapping.handed != nil {
		var more []string
		s.handed, more = g.mapping.handOn(&s.credentials)
		left = append(left, more...)
	}
	if len(left) > 0 {
		g.logger.Info(eventHeaderLeftOut, zap.Strings("headers", left), zap.String("sub", s.subject()))
	}
	if user := g.mapping.user(s.claims); sendable(user) {
		s.user = user // the same as in headers, or nobody
	}
}

func (g *Gate) idle() time.Duration { return time.Duration(*g.Session.Idle) }

// keyring returns the keys that the configuration names or the storage holds.
func (g *Gate) keyring(ctx context.Context) (*keyring, error) {
	if g.keys != nil {
		return g.keys, nil
	}
	return g.app.sealingKeys(ctx)
}

// keyringFor is keyring with the keys that the cookies of a request name: another
// machine may have sealed them with one that is not known here yet. Who signed in last
// may be under one that is long gone.
func (g *Gate) keyringFor(ctx context.Context, ours []carried) (*keyring, error) {
	ring, err := g.keyring(ctx)
	if err != nil || g.keys != nil {
		return ring, err
	}
	for _, c := range ours {
		if isChunk(c.name) || g.cookies.saysWho(c.name) || len(c.value) <= keyIDLength || ring.byID(c.value[:keyIDLength]) != nil {
			continue
		}
		if ring = g.app.keysWith(ctx, c.value[:keyIDLength]); ring == nil {
			return nil, errNoKeys
		}
	}
	return ring, nil
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
		return nil, tooLarge(s, len(payload))
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
