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
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/authentiq/caddy-authentiq/internal/idtoken"
	"github.com/authentiq/caddy-authentiq/internal/pages"
	"github.com/authentiq/caddy-authentiq/internal/revocation"
)

// revoked reports whether s was signed out.
func (g *Gate) revoked(s *session) bool {
	return g.app.state.revocations.Revoked(&revocation.Session{
		Issuer: g.Issuer, Client: g.ClientID,
		ID: s.id, SID: s.claims.String("sid"), Subject: s.subject(), Began: s.began,
	})
}

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
	target := returnTo
	if target == "" {
		target = g.PathPrefix + "/signed-out"
	}
	if address, cookie := g.endSessionAtProvider(r, o, v, returnTo); address != "" {
		target = address
		if cookie.value != "" {
			g.setCookie(w, g.signedOutAt(o), cookie, int(loginLifetime/time.Second), http.SameSiteLaxMode)
		}
	}
	if _, err := g.keyring(r.Context()); err != nil {
		return g.unavailable(w, r, err) // a session that can't be told can't be ended for its copies
	}
	g.endSession(w, r, o, v, "asked for")
	clearCache(w)
	skipAccessLog(r) // the answer's Location has the ID token
	return redirect(w, target)
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
// RP-Initiated Logout 1.0 section 2), and the cookie that remembers where to go
// afterwards. The address is empty if there is nobody to sign out, or the
// provider has no such endpoint or is away: signing out here must not wait.
func (g *Gate) endSessionAtProvider(r *http.Request, o origin, v *visit, returnTo string) (address string, back carried) {
	ring, err := g.keyring(r.Context())
	if err != nil {
		return "", carried{}
	}
	hint := g.openHint(ring, o, v.cookies)
	if s, err := g.session(r, v); hint == "" && (err != nil || s == nil) {
		return "", carried{}
	}
	m, err := g.provider.Metadata(r.Context())
	if err != nil || m.EndSessionEndpoint == "" {
		return "", carried{}
	}
	u, err := url.Parse(m.EndSessionEndpoint)
	if err != nil {
		return "", carried{}
	}
	q := u.Query()
	q.Set("client_id", g.ClientID)
	at := g.signedOutAt(o)
	q.Set("post_logout_redirect_uri", at.String()+g.PathPrefix+"/signed-out")
	// A provider that can't verify its own token any more may show an error and
	// sign nobody out; without a hint it asks.
	if hint != "" && !g.provider.Disowns(hint) {
		q.Set("id_token_hint", hint)
	}
	if returnTo != "" {
		state := randomBytes(secretLength)
		payload := binary.AppendUvarint(nil, uint64(g.app.now.Now().Unix()))
		payload = append(payload, state...)
		from := ""
		if at != o {
			from = o.String()
		}
		payload = append(binary.AppendUvarint(payload, uint64(len(from))), from+returnTo...)
		value, err := ring.sealing().seal(purposeReturn, g.binding(purposeReturn, g.site(at)), payload, 1)
		if err == nil && len(value) <= maxLogin {
			back = carried{g.cookies.atEndpoints(at, returnSuffix), value}
			q.Set("state", base64.RawURLEncoding.EncodeToString(state))
		}
	}
	u.RawQuery = q.Encode()
	return u.String(), back
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
	g.revokeCarried(r, o, v, reason)
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
func (g *Gate) revokeCarried(r *http.Request, o origin, v *visit, reason string) {
	for _, value := range assemble(g.cookies.of(o, g.Session.Domain), v.cookies) {
		s, err := g.openSession(r.Context(), g.site(o), value)
		if err != nil || s == nil {
			continue
		}
		if err := g.app.state.revocations.Revoke(context.WithoutCancel(r.Context()), revocation.Entry{
			Issuer: g.Issuer, Client: g.ClientID, Kind: revocation.ID, Value: s.id, Until: time.Unix(s.expires, 0),
		}); err != nil {
			g.logger.Error(eventSignOut, zap.Error(err))
			continue
		}
		g.logger.Info(eventSignOut, zap.String("sub", s.subject()), zap.String("sid", s.claims.String("sid")), zap.String("reason", reason), clientIP(r), host(r))
	}
}

// serveSignedOut is where a sign-out ends: the provider sends people back to it.
func (g *Gate) serveSignedOut(w http.ResponseWriter, r *http.Request, v *visit) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return methodNotAllowed(w, "GET, HEAD")
	}
	if requestURL(r).RawQuery != "" {
		skipAccessLog(r) // it has the state
	}
	if target := g.returnAfterSignOut(w, r, v); target != "" {
		return redirect(w, target)
	}
	page := pageSignedOut
	page.Actions = []pages.Action{{Label: labelSignInAgain, Address: g.signInPath("/")}}
	// A browser puts the page that somebody signed out on aside, for its back
	// button, only when the next one shows: after all redirects, and what they said
	// of the cache. So this one shows first, and then has it cleared. Who asked to
	// return to a page of the application's is there by now, without that.
	if requestURL(r).RawQuery != clearQuery {
		page.Onward = g.PathPrefix + "/signed-out?" + clearQuery
	} else if o, ok := g.origin(r); ok && sameOrigin(r, o) {
		clearCache(w)
	}
	return pages.Write(w, r, http.StatusOK, page)
}

// clearQuery is the query of the signed-out page when it comes for the second
// time.
const clearQuery = "clear"

// clearCache has the browser forget what it keeps of this host, so that the back
// button shows nothing private, but for the page that it is just leaving.
func clearCache(w http.ResponseWriter) { w.Header().Set("Clear-Site-Data", `"cache"`) }

// returnAfterSignOut returns where whoever signed out wanted to go, if the state
// that comes back is that of the cookie. Any other state is passed over: the
// session is gone whatever it says.
func (g *Gate) returnAfterSignOut(w http.ResponseWriter, r *http.Request, v *visit) string {
	o, ok := g.origin(r)
	if !ok {
		return ""
	}
	query, ok := parseQuery(r)
	if !ok {
		return ""
	}
	state, err := base64.RawURLEncoding.DecodeString(query.Get("state"))
	if err != nil || len(state) != secretLength {
		return ""
	}
	ring, err := g.keyring(r.Context())
	if err != nil {
		return ""
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
		from := in.take(in.number())
		age := g.app.now.Now().Unix() - started
		if in.failed || subtle.ConstantTimeCompare(want, state) != 1 || age < 0 || age >= int64(loginLifetime/time.Second) {
			continue
		}
		g.setCookie(w, o, carried{name: name}, 0, http.SameSiteLaxMode)
		return string(from) + g.localPath(string(in.rest))
	}
	return ""
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
	for i, part := range bytes.Split([]byte(idToken), []byte(".")) {
		raw, err := base64.RawURLEncoding.Strict().DecodeString(string(part))
		if err != nil || i > 2 {
			return carried{}, false
		}
		_, _ = w.Write(binary.AppendUvarint(nil, uint64(len(raw)))) // into memory, can't fail
		_, _ = w.Write(raw)
	}
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
		token := ""
		for len(in.rest) > 0 && !in.failed {
			if token != "" {
				token += "."
			}
			token += base64.RawURLEncoding.EncodeToString(in.take(in.number()))
		}
		if !in.failed {
			return token
		}
	}
	return ""
}
