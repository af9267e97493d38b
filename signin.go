// SPDX-License-Identifier: Apache-2.0

package authentiq

// signin.go is the way to the provider: who is sent there, with what, and what
// the browser keeps meanwhile.

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/oauth2"
)

// challenge answers a request without a session: a page load goes to the
// provider, everything else is told that it has to.
func (g *Gate) challenge(w http.ResponseWriter, r *http.Request, v *visit) error {
	o, ok := g.origin(r)
	if !ok {
		return g.refuse(w, r, *badHost())
	}
	// What did not open is of no use to anybody. Sessions that did open were
	// several; whoever planted his beside the user's may have put it where it
	// can't be deleted from here (a path of its own), so all of them end.
	for _, value := range assemble(g.cookies.of(o, g.Session.Domain), v.cookies) {
		if s, err := g.openSession(r.Context(), g.site(o), value); s != nil && err == nil {
			g.revoke(r, s, reasonSeveral)
		}
	}
	g.dropSession(w, o, v.cookies)
	if !pageLoad(r) || g.Unauthenticated == "deny" {
		return g.unauthenticated(w, r, challengeHeader, pageSignIn)
	}
	if g.callback != nil && o != *g.callback && !g.sharesSession(o) {
		return g.move(w, r, v, o, g.requested(r))
	}
	return g.startSignIn(w, r, v, o, g.requested(r), nil, g.wants)
}

const (
	maxMoves     = 3  // to one address, without a look at another in between
	movedSeconds = 10 // that the cookie is kept, from the last of them
)

// move sends somebody to the origin of callback_url: the state of the sign-in and the
// session live there only. Where the server in front passes another host on than people
// see, he comes back from there as he went, for ever, and so he is told.
func (g *Gate) move(w http.ResponseWriter, r *http.Request, v *visit, o origin, target string) error {
	hash := sha256.Sum256([]byte(target))
	mark, moves := "."+hex.EncodeToString(hash[:8]), 0
	for _, c := range v.cookies {
		count, same := strings.CutSuffix(c.value, mark)
		if c.name == g.cookies.endpointBase()+movedSuffix && same && len(count) == 1 && '0' < count[0] && count[0] <= '0'+maxMoves {
			moves = max(moves, int(count[0]-'0'))
		}
	}
	if moves == maxMoves {
		return g.refuse(w, r, refusal{status: http.StatusBadRequest, check: "host", page: pageBadHost, cause: fmt.Errorf(
			"whoever is sent to %s, as callback_url has it, comes back with %s: the server in front has to pass on the Host that people see, or to say it in X-Forwarded-Host and be one of trusted_proxies", g.callback, o)})
	}
	g.setMoved(w, strconv.Itoa(moves+1)+mark)
	g.logger.Info(eventSignInMoved, zap.String("from", o.String()), zap.String("to", g.callback.String()), clientIP(r), host(r))
	return redirect(w, g.callback.String()+target)
}

// sharesSession reports whether o has the session of callback_url's origin.
func (g *Gate) sharesSession(o origin) bool {
	return g.Session.Domain != "" && o.within(g.Session.Domain)
}

// serveSignIn begins a sign-in because somebody asked for it.
func (g *Gate) serveSignIn(w http.ResponseWriter, r *http.Request, v *visit) error {
	if requestURL(r).RawQuery != "" {
		skipAccessLog(r) // it may say who somebody is
	}
	if r.Method == http.MethodPost {
		return g.serveInitiation(w, r)
	}
	if r.Method != http.MethodGet {
		return methodNotAllowed(w, "GET")
	}
	o, query, refused := g.arrival(r)
	if refused != nil {
		return g.refuse(w, r, *refused)
	}
	// An image on somebody else's page must not use up the slots of sign-ins.
	if !pageLoad(r) {
		return g.unauthenticated(w, r, challengeHeader, pageSignIn)
	}
	if g.callback != nil && o != *g.callback && !g.sharesSession(o) {
		u := requestURL(r)
		return g.move(w, r, v, o, u.EscapedPath()+"?"+query.Encode())
	}
	returnTo := "/"
	if values := query["return_to"]; len(values) == 1 {
		returnTo = g.localPath(values[0])
	}
	if query.Has(issParam) {
		return g.initiate(w, r, v, o, query)
	}
	extra := url.Values{}
	if prompt := prompts[query.Get("again")]; prompt != "" {
		extra.Set("prompt", addPrompt(g.AuthParam["prompt"], prompt))
		if scope, ok := g.openSealed(r, query, purposeScope); ok { // of a gate of this client
			extra.Set("scope", joinScopes(string(scope), g.scopeParam()))
		}
	}
	if query.Get("again") == againOther {
		v.anybody = true
		g.forgetWho(w, o, v.cookies)
	}
	g.passOn(query, extra)
	return g.startSignIn(w, r, v, o, returnTo, extra, g.demandOf(r, query))
}

// prompts are what the page of somebody who may not enter offers: to share what
// is missing, or to come as somebody else (OpenID Connect Core 3.1.2.1).
var prompts = map[string]string{"share": "consent", againOther: "login"}

const againOther = "other"

// passOn copies what a query says and allow_param lets anybody say.
func (g *Gate) passOn(query, extra url.Values) {
	for _, name := range g.AllowParam {
		if values := query[name]; !extra.Has(name) && g.passesOn(name, values) {
			extra.Set(name, values[0])
		}
	}
}

// addPrompt adds a prompt to those that are configured, which nobody's link may
// take away. Only `none` stands alone: it forbids all others.
func addPrompt(configured, prompt string) string {
	words := strings.Fields(configured)
	if slices.Contains(words, "none") {
		words = nil
	}
	if !slices.Contains(words, prompt) {
		words = append(words, prompt)
	}
	return strings.Join(words, " ")
}

// joinScopes adds to first what second has besides, marks aside: a provider may
// not know what to do with a scope that is there twice.
func joinScopes(first, second string) string {
	words := strings.Fields(first)
	for word := range strings.FieldsSeq(second) {
		name, _, _ := strings.Cut(word, "~")
		if !slices.ContainsFunc(words, func(w string) bool { other, _, _ := strings.Cut(w, "~"); return other == name }) {
			words = append(words, word)
		}
	}
	return strings.Join(words, " ")
}

// startSignIn sends somebody to the provider.
func (g *Gate) startSignIn(w http.ResponseWriter, r *http.Request, v *visit, o origin, returnTo string, extra url.Values, d demand) error {
	if why := g.unfit(o); why != "" {
		page := pageInsecure
		if g.Session.Domain != "" && !o.within(g.Session.Domain) {
			page = pageBadHost // https:// would not help
		}
		return g.refuse(w, r, refusal{status: http.StatusBadRequest, check: "origin", cause: errors.New(why), page: page})
	}
	metadata, err := g.provider.Discovered(r.Context())
	if err != nil {
		return g.providerFailed(w, r, err, returnTo)
	}
	if refused := g.cannotAnswer(metadata); refused != nil {
		return g.refuse(w, r, *refused)
	}
	ring, err := g.keyring(r.Context())
	if err != nil {
		return g.unavailable(w, r, err)
	}
	now := g.app.now.Now()
	l := newLogin(now, o, returnTo, d)
	extra = g.hint(ring, o, v, l, extra)
	slot, cookie, err := g.keepLogin(w, ring, o, l, v.cookies, now)
	if err != nil {
		return g.refuse(w, r, refusal{status: http.StatusInternalServerError, check: "sealing", cause: err, page: pageBroken})
	}
	if essential := g.claimsRequest(metadata, &d); essential != "" {
		extra = withParam(extra, "claims", essential)
	}
	address, err := g.authorizationURL(metadata.AuthorizationEndpoint, l, slot, extra)
	if err != nil {
		return g.providerFailed(w, r, err, returnTo)
	}
	g.setCookie(w, o, cookie, int(loginLifetime/time.Second), http.SameSiteLaxMode)
	skipAccessLog(r) // the answer's Location has state and nonce
	g.counts.signInStarted(r)
	g.logger.Info(eventSignInStarted, zap.String("path", requestURL(r).Path), clientIP(r), host(r))
	if r.Method == http.MethodPost { // a response by a form of ours, which has the provider asked again
		return g.goOn(w, r, pageAskedAgain, address)
	}
	return redirect(w, address)
}

// unfit says why nobody can sign in at o, or nothing.
func (g *Gate) unfit(o origin) string {
	switch {
	case g.Session.Domain != "" && !o.within(g.Session.Domain):
		return "session domain does not cover the host that the site was reached by: serve the site under that domain, or give it a session of its own"
	case o.scheme == "http" && !o.loopback() && !g.InsecureHTTP:
		return "the site was reached over plain http: serve it over https, list the proxy that ends TLS in trusted_proxies, or set callback_url; insecure_http allows it as it is"
	case o.scheme == "http" && g.Session.SameSite == "none":
		return "browsers take cookies with same_site none only over https"
	default:
		return ""
	}
}

// authorizationURL makes the authorization request (OpenID Connect Core
// 3.1.2.1, RFC 7636 section 4.3), each parameter once.
func (g *Gate) authorizationURL(endpoint string, l *login, slot int, extra url.Values) (string, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return "", err
	}
	q := u.Query()
	for _, name := range flowParams { // an endpoint's own query does not say them
		q.Del(name)
	}
	for name, value := range g.AuthParam {
		q.Set(name, value)
	}
	for name, values := range extra {
		q[name] = values
	}
	l.demand.ask(q)
	g.askForResponse(q)
	q.Set("client_id", g.ClientID)
	q.Set("redirect_uri", g.redirectURI(l.origin))
	if !extra.Has("scope") {
		q.Set("scope", g.scopeParam())
	}
	q.Set("state", l.stateParam(slot))
	q.Set("nonce", l.nonceParam())
	q.Set("code_challenge", oauth2.S256ChallengeFromVerifier(l.codeVerifier()))
	q.Set("code_challenge_method", "S256")
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// scopeParam is the scope as the provider understands it.
func (g *Gate) scopeParam() string {
	if g.Dialect == dialectAuthentiq {
		return g.scopes.AsWritten()
	}
	return g.scopes.Bare()
}

// redirectURI is where the provider sends people back to who began at o.
func (g *Gate) redirectURI(o origin) string {
	if g.CallbackURL != "" {
		return g.CallbackURL
	}
	return o.String() + g.routes.callback
}

// keepLogin seals l into a slot: a free one at random, or that of the sign-in
// which has waited longest. Slots bound how many cookies a browser carries; old
// ones go too when all together would be too large for a request.
func (g *Gate) keepLogin(w http.ResponseWriter, ring *keyring, o origin, l *login, ours []carried, now time.Time) (int, carried, error) {
	binding := g.binding(purposeLogin, g.site(o))
	value, err := ring.sealing().seal(purposeLogin, binding, l.encode(), 1)
	if err == nil && len(value) > maxLogin {
		l.returnTo = "/"
		value, err = ring.sealing().seal(purposeLogin, binding, l.encode(), 1)
	}
	if err != nil {
		return 0, carried{}, err
	}
	under := g.loginsUnderWay(ring, o, ours, now)
	// Pages that load together don't see one another's cookies, so that no budget
	// can be kept then; that only one slot takes long ones keeps them small.
	slot := longSlot
	if len(value) <= shortLogin {
		slot = under.pick()
	}
	cookie := carried{g.cookies.of(o, g.Session.Domain) + loginInfix + strconv.Itoa(slot), value}
	under.size[slot] = len(cookie.name) + len(value)
	g.trimLogins(w, o, under, slot)
	return slot, cookie, nil
}

// slots are the sign-ins under way in a browser.
type slots struct {
	size    [loginSlots]int   // in bytes; 0 is free
	started [loginSlots]int64 // 0 for what does not open or is over
}

func (g *Gate) loginsUnderWay(ring *keyring, o origin, ours []carried, now time.Time) (under slots) {
	base := g.cookies.of(o, g.Session.Domain) + loginInfix
	binding := g.binding(purposeLogin, g.site(o))
	for _, c := range ours {
		rest, ok := strings.CutPrefix(c.name, base)
		if !ok || len(rest) != 1 {
			continue
		}
		slot := int(rest[0] - '0')
		under.size[slot] += len(c.name) + len(c.value)
		if payload, ok := ring.open(purposeLogin, binding, c.value, 1); ok {
			if old, err := decodeLogin(payload); err == nil && old.live(now) {
				under.started[slot] = max(under.started[slot], old.started)
			}
		}
	}
	return under
}

// trimLogins deletes the oldest until what is left fits the budget, but not
// keep.
func (g *Gate) trimLogins(w http.ResponseWriter, o origin, under slots, keep int) {
	base := g.cookies.of(o, g.Session.Domain) + loginInfix
	for {
		total, oldest := 0, -1
		for i, size := range under.size {
			total += size
			if i != keep && size > 0 && (oldest < 0 || under.started[i] < under.started[oldest]) {
				oldest = i
			}
		}
		if total <= loginBudget || oldest < 0 {
			return
		}
		under.size[oldest] = 0
		g.setCookie(w, o, carried{name: base + strconv.Itoa(oldest)}, 0, http.SameSiteLaxMode)
	}
}

// pick chooses a free slot at random, because tabs that start together see the
// same ones; that of the long ones only when no other is free, or it would be
// taken away by the next of them.
func (s *slots) pick() int {
	var free []int
	oldest := 0
	for i := range s.size {
		if s.size[i] == 0 && i != longSlot {
			free = append(free, i)
		}
		if s.started[i] < s.started[oldest] {
			oldest = i
		}
	}
	switch {
	case len(free) > 0:
		return free[int(randomBytes(1)[0])%len(free)]
	case s.size[longSlot] == 0:
		return longSlot
	default:
		return oldest
	}
}
