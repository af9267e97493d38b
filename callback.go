// SPDX-License-Identifier: Apache-2.0

package authentiq

// callback.go is the way back from the provider: the authorization response is
// checked, redeemed and made into a session.

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/authentiq/caddy-authentiq/internal/claims"
	"github.com/authentiq/caddy-authentiq/internal/idtoken"
	"github.com/authentiq/caddy-authentiq/internal/pages"
	"github.com/authentiq/caddy-authentiq/internal/provider"
)

// takeResponse takes an authorization response. It stops at the first check
// that fails, and asks the provider for nothing before all that need not be
// asked have passed.
func (g *Gate) takeResponse(w http.ResponseWriter, r *http.Request, v *visit, o origin, response url.Values) error {
	for _, name := range responseParams {
		if len(response[name]) > 1 { // RFC 6749 section 3.1
			return g.refuse(w, r, refusal{status: http.StatusBadRequest, check: "query", cause: errors.New(name + " is there more than once"), page: pageBroken})
		}
	}
	ring, err := g.keyringFor(r.Context(), v.cookies)
	if err != nil {
		return g.unavailable(w, r, err)
	}
	now := g.app.now.Now()
	l, slotCookie := g.findLogin(ring, o, response.Get("state"), v.cookies)
	if l == nil {
		return g.refuse(w, r, g.withoutLogin(r, v, errNoLogin, "/"))
	}
	g.setCookie(w, o, carried{name: slotCookie}, 0, http.SameSiteLaxMode)
	if !l.live(now) {
		return g.refuse(w, r, refusal{status: http.StatusBadRequest, check: "state", cause: errors.New("expired"), page: pageLate, returnTo: l.returnTo})
	}
	if !g.app.state.spent.spend(l.state, now) {
		return g.refuse(w, r, g.withoutLogin(r, v, errors.New("used before"), l.returnTo))
	}
	s, idToken, refused := g.signIn(r, l, response, now)
	if refused != nil && refused.mayBeHint && l.guess.made != guessNone {
		return g.unguessed(w, r, v, ring, o, l, response.Get("error"))
	}
	if refused == nil {
		if missing := decide(s.claims, g.scopes, g.rules); len(missing) > 0 {
			g.endSession(w, r, o, v, reasonFailed)
			g.rememberWho(w, ring, o, v.cookies, s, loginLifetime, maxChunks*chunkSize) // he may share what is missing
			return g.deny(w, r, s, missing, l.returnTo)
		}
		var cookies []carried
		if cookies, refused = g.firstCookies(r, ring, o, s); refused == nil {
			return g.welcome(w, r, v, ring, o, l, s, cookies, idToken)
		}
	}
	// Whoever was signed in before is not the one who has just tried: going on
	// as him could be what somebody who planted his session is after.
	g.endSession(w, r, o, v, reasonFailed)
	refused.returnTo = l.returnTo
	return g.refuse(w, r, *refused)
}

// findLogin returns the sign-in that a state belongs to, and its cookie's name.
// Without one the response was not asked for by this browser.
func (g *Gate) findLogin(ring *keyring, o origin, state string, ours []carried) (*login, string) {
	if len(state) < 2 || len(state) > 64 || state[0] < '0' || state[0] >= '0'+loginSlots {
		return nil, ""
	}
	name := g.cookies.of(o, g.Session.Domain) + loginInfix + state[:1]
	binding := g.binding(purposeLogin, g.site(o))
	tried := 0
	for _, c := range ours {
		if c.name != name || tried == maxSameName {
			continue
		}
		tried++
		payload, ok := ring.open(purposeLogin, binding, c.value, 1)
		if !ok {
			continue
		}
		l, err := decodeLogin(payload)
		if err == nil && subtle.ConstantTimeCompare([]byte(l.stateParam(int(state[0]-'0'))), []byte(state)) == 1 {
			return l, name
		}
	}
	return nil, ""
}

var errNoLogin = errors.New("no sign-in of this browser waits for it: its cookie did not come along (not kept, another browser or host), does not open (other session keys), or the response was not asked for")

// withoutLogin is the refusal of a response that no sign-in of this browser
// waits for. Mostly another tab was faster, which is good news.
func (g *Gate) withoutLogin(r *http.Request, v *visit, cause error, returnTo string) refusal {
	f := refusal{status: http.StatusBadRequest, check: "state", cause: cause, page: pageNoLogin, returnTo: returnTo}
	if s, err := g.session(r, v); err == nil && s != nil {
		f.page, f.returnTo = pageElsewhere, ""
		f.page.Actions = []pages.Action{{Label: labelGoOn, Address: returnTo}}
	}
	return f
}

// signIn makes a session of an authorization response whose state is ours.
func (g *Gate) signIn(r *http.Request, l *login, response url.Values, now time.Time) (s *session, idToken string, refused *refusal) {
	broken := func(check, why string) *refusal {
		return &refusal{status: http.StatusBadRequest, check: check, cause: errors.New(why), page: pageBroken}
	}
	metadata, err := g.provider.Metadata(r.Context())
	if err != nil {
		return nil, "", providerRefusal(err)
	}
	// RFC 9207 section 2.4: a response of another provider, mixed in to have our
	// code sent to it, tells by its iss.
	if iss, present := response["iss"]; present && iss[0] != g.Issuer {
		return nil, "", broken("iss", "is not the issuer that was asked")
	} else if !present && metadata.ResponseIss && !g.vouchedFor(response) {
		return nil, "", broken("iss", "is missing, and the provider says that it sends it")
	}
	if code, present := response["error"]; present {
		return nil, "", authorizationError(code[0])
	}
	code := response.Get("code")
	if code == "" {
		return nil, "", broken("code", "is missing")
	}
	ctx := context.WithoutCancel(r.Context()) // the code is spent, even if the browser gives up
	verifier := g.verifier(metadata)
	l.demand.add(verifier)
	var front claims.Claims
	if g.frontToken() {
		if front, refused = verifyFront(ctx, verifier, l, response); refused != nil {
			return nil, "", refused
		}
	}
	tokens, err := g.provider.Exchange(ctx, g.client, provider.Grant{
		Code: code, Verifier: l.codeVerifier(), RedirectURI: g.redirectURI(l.origin),
	})
	if err != nil {
		return nil, "", providerRefusal(err)
	}
	verified, signed, err := verifier.VerifySigned(ctx, tokens.ID, idtoken.Expect{Nonce: l.nonceParam(), AccessToken: tokens.Access, Code: code, Direct: metadata.VouchesForTokens()})
	if err != nil {
		return nil, "", l.demand.refusal(err)
	}
	if front != nil && front["sub"] != verified["sub"] { // iss was compared with ours twice
		return nil, "", &refusal{status: http.StatusBadGateway, check: "sub", cause: errTwoUsers, page: pageFailed}
	}
	// The gate that began the sign-in may be another one, which rechecks.
	refreshes := g.Session.Refresh == "on" || l.demand.refresh
	if refreshes && tokens.Refresh == "" {
		return nil, "", &refusal{status: http.StatusBadGateway, check: "refresh_token", cause: errNoRefreshToken, page: pageFailed}
	}
	// Many providers give claims at userinfo only; it is asked when something
	// that has to be there is not, here or at the gate that began the sign-in.
	said, _, err := g.gather(ctx, metadata, verified, nil, tokens.Access, func(c claims.Claims) need { return g.needs(c, &l.demand) })
	if err != nil {
		return nil, "", providerRefusal(err)
	}
	s = newSession(said, g.keep, now, time.Duration(g.Session.Lifetime))
	g.afterOrders(s)
	if refreshes {
		s.grant = grant{refresh: tokens.Refresh, nonce: l.nonceParam()}
	}
	tokens.ID = signed // and not what it was encrypted in
	if s.credentials, err = g.firstCredentials(tokens, &l.demand); err != nil {
		return nil, "", providerRefusal(err)
	}
	return s, signed, nil
}

// verifyFront checks the ID token that came with a code, for the code's sake: nobody
// redeems one that the provider does not vouch for. Who the user is, is taken from the
// token that the code gives (OpenID Connect Core 3.3.3.6).
func verifyFront(ctx context.Context, verifier *idtoken.Verifier, l *login, response url.Values) (claims.Claims, *refusal) {
	if response.Get("id_token") == "" {
		return nil, &refusal{status: http.StatusBadRequest, check: "id_token", cause: errNoFrontToken, page: pageBroken}
	}
	c, err := verifier.Verify(ctx, response.Get("id_token"), idtoken.Expect{Nonce: l.nonceParam(), Code: response.Get("code"), Front: true})
	if err == nil {
		return c, nil
	}
	f := l.demand.refusal(err)
	if f.status == http.StatusBadGateway { // it came through the browser, by whoever's hands
		f.status, f.page = http.StatusBadRequest, pageBroken
	}
	f.cause = fmt.Errorf("beside the code: %w", f.cause)
	return nil, f
}

var (
	errNoFrontToken = errors.New("is missing beside the code, and response_type is code id_token: the provider does not give it to this client, or somebody has taken it away")
	errTwoUsers     = errors.New("ID token: sub: is another one than in the ID token that came with the code")
)

var errNoRefreshToken = errors.New("the provider sent no refresh token, and session refresh is on: most send one for `scope … offline_access`, some with `auth_param prompt consent` or `auth_param access_type offline`; or turn refresh off")

// firstCookies returns the cookies of a session that begins. One whose refresh
// token is too large for them needs the store from the start.
func (g *Gate) firstCookies(r *http.Request, ring *keyring, o origin, s *session) ([]carried, *refusal) {
	// With its times as long as they get, so that what fits now does so later: only
	// what a refresh brings is in the store.
	longest := *s
	longest.seen, longest.checked = s.expires, s.expires
	_, stored, refused := g.carry(ring, o, &longest)
	if refused != nil {
		return nil, refused
	}
	if !stored {
		cookies, _, refused := g.carry(ring, o, s)
		return cookies, refused
	}
	ctx, cancel := context.WithTimeout(r.Context(), storePatience)
	defer cancel()
	if err := g.saveGeneration(ctx, g.site(o), g.storeKey(s), s); err != nil {
		return nil, &refusal{status: http.StatusServiceUnavailable, check: "store", cause: err, page: pageDown}
	}
	return g.sealSession(ring, o, s.light())
}

// welcome hands over the new session and sends the user to where he wanted to
// go. The session that the browser had before ends: a sign-in never goes on
// with one that somebody else may know.
func (g *Gate) welcome(w http.ResponseWriter, r *http.Request, v *visit, ring *keyring, o origin, l *login, s *session, cookies []carried, idToken string) error {
	g.revokeCarried(r, o, v, reasonAnew, s.subject())
	lifetime := int(time.Duration(g.Session.Lifetime) / time.Second)
	for _, c := range cookies {
		g.setCookie(w, o, c, lifetime, g.sameSite())
	}
	g.dropSession(w, o, v.cookies, cookies...)
	// Our own endpoints get the hint besides the session, in one request header.
	room := maxChunks*chunkSize - size(cookies)
	room -= g.rememberWho(w, ring, o, v.cookies, s, time.Duration(g.Session.Lifetime)+whoAfter, room)
	if hint, ok := g.sealHint(ring, o, idToken); ok && len(hint.value) <= room {
		g.setCookie(w, o, hint, lifetime, http.SameSiteLaxMode)
	} else {
		g.dropHint(w, o, v.cookies)
	}
	// Nor is there room for what a sign-out left that did not come back.
	back := g.cookies.atEndpoints(o, returnSuffix)
	if slices.ContainsFunc(v.cookies, func(c carried) bool { return c.name == back }) {
		g.setCookie(w, o, carried{name: back}, 0, http.SameSiteLaxMode)
	}
	g.trimLogins(w, o, g.loginsUnderWay(ring, o, v.cookies, g.app.now.Now()), -1)
	g.counts.signedIn(r)
	g.logger.Info(eventSignIn, zap.String("sub", s.subject()), zap.String("sid", s.claims.String("sid")), clientIP(r), host(r))

	return g.goOn(w, r, pageOnward, l.target(o))
}

// goOn sends on who has come back from the provider. Its page led here, so the browser
// would hold a strict cookie back from a redirect; a page of ours that goes on is
// same-site. And where our form led here, the policy of its page would hold for all
// redirects after it.
func (g *Gate) goOn(w http.ResponseWriter, r *http.Request, page pages.Page, target string) error {
	if g.Session.SameSite != "strict" && r.Method != http.MethodPost {
		return redirect(w, target)
	}
	page.Onward, page.Actions = target, []pages.Action{{Label: labelGoOn, Address: target}}
	return pages.Write(w, r, http.StatusOK, page)
}
