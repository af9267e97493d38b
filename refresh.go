// SPDX-License-Identifier: Apache-2.0

package authentiq

// refresh.go asks the provider again, with the refresh token, whether a signed-in
// user still is who he was.
//
// Many providers take a refresh token once and end everything when they see it
// again. But a browser sends many requests at once, with one cookie, to whichever
// machine, and late ones with a cookie of before. So one request refreshes for
// all, and what it got is kept until the session ends: here, and sealed in the
// store for other machines and for after a restart.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/authentiq/caddy-authentiq/internal/claims"
	"github.com/authentiq/caddy-authentiq/internal/idtoken"
	"github.com/authentiq/caddy-authentiq/internal/provider"
	"github.com/authentiq/caddy-authentiq/internal/store"
)

const (
	refreshTimeout  = 30 * time.Second // for one refresh, lock and all calls
	refreshPatience = 5 * time.Second  // that requests wait for one, from its beginning
	refreshRest     = 10 * time.Second // after one that failed, for all sessions of the provider
	storePatience   = 5 * time.Second  // that a sign-in waits for the store, and what a sign-out leaves to do
)

// due reports whether the provider has to vouch for s again.
func (g *Gate) due(s *session) bool {
	age := g.app.now.Now().Unix() - s.checked
	return g.Session.Refresh == "on" && (age >= int64(time.Duration(g.Session.Recheck)/time.Second) || age < -maxAhead || g.hasNothingToHandOn(s))
}

// recheck returns s as the provider has last vouched for it, or nil if it no
// longer does. Whoever is signed in stays so while the provider can't be asked.
func (g *Gate) recheck(r *http.Request, v *visit, s *session) *session {
	if !g.due(s) {
		return s
	}
	all := g.app.state.refreshes
	if next := all.after(s); next != nil {
		if s = g.adopt(s, next); !g.due(s) {
			return s
		}
	}
	o, ok := g.origin(r)
	if !ok || !all.mayAsk(g.clientKey(), s.id, g.app.now.Now()) {
		return s
	}
	v.waited = true
	ctx := r.Context() // now: who passes on changes the request
	got := all.once(ctx, s.id, func() (got outcome) {
		// An answer that breaks us must not end Caddy, as it would outside a request.
		defer func() {
			if cause := recover(); cause != nil {
				got = g.postpone(ctx, s, "panic", fmt.Errorf("%v\n%s", cause, debug.Stack()))
			}
		}()
		// Whoever asked may hang up; the token is spent all the same.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refreshTimeout)
		defer cancel()
		return g.refresh(ctx, g.site(o), s)
	})
	switch {
	case got.ended || g.revoked(s): // signed out while this waited
		return nil
	case got.next != nil:
		return g.adopt(s, got.next)
	default:
		return s
	}
}

func (g *Gate) clientKey() string { return g.Issuer + " " + g.ClientID }

// adopt returns the later generation next of s, as this gate presents it. What
// is shared stays as it is.
func (g *Gate) adopt(s, next *session) *session {
	adopted := *next
	adopted.seen, adopted.instead = max(s.seen, next.seen), cmp.Or(s.instead, s)
	g.present(&adopted)
	return &adopted
}

// refresh gets the next generation of s.
func (g *Gate) refresh(ctx context.Context, site string, s *session) outcome {
	ctx, span := startSpan(ctx, spanRefresh, trace.SpanKindInternal)
	defer span.End()
	key := g.storeKey(s)
	unlock, err := g.store.Lock(ctx, key)
	if err != nil {
		// Without the lock another machine could spend the same token.
		g.restAll()
		return g.postpone(ctx, s, "store", err)
	}
	defer unlock()
	known, err := g.loadGeneration(ctx, g.store, site, key)
	if err != nil {
		return g.postpone(ctx, s, "store", err)
	}
	if here, ok := g.app.state.refreshes.newest.Get(s.id); ok && (known == nil || known.generation < here.generation) {
		known = here // it could not be stored
	}
	// An older generation's token is spent.
	if known != nil && known.id == s.id && (known.generation > s.generation || s.grant.stored && known.generation == s.generation) {
		if !g.due(known) {
			g.app.state.refreshes.keep(known)
			return outcome{next: known}
		}
		s = known
	}
	if s.grant.refresh == "" {
		return g.end(ctx, key, s, "no refresh token", errGrantGone)
	}
	tokens, err := g.provider.Refresh(ctx, g.client, s.grant.refresh)
	var failed *provider.Error
	if errors.As(err, &failed) && failed.Code == "invalid_grant" && !failed.Unreachable {
		g.app.state.refreshes.answered(g.clientKey())
		return g.end(ctx, key, s, "invalid_grant", err)
	}
	if refusesSession(err) {
		return g.end(ctx, key, s, "id_token", err)
	}
	if err != nil {
		return g.postpone(ctx, s, "refresh", err)
	}
	g.app.state.refreshes.answered(g.clientKey())
	next := *s
	next.identity, next.user, next.handed = nil, "", nil // whoever adopts it presents it
	next.generation++
	next.grant.refresh = cmp.Or(tokens.Refresh, s.grant.refresh)
	c, err := g.claimsAnew(ctx, s, tokens)
	if refusesSession(err) {
		return g.end(ctx, key, s, "claims", err)
	}
	next.credentials = g.credentialsAnew(&s.credentials, tokens, err == nil)
	if err == nil {
		next.claims, next.checked = c, g.app.now.Now().Unix()
	}
	// The token is another one now, whatever became of the claims.
	g.app.state.refreshes.keep(&next)
	if err := g.saveGeneration(ctx, site, key, &next); err != nil {
		g.logger.Error(eventStoreTrouble, zap.Error(err), zap.String("effect", "other machines, and this one after a restart, may end this session"))
	}
	if g.revoked(&next) {
		// Signed out meanwhile, maybe at another machine, which could not know the new
		// token.
		g.giveBack(ctx, site, &next, "")
		return g.end(ctx, key, s, "signed out", nil)
	}
	if err != nil {
		g.postpone(ctx, s, "claims", err)
	} else {
		g.counts.refreshEnded(ctx, resultRenewed, "")
	}
	return outcome{next: &next}
}

var errGrantGone = errors.New("the session began at a gate without refresh, or before it was turned on; or the store has lost what it had of it")

// claimsAnew returns what the provider now says of the user of s.
func (g *Gate) claimsAnew(ctx context.Context, s *session, tokens *provider.Tokens) (claims.Claims, error) {
	m, err := g.provider.Metadata(ctx)
	if err != nil {
		return nil, err
	}
	found := claims.Claims{"sub": s.claims["sub"]}
	if tokens.ID != "" {
		// From here on the token is the signed one, whatever it was encrypted in.
		found, tokens.ID, err = g.verifier(m).VerifySigned(ctx, tokens.ID, idtoken.Expect{
			Nonce: s.grant.nonce, AccessToken: tokens.Access, Earlier: &idtoken.Earlier{Claims: s.claims, Issued: s.began}, Direct: m.VouchesForTokens(),
		})
		if err != nil {
			return nil, err
		}
	}
	said, asked, err := g.gather(ctx, m, found, s.claims, tokens.Access, func(c claims.Claims) need { return g.needsAnew(c, s) })
	if err != nil {
		return nil, err
	}
	if tokens.ID == "" && !asked {
		said = s.claims // the provider knows the user still, and says no more of him
	}
	c := g.keep.of(said)
	for _, name := range signInClaims {
		if before, there := s.claims[name]; there {
			c[name] = before
		} else {
			delete(c, name)
		}
	}
	return c, nil
}

// signInClaims are about the sign-in, which stays the one that it was.
var signInClaims = []string{"sid", "auth_time", "acr", "amr"}

// lacks reports whether something is missing from a new ID token that was there
// before, or that is required: userinfo then says whether it is gone.
func (g *Gate) lacks(found claims.Claims, s *session) bool {
	for name := range s.claims {
		if _, there := found[name]; !there && !isSignInClaim(name) {
			return true
		}
	}
	return len(decide(found, g.scopes, g.rules)) > 0
}

func isSignInClaim(name string) bool {
	for _, other := range signInClaims {
		if name == other {
			return true
		}
	}
	return false
}

// refusesSession tells an answer that is of another user, or can't be believed,
// from one that did not come.
func refusesSession(err error) bool {
	if errors.Is(err, provider.ErrOtherUser) || errors.Is(err, provider.ErrOddIDToken) {
		return true
	}
	var token *idtoken.Error
	return errors.As(err, &token) && !errors.Is(err, idtoken.ErrKeysStale)
}

// end ends s: the provider no longer vouches for its user.
func (g *Gate) end(ctx context.Context, key store.Key, s *session, check string, cause error) outcome {
	if err := g.revokeSession(ctx, s); err != nil {
		g.logger.Error(eventSessionEnded, zap.Error(err))
	}
	if err := g.store.Delete(ctx, key); err != nil {
		g.logger.Warn(eventStoreTrouble, zap.Error(err), zap.String("effect", "what is left of a session that has ended stays there until its time is over"))
	}
	g.counts.refreshEnded(ctx, resultEnded, check)
	g.logger.Info(eventSessionEnded, zap.String("check", check), zap.Error(cause), zap.String("sub", s.subject()), zap.String("sid", s.claims.String("sid")))
	return outcome{ended: true}
}

// restAll asks for nobody for a while.
func (g *Gate) restAll() {
	g.app.state.refreshes.rest(g.clientKey(), g.app.now.Now().Add(refreshRest))
}

// failsForAll tells a provider that is away, or knows this client no more, from
// one that has an odd answer for one user: his must not keep it from being asked
// about others.
func failsForAll(err error) bool {
	var failed *provider.Error
	if !errors.As(err, &failed) {
		return false
	}
	return failed.Unreachable ||
		failed.Op == "refresh" && (failed.Code == "" || failed.Status >= 500 || failed.Code == "invalid_client" || failed.Code == "unauthorized_client")
}

// postpone leaves s as it is, and does not ask again for a while.
func (g *Gate) postpone(ctx context.Context, s *session, check string, cause error) outcome {
	g.app.state.refreshes.restAlone(s.id, g.app.now.Now().Add(refreshRest))
	if failsForAll(cause) {
		g.restAll()
	}
	g.counts.refreshEnded(ctx, resultFailed, check)
	g.logger.Error(eventNotRechecked, zap.String("check", check), zap.Error(cause), zap.String("sub", s.subject()), zap.String("effect", "sessions go on with the claims that they have"))
	return outcome{}
}
