// SPDX-License-Identifier: Apache-2.0

package authentiq

// signout.go is the journey out: here, where a session lives in a cookie of
// which there may be copies, so that ending it means remembering that it ended,
// and at the provider.

import (
	"bytes"
	"compress/flate"
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"io"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/authentiq/caddy-authentiq/internal/idtoken"
	"github.com/authentiq/caddy-authentiq/internal/pages"
)

// serveSignOut ends the session, if the user meant it: a request that a page of
// this site made. Otherwise a page asks, or a link on any page of the web could
// sign people out.
func (g *Gate) serveSignOut(w http.ResponseWriter, r *http.Request, v *visit) error {
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		return methodNotAllowed(w, "GET, POST")
	}
	o, query, refused := g.arrival(r)
	if refused != nil {
		return g.refuse(w, r, *refused)
	}
	returnTo := ""
	if values := query["return_to"]; len(values) == 1 {
		returnTo = g.localPath(values[0])
	}
	if !sameOrigin(r, o) || r.Method == http.MethodGet && !pageLoad(r) {
		return g.askSignOut(w, r, returnTo)
	}
	ring, err := g.keyringFor(r.Context(), v.cookies)
	if err != nil {
		return g.unavailable(w, r, err) // a session that can't be told can't be ended for its copies
	}
	target, at := g.endSessionAtProvider(ring, r, o, v), g.signedOutAt(o)
	if target == nil {
		target, at = &url.URL{Path: g.signedOutPath()}, o
	}
	if returnTo != "" || at != o {
		if state, cookie, ok := g.sealReturn(ring, at, o, returnTo); ok {
			g.setCookie(w, at, cookie, int(loginLifetime/time.Second), http.SameSiteLaxMode)
			q := target.Query()
			q.Set("state", state)
			target.RawQuery = q.Encode()
		}
	}
	g.endSession(w, r, o, v, reasonAsked)
	g.forgetWho(w, o, v.cookies) // whoever comes next need not know
	clearCache(w)
	skipAccessLog(r) // the answer's Location has the ID token
	return redirect(w, target.String())
}

func (g *Gate) askSignOut(w http.ResponseWriter, r *http.Request, returnTo string) error {
	page := pageAskSignOut
	page.Actions = []pages.Action{
		{Label: labelSignOut, Address: g.PathPrefix + "/sign-out" + returnQuery(returnTo), Post: true},
		{Label: labelStay, Address: "/"},
	}
	// A browser holds every redirect after a form against form-action too: to the
	// provider, and from there to where it sends people back.
	if g.callback != nil {
		page.FormTargets = append(page.FormTargets, g.callback.String())
	}
	if m, err := g.provider.Metadata(r.Context()); err == nil && m.EndSessionEndpoint != "" {
		if u, err := url.Parse(m.EndSessionEndpoint); err == nil {
			// Nothing but a plain origin gets into the policy.
			if o, ok := newOrigin(u.Scheme, u.Host); ok {
				page.FormTargets = append(page.FormTargets, o.String())
			}
		}
	}
	return pages.Write(w, r, http.StatusOK, page)
}

// endSessionAtProvider returns the address that signs out there (OpenID Connect
// RP-Initiated Logout 1.0 section 2). It is nil if there is nobody to sign out,
// or the provider has no such endpoint or is away: signing out here must not
// wait.
func (g *Gate) endSessionAtProvider(ring *keyring, r *http.Request, o origin, v *visit) *url.URL {
	hint := g.openHint(ring, o, v.cookies)
	if s, err := g.session(r, v); hint == "" && (err != nil || s == nil) {
		return nil
	}
	m, err := g.provider.Discovered(r.Context())
	if err != nil || m.EndSessionEndpoint == "" {
		return nil
	}
	u, err := url.Parse(m.EndSessionEndpoint)
	if err != nil {
		return nil
	}
	q := u.Query()
	q.Set("client_id", g.ClientID)
	q.Set("post_logout_redirect_uri", g.signedOutAt(o).String()+g.signedOutPath())
	// A provider that can't verify its own token any more may show an error and
	// sign nobody out; without a hint it asks.
	if hint != "" && !g.provider.Disowns(hint) {
		q.Set("id_token_hint", hint)
	}
	u.RawQuery = q.Encode()
	return u
}

// signedOutAt is the origin that the provider sends people back to: that of
// callback_url for all hosts which share its session, so that one address is
// enough to register.
func (g *Gate) signedOutAt(o origin) origin {
	if g.callback != nil && g.sharesSession(o) {
		return *g.callback
	}
	return o
}

// endSession ends the session that the request carries, for every copy of its
// cookie too.
func (g *Gate) endSession(w http.ResponseWriter, r *http.Request, o origin, v *visit, reason string) {
	g.revokeCarried(r, o, v, reason, "")
	g.dropSession(w, o, v.cookies)
	g.dropHint(w, o, v.cookies)
}

// dropHint deletes the hint that the request carried. A callback outside
// path_prefix gets none and can't tell whether there is one.
func (g *Gate) dropHint(w http.ResponseWriter, o origin, ours []carried) {
	name := g.cookies.atEndpoints(o, hintSuffix)
	unseen := !strings.HasPrefix(g.routes.callback, g.PathPrefix+"/")
	if unseen || slices.ContainsFunc(ours, func(c carried) bool { return c.name == name }) {
		g.setCookie(w, o, carried{name: name}, 0, http.SameSiteLaxMode)
	}
}

// revokeCarried revokes every session that the request's cookies open to.
//
// Those are all that open, also one whose user was away for too long: a copy of
// its cookie may have been kept alive. heir is who has a new session in their place.
func (g *Gate) revokeCarried(r *http.Request, o origin, v *visit, reason, heir string) {
	for s := range g.carriedSessions(r, o, v) {
		g.revokeFor(heir, r, s, reason)
	}
}

// carriedSessions are those that have not ended, looked at one by one: two cookies
// may hold the same.
func (g *Gate) carriedSessions(r *http.Request, o origin, v *visit) iter.Seq[*session] {
	return func(yield func(*session) bool) {
		for _, value := range assemble(g.cookies.of(o, g.Session.Domain), v.cookies) {
			s, err := g.unseal(r.Context(), g.site(o), value)
			if err != nil || s == nil || s.expires <= g.app.now.Now().Unix() || g.revoked(s) {
				continue
			}
			if !yield(s) {
				return
			}
		}
	}
}

// revoke ends s for every copy of its cookie.
func (g *Gate) revoke(r *http.Request, s *session, reason string) { g.revokeFor("", r, s, reason) }

// revokeFor is revoke where a session of heir takes the place of s.
func (g *Gate) revokeFor(heir string, r *http.Request, s *session, reason string) {
	if err := g.revokeSession(context.WithoutCancel(r.Context()), s); err != nil {
		g.logger.Error(eventSignOut, zap.Error(err), zap.String("sub", s.subject()), zap.String("effect", "he is signed out at this machine, and at others as soon as the store can be written to"))
	}
	if o, ok := g.origin(r); ok && (s.grant.there() || s.credentials.access != "") {
		g.giveBack(r.Context(), g.site(o), s, heir)
	}
	g.counts.signedOut(r, reason)
	g.logger.Info(eventSignOut, zap.String("sub", s.subject()), zap.String("sid", s.claims.String("sid")), zap.String("reason", reason), clientIP(r), host(r))
}

// signedOutPath is where a sign-out ends: the provider sends people back to it.
func (g *Gate) signedOutPath() string { return g.PathPrefix + "/signed-out" }

// clearParam says that the signed-out page comes for the second time.
const clearParam = "clear"

// serveSignedOut shows that somebody is signed out, at the origin where he was
// signed in, and goes on to where he wanted to go.
//
// A browser puts the page that somebody signed out on aside, for its back
// button, only when the next one shows: after all redirects, and what they said
// of the cache. And it clears the cache of the origin alone that says so. So this
// page shows first, there, and then has it cleared.
func (g *Gate) serveSignedOut(w http.ResponseWriter, r *http.Request, v *visit) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return methodNotAllowed(w, "GET, HEAD")
	}
	if requestURL(r).RawQuery != "" {
		skipAccessLog(r) // it has the state
	}
	o, known := g.origin(r)
	query, readable := parseQuery(r)
	if !readable {
		query = nil
	}
	again := query.Has(clearParam)
	page := pageSignedOut
	page.Actions = []pages.Action{{Label: labelSignInAgain, Address: g.signInPath(r, "/")}}
	onward := g.signedOutPath() + "?" + clearParam
	var back *wayBack
	if known {
		back = g.openReturn(r, o, v, query.Get("state"))
	}
	if back != nil {
		stated := g.signedOutPath() + "?state=" + back.state
		if back.from.host != o.host {
			clearCache(w) // what was left here before; the state is no stranger's
			return redirect(w, back.from.String()+stated)
		}
		if again || back.path == "" {
			g.setCookie(w, o, carried{name: g.cookies.atEndpoints(o, returnSuffix)}, 0, http.SameSiteLaxMode) // it is used
		}
		if back.path != "" {
			onward = stated + "&" + clearParam
			page.Text = pageOnward.Text
			page.Actions = []pages.Action{{Label: labelGoOn, Address: onward}}
		}
	}
	if !again {
		page.Onward = onward
		return pages.Write(w, r, http.StatusOK, page)
	}
	if known && sameOrigin(r, o) { // other sites can't have that: it costs the cache
		clearCache(w)
	}
	if back != nil && back.path != "" {
		return redirect(w, back.path)
	}
	return pages.Write(w, r, http.StatusOK, page)
}

// clearCache has the browser forget what it keeps of this host, so that the back
// button shows nothing private, but for the page that it is just leaving.
func clearCache(w http.ResponseWriter) { w.Header().Set("Clear-Site-Data", `"cache"`) }

// wayBack is where a sign-out goes on to from the signed-out page.
type wayBack struct {
	from  origin // where somebody signed out
	path  string // there; empty if he stays on the page
	state string // that it belongs to
}

// sealReturn keeps the way back from at, where the provider may send people, in
// a cookie that opens for a state.
func (g *Gate) sealReturn(ring *keyring, at, from origin, path string) (state string, cookie carried, ok bool) {
	secret := randomBytes(secretLength)
	payload := binary.AppendUvarint(nil, uint64(g.app.now.Now().Unix()))
	payload = append(payload, secret...)
	for _, part := range []string{from.scheme, from.host} {
		payload = append(binary.AppendUvarint(payload, uint64(len(part))), part...)
	}
	payload = append(payload, path...)
	value, err := ring.sealing().seal(purposeReturn, g.binding(purposeReturn, g.site(at)), payload, 1)
	if err != nil || len(value) > maxLogin {
		return "", carried{}, false
	}
	return base64.RawURLEncoding.EncodeToString(secret), carried{g.cookies.atEndpoints(at, returnSuffix), value}, true
}

// openReturn returns the way back, if the state that comes is that of the
// cookie. Any other state is passed over: the session is gone whatever it says.
func (g *Gate) openReturn(r *http.Request, o origin, v *visit, state string) *wayBack {
	secret, err := base64.RawURLEncoding.DecodeString(state)
	if err != nil || len(secret) != secretLength {
		return nil
	}
	ring, err := g.keyringFor(r.Context(), v.cookies)
	if err != nil {
		return nil
	}
	name := g.cookies.atEndpoints(o, returnSuffix)
	for _, c := range v.cookies {
		if c.name != name {
			continue
		}
		payload, ok := ring.open(purposeReturn, g.binding(purposeReturn, g.site(o)), c.value, 1)
		if !ok {
			continue
		}
		in := reader{rest: payload}
		started, want := int64(in.number()), in.take(secretLength)
		scheme, host := in.take(in.number()), in.take(in.number())
		age := g.app.now.Now().Unix() - started
		if in.failed || subtle.ConstantTimeCompare(want, secret) != 1 || age < 0 || age >= int64(loginLifetime/time.Second) {
			continue
		}
		// Anybody can sign out under a host that he made up, and have that sealed.
		from, ok := newOrigin(string(scheme), string(host))
		if !ok || from.host != o.host && !g.sharesSession(from) {
			continue
		}
		back := &wayBack{from: from, state: base64.RawURLEncoding.EncodeToString(secret)}
		if len(in.rest) > 0 {
			back.path = g.localPath(string(in.rest))
		}
		return back
	}
	return nil
}

// sealHint keeps the ID token for the sign-out at the provider. It is packed,
// because what is base64 in it would be base64 three times over. One that is too
// large for a cookie is left out: the provider then asks the user.
func (g *Gate) sealHint(ring *keyring, o origin, idToken string) (carried, bool) {
	var packed bytes.Buffer
	w, err := flate.NewWriter(&packed, flate.BestCompression)
	if err != nil {
		return carried{}, false
	}
	_, _ = w.Write(appendToken(nil, idToken)) // into memory, can't fail
	if w.Close() != nil {
		return carried{}, false
	}
	value, err := ring.sealing().seal(purposeHint, g.binding(purposeHint, g.site(o)), packed.Bytes(), 1)
	if err != nil || len(value) > maxLogin {
		g.logger.Debug("the ID token is too large to be kept for sign-out at the provider", zap.Int("bytes", len(value)))
		return carried{}, false
	}
	return carried{g.cookies.atEndpoints(o, hintSuffix), value}, true
}

// openHint is the reverse; without a hint it returns nothing.
func (g *Gate) openHint(ring *keyring, o origin, ours []carried) string {
	name := g.cookies.atEndpoints(o, hintSuffix)
	for _, c := range ours {
		if c.name != name {
			continue
		}
		packed, ok := ring.open(purposeHint, g.binding(purposeHint, g.site(o)), c.value, 1)
		if !ok {
			continue
		}
		// What we sealed is no bomb, but the bound costs nothing.
		raw, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(packed)), idtoken.MaxSize))
		if err != nil {
			continue
		}
		in := reader{rest: raw}
		if token := readToken(&in); !in.failed && len(in.rest) == 0 {
			return token
		}
	}
	return ""
}
