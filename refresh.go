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
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
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
	storeKind       = "refresh"
)

// refreshes are those under way on this machine and what they have brought. They
// outlive configurations.
type refreshes struct {
	mu      sync.Mutex
	flights map[string]*refreshFlight     // by session id; tokens on their way back by another name
	resting map[string]time.Time          // until when, by provider and client
	odd     *lru.Cache[string, time.Time] // the same, by session id
	newest  *lru.Cache[string, *session]
}

type refreshFlight struct {
	done     chan struct{}
	patience context.Context // ends when nobody waits any longer
	outcome
}

// outcome is what a refresh has brought: the session's next generation; or that
// the session has ended; or neither, and it goes on as it was.
type outcome struct {
	next  *session
	ended bool
}

func newRefreshes() *refreshes {
	newest, err := lru.New[string, *session](cacheSize)
	if err != nil {
		panic(err) // only for a size that is no size
	}
	odd, err := lru.New[string, time.Time](cacheSize)
	if err != nil {
		panic(err)
	}
	return &refreshes{flights: make(map[string]*refreshFlight), resting: make(map[string]time.Time), odd: odd, newest: newest}
}

// after returns the newest generation that is known here if it is newer than s.
func (f *refreshes) after(s *session) *session {
	if next, ok := f.newest.Get(s.id); ok && next.generation > s.generation {
		return next
	}
	return nil
}

// keep remembers s as the newest generation, if it is.
func (f *refreshes) keep(s *session) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if known, ok := f.newest.Peek(s.id); !ok || known.generation < s.generation {
		f.newest.Add(s.id, s)
	}
}

// once runs refresh for a session unless that is under way already, and waits for
// its outcome. It goes on when the requests that wait for it have lost patience.
func (f *refreshes) once(ctx context.Context, id string, refresh func() outcome) outcome {
	flight := f.begin(id, refresh)
	select {
	case <-flight.done:
		return flight.outcome
	case <-flight.patience.Done():
	case <-ctx.Done():
	}
	return outcome{}
}

// begin runs refresh in the background unless one by that name is under way.
func (f *refreshes) begin(id string, refresh func() outcome) *refreshFlight {
	f.mu.Lock()
	defer f.mu.Unlock()
	flight, under := f.flights[id]
	if !under {
		patience, cancel := context.WithTimeout(context.Background(), refreshPatience)
		flight = &refreshFlight{done: make(chan struct{}), patience: patience}
		f.flights[id] = flight
		go func() {
			defer cancel()
			defer close(flight.done)
			defer func() {
				f.mu.Lock()
				delete(f.flights, id)
				f.mu.Unlock()
			}()
			flight.outcome = refresh()
		}()
	}
	return flight
}

// settle waits for those under way: what they bring must not be lost.
func (f *refreshes) settle() {
	for range 3 { // what is still served may begin others meanwhile
		f.mu.Lock()
		flights := slices.Collect(maps.Values(f.flights))
		f.mu.Unlock()
		for _, flight := range flights {
			<-flight.done
		}
	}
}

// mayAsk reports whether a provider may be asked about a session now. After a call
// that failed for all, one session asks for all, now and then, until that goes
// well; one that failed for a session alone is asked about that one seldom.
func (f *refreshes) mayAsk(who, id string, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if until, ok := f.odd.Get(id); ok {
		if left := until.Sub(now); 0 < left && left <= refreshRest {
			return false
		}
	}
	until, failing := f.resting[who]
	if left := until.Sub(now); failing && 0 < left && left <= refreshRest {
		return false
	}
	if failing {
		f.resting[who] = now.Add(refreshRest)
	}
	return true
}

func (f *refreshes) rest(who string, until time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.resting[who] = until
}

func (f *refreshes) restAlone(id string, until time.Time) { f.odd.Add(id, until) }

func (f *refreshes) answered(who string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.resting, who)
}

// due reports whether the provider has to vouch for s again.
func (g *Gate) due(s *session) bool {
	age := g.app.now.Now().Unix() - s.checked
	return g.Session.Refresh == "on" && (age >= int64(time.Duration(g.Session.Recheck)/time.Second) || age < -maxAhead)
}

// recheck returns s as the provider has last vouched for it, or nil if it no
// longer does. Whoever is signed in stays so while the provider can't be asked.
func (g *Gate) recheck(r *http.Request, s *session) *session {
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
	ctx := r.Context() // now: who passes on changes the request
	got := all.once(ctx, s.id, func() (got outcome) {
		// An answer that breaks us must not end Caddy, as it would outside a request.
		defer func() {
			if cause := recover(); cause != nil {
				got = g.postpone(s, "panic", fmt.Errorf("%v\n%s", cause, debug.Stack()))
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
	key := g.storeKey(s)
	unlock, err := g.store.Lock(ctx, key)
	if err != nil {
		// Without the lock another machine could spend the same token.
		g.restAll()
		return g.postpone(s, "store", err)
	}
	defer unlock()
	known, err := g.loadGeneration(ctx, g.store, site, key)
	if err != nil {
		return g.postpone(s, "store", err)
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
		return g.postpone(s, "refresh", err)
	}
	g.app.state.refreshes.answered(g.clientKey())
	next := *s
	next.identity, next.user = nil, "" // whoever adopts it presents it
	next.generation++
	next.grant.refresh = cmp.Or(tokens.Refresh, s.grant.refresh)
	c, err := g.claimsAnew(ctx, s, tokens)
	if refusesSession(err) {
		return g.end(ctx, key, s, "claims", err)
	}
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
		g.giveBack(ctx, site, &next)
		return g.end(ctx, key, s, "signed out", nil)
	}
	if err != nil {
		g.postpone(s, "claims", err)
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
		found, err = g.verifier(m).Verify(ctx, tokens.ID, idtoken.Expect{
			Nonce: s.grant.nonce, AccessToken: tokens.Access, Earlier: &idtoken.Earlier{Claims: s.claims, Issued: s.began},
		})
		if err != nil {
			return nil, err
		}
	}
	switch {
	case m.UserinfoEndpoint != "" && g.lacks(found, s):
		more, err := g.provider.Userinfo(ctx, tokens.Access, s.subject())
		if err != nil {
			return nil, err
		}
		found = merge(found, more)
	case tokens.ID == "":
		found = s.claims // the provider knows the user still, and says no more of him
	}
	c := g.keep.of(found)
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
func (g *Gate) postpone(s *session, check string, cause error) outcome {
	g.app.state.refreshes.restAlone(s.id, g.app.now.Now().Add(refreshRest))
	if failsForAll(cause) {
		g.restAll()
	}
	g.logger.Error(eventNotRechecked, zap.String("check", check), zap.Error(cause), zap.String("sub", s.subject()), zap.String("effect", "sessions go on with the claims that they have"))
	return outcome{}
}

// storeKey names what the store has of s. The name is a hash: who may list the
// store learns nothing of sessions.
func (g *Gate) storeKey(s *session) store.Key {
	sum := sha256.Sum256([]byte(g.binding(purposeRefresh, "") + s.id))
	return store.Key{Kind: storeKind, Name: hex.EncodeToString(sum[:16]), Until: time.Unix(s.expires, 0)}
}

// loadGeneration returns the generation that is stored, or nil if there is none
// that can be used.
func (g *Gate) loadGeneration(ctx context.Context, from store.Store, site string, key store.Key) (*session, error) {
	value, err := from.Load(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	payload, ok, err := g.open(ctx, purposeRefresh, site, string(value), 1)
	if err != nil || !ok {
		return nil, err
	}
	s, err := decodeSession(payload)
	if err != nil {
		return nil, nil
	}
	return s, nil
}

// saveGeneration stores s with its refresh token.
func (g *Gate) saveGeneration(ctx context.Context, site string, key store.Key, s *session) error {
	ring, err := g.keyring(ctx)
	if err != nil {
		return err
	}
	whole := *s
	whole.grant.stored = false
	payload, err := whole.encode()
	if err != nil {
		return err
	}
	value, err := ring.sealing().seal(purposeRefresh, g.binding(purposeRefresh, site), payload, 1)
	if err != nil {
		return err
	}
	return g.store.Save(ctx, key, []byte(value))
}
